"""Nano: deblurring on a CPU, a phone, in a browser. Ours.

The picture is taken apart into 4x4 blocks (48 channels at quarter size), goes through a shallow U of
plain 3x3 convolutions, and what comes out is added to it. Only convolutions, ReLUs, additions and pixel
shuffles; every convolution but the first and the last reads rectified values, which suits unsigned INT8.

Where the arithmetic goes, in MACs per pixel of the full picture: a 3x3 convolution of width w costs 9 w^2 / 16 at
quarter size, a quarter of that at an eighth, and so on. Three of 48 make 3888, three of 64 at an eighth 1728, four of
96 at a sixteenth 1296; into and out of 48 channels 2592; down 648, up 288. At quarter size the network is as wide as
the blocks have values: with 32 it learned more slowly (configs/ablations/photos_nano.py).
"""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from deblur_jax.errors import UserError
from deblur_jax.models import layers


@dataclasses.dataclass(frozen=True)
class NanoConfig:
    """Levels from fine to coarse: quarter size, an eighth, ..."""

    widths: tuple[int, ...] = (48, 64, 96)
    down_blocks: tuple[int, ...] = (1, 1)
    middle_blocks: int = 4
    up_blocks: tuple[int, ...] = (2, 2)
    unshuffle: int = 4
    branches: bool = True  # learn each 3x3 as a sum of branches; False is the network as merged and shipped

    def __post_init__(self):
        if min((*self.widths, self.unshuffle)) < 1 or min((self.middle_blocks, *self.down_blocks, *self.up_blocks)) < 0:
            raise UserError(f"widths and unshuffle must be positive and blocks not negative: {self}")
        if not len(self.widths) - 1 == len(self.down_blocks) == len(self.up_blocks):
            raise UserError(f"{len(self.widths)} levels need {len(self.widths) - 1} down_blocks and up_blocks")

    @property
    def multiple_of(self) -> int:
        return self.unshuffle * 2 ** (len(self.widths) - 1)

    @classmethod
    def nano(cls) -> "NanoConfig":
        return cls()

    def merged(self) -> "NanoConfig":
        return dataclasses.replace(self, branches=False)


class Nano(nn.Module):
    config: NanoConfig
    dtype: layers.Dtype = jnp.float32  # of the computation; parameters and output are float32
    remat: bool = False  # less memory in training, more time: see `layers.in_turn`

    @nn.compact
    def __call__(
        self, blurred: Float[Array, "b h w 3"], *, train: bool = False
    ) -> Float[Array, "b h w 3"] | tuple[Float[Array, "b h w 3"]]:
        c, (h, w) = self.config, blurred.shape[1:3]
        padded = layers.pad_to_multiple(blurred, c.multiple_of)
        x = self._conv(c.widths[0], "head", layers.space_to_depth(padded - 0.5, c.unshuffle))
        skips = []
        for level, blocks in enumerate(c.down_blocks):
            x = self._stack(f"down{level}", blocks, x)
            skips.append(nn.relu(x))
            x = layers.Conv(c.widths[level + 1], stride=2, dtype=self.dtype, name=f"down{level}_out")(skips[level])
        x = self._stack("middle", c.middle_blocks, x)
        for level, blocks in reversed(list(enumerate(c.up_blocks))):
            x = layers.Conv(4 * c.widths[level], size=1, gain=0.5, dtype=self.dtype, name=f"up{level}_in")(nn.relu(x))
            x = self._stack(f"up{level}", blocks, layers.depth_to_space(x, 2) + skips[level])
        # The sum over the branches is linear: no ReLU before the last layer, which starts small.
        x = layers.Conv(3 * c.unshuffle**2, gain=1e-4, dtype=self.dtype, name="tail")(x)
        restored = padded + layers.depth_to_space(x.astype(jnp.float32), c.unshuffle)
        restored = layers.crop(restored, h, w)
        return (restored,) if train else restored

    def _stack(self, name: str, blocks: int, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Each block is a convolution of rectified features; the rectified ones travel on its identity branch."""

        def block(_: nn.Module, b: int, x: Array) -> Array:
            return self._conv(x.shape[-1], f"{name}_block{b}", nn.relu(x))

        return layers.in_turn(self, block, blocks, x, remat=self.remat)

    def _conv(self, features: int, name: str, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        if self.config.branches:
            return layers.RepConv(features, dtype=self.dtype, name=name)(x)
        # It begins as the branches would, merged: from plain ones the deep levels learn less, and later.
        same = x.shape[-1] == features
        return layers.Conv(features, gain=0.03 if same else 1.0, identity=same, dtype=self.dtype, name=name)(x)


def merge(params: dict) -> dict:
    """Parameters of the network with branches -> parameters of the equal one without (`config.merged()`)."""
    return {name: layers.RepConv.merged(layer) if "squeeze" in layer else dict(layer) for name, layer in params.items()}
