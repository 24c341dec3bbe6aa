"""The coarse-to-fine multi-scale residual CNN, after DeepDeblur (Nah et al. 2017, arXiv:1612.02177).

The picture is restored at quarter, half and full size; each estimate goes up to the next finer scale,
which sees it beside its own blurred picture. Ours differs from the paper in what makes it light: 3x3
kernels, and widths that grow towards the coarse scales, where a pixel costs a quarter or a sixteenth.
For the same parameters and blocks that is 2.3 to 3.1 times fewer operations than uniform widths.
"""

import dataclasses
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from deblur_jax.errors import UserError
from deblur_jax.filters import grey, sobel_magnitude
from deblur_jax.models import layers


@dataclasses.dataclass(frozen=True)
class MultiScaleConfig:
    """Widths and blocks are listed full, half, quarter size."""

    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    scales: int = 3  # uses the first so many of the lists
    kernel_size: int = 3
    passes: Literal["picture", "features"] = "picture"  # what a scale hands to the next finer one
    sobel_input: bool = False  # the Sobel magnitude of the blurred picture as a fourth channel
    global_residual: bool = True  # the network predicts what to add to the blurred picture

    def __post_init__(self):
        if not 1 <= self.scales <= min(len(self.widths), len(self.blocks)):
            raise UserError(f"{self.scales} scales need as many widths and blocks: {self.widths}, {self.blocks}")
        if min(self.widths) < 1 or min(self.blocks) < 0:
            raise UserError(f"widths must be positive and blocks not negative: {self.widths}, {self.blocks}")
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise UserError(f"kernel_size must be odd and positive, not {self.kernel_size}")
        if self.passes not in ("picture", "features"):
            raise UserError(f"passes must be 'picture' or 'features', not {self.passes!r}")

    @property
    def multiple_of(self) -> int:
        return 2 ** (self.scales - 1)

    # Parameters are counted in facts.json. The uniform ones are ablations.

    @classmethod
    def small(cls) -> "MultiScaleConfig":
        return cls(widths=(24, 64, 104), blocks=(6, 6, 6))

    @classmethod
    def medium(cls) -> "MultiScaleConfig":
        return cls(widths=(48, 96, 144), blocks=(4, 6, 10))

    @classmethod
    def large(cls) -> "MultiScaleConfig":
        return cls(widths=(48, 96, 192), blocks=(16, 16, 16))

    @classmethod
    def small_uniform(cls) -> "MultiScaleConfig":
        return cls(widths=(72, 72, 72), blocks=(6, 6, 6))

    @classmethod
    def medium_uniform(cls) -> "MultiScaleConfig":
        return cls(widths=(112, 112, 112), blocks=(4, 8, 10))

    @classmethod
    def large_uniform(cls) -> "MultiScaleConfig":
        return cls(widths=(128, 128, 128), blocks=(16, 16, 16))


class MultiScale(nn.Module):
    """Without normalisation: what keeps it alive is the centred input, residual branches and a last layer
    that start small, and no ReLU before that last layer."""

    config: MultiScaleConfig
    dtype: layers.Dtype = jnp.float32  # of the computation; parameters and output are float32
    remat: bool = False  # less memory in training, more time: see `layers.in_turn`

    @nn.compact
    def __call__(
        self, blurred: Float[Array, "b h w 3"], *, train: bool = False
    ) -> Float[Array, "b h w 3"] | tuple[Float[Array, "b _h _w 3"], ...]:
        c, (h, w) = self.config, blurred.shape[1:3]
        padded = layers.pad_to_multiple(blurred, c.multiple_of)
        pictures = layers.pyramid(padded, c.scales)
        estimates, passed = [], None
        for s in reversed(range(c.scales)):
            estimate, features = self._scale(s, pictures[s], passed)
            estimates.insert(0, layers.crop(estimate, -(-h // 2**s), -(-w // 2**s)))
            if s > 0:
                passed = self._up(s, estimate, features)
        return tuple(estimates) if train else estimates[0]

    def _scale(
        self, s: int, picture: Float[Array, "b h w 3"], passed: Float[Array, "b h w d"] | None
    ) -> tuple[Float[Array, "b h w 3"], Float[Array, "b h w c"]]:
        c, name = self.config, f"scale{s}"
        inputs = [picture - 0.5]
        if c.sobel_input:
            inputs.append(sobel_magnitude(grey(picture)))
        if passed is not None:
            inputs.append(passed.astype(picture.dtype))
        conv = {"size": c.kernel_size, "dtype": self.dtype}
        features = layers.Conv(c.widths[s], name=f"{name}_head", **conv)(jnp.concatenate(inputs, -1))

        def block(_: nn.Module, b: int, x: Array) -> Array:
            return layers.ResidualBlock(c.widths[s], name=f"{name}_block{b}", **conv)(x)

        features = layers.in_turn(self, block, c.blocks[s], features, remat=self.remat)
        tail = layers.Conv(3, name=f"{name}_tail", gain=1e-4, **conv)(features).astype(jnp.float32)
        return tail + (picture if c.global_residual else 0.5), features

    def _up(
        self, s: int, estimate: Float[Array, "b h w 3"], features: Float[Array, "b h w c"]
    ) -> Float[Array, "b H W d"]:
        """A convolution and pixel shuffle to the next finer size: the estimate as a picture, or the features
        at the finer scale's width."""
        if self.config.passes == "picture":
            x = layers.Conv(12, size=5, dtype=self.dtype, name=f"scale{s}_up")(estimate - 0.5)
        else:
            x = layers.Conv(4 * self.config.widths[s - 1], size=1, dtype=self.dtype, name=f"scale{s}_up")(features)
        return layers.depth_to_space(x, 2)
