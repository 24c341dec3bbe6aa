"""DeepDeblur (Nah et al. 2017, arXiv:1612.02177) as its authors published it for PyTorch (MSResNet).

Nineteen 5x5 residual blocks of 64 channels at each of three scales, on the values 0..255 less 127.5. The
coarser pictures are a Gaussian pyramid. It has no global residual.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from deblur_jax.filters import gaussian_blur
from deblur_jax.models import layers, torch_weights
from deblur_jax.models.matching import Fit

_RANGE = 255.0


@dataclasses.dataclass(frozen=True)
class DeepDeblurConfig:
    blocks: int = 19
    features: int = 64
    kernel_size: int = 5
    scales: int = 3

    @property
    def multiple_of(self) -> int:
        return 2 ** (self.scales - 1)

    @classmethod
    def official(cls) -> "DeepDeblurConfig":
        return cls()


class DeepDeblur(nn.Module):
    config: DeepDeblurConfig
    dtype: layers.Dtype = jnp.float32
    remat: bool = False  # less memory in training, more time: see `layers.in_turn`

    def __call__(
        self, blurred: Float[Array, "b h w 3"], *, train: bool = False
    ) -> Float[Array, "b h w 3"] | tuple[Float[Array, "b _h _w 3"], ...]:
        h, w = blurred.shape[1:3]
        padded = layers.pad_to_multiple(blurred, self.config.multiple_of)
        estimates = self.restore_pyramid(gaussian_pyramid(_RANGE * padded, self.config.scales))
        cropped = tuple(layers.crop(e / _RANGE, -(-h // 2**s), -(-w // 2**s)) for s, e in enumerate(estimates))
        return cropped if train else cropped[0]

    @nn.compact
    def restore_pyramid(self, pictures: tuple[Float[Array, "b _h _w 3"], ...]) -> list[Float[Array, "b _h _w 3"]]:
        """Pictures and estimates in 0..255, finest first."""
        c, estimates = self.config, []
        conv = {"size": c.kernel_size, "dtype": self.dtype}
        x = pictures[-1] - _RANGE / 2
        for s in reversed(range(c.scales)):
            x = layers.Conv(c.features, name=f"scale{s}_head", **conv)(x)

            def block(_: nn.Module, b: int, x: Array, s: int = s) -> Array:
                return layers.ResidualBlock(c.features, name=f"scale{s}_block{b}", **conv)(x)

            x = layers.in_turn(self, block, c.blocks, x, remat=self.remat)
            x = layers.Conv(3, name=f"scale{s}_tail", **conv)(x)
            estimates.insert(0, x.astype(jnp.float32) + _RANGE / 2)
            if s > 0:
                up = layers.depth_to_space(layers.Conv(12, name=f"scale{s}_up", **conv)(x), 2)
                x = jnp.concatenate([pictures[s - 1] - _RANGE / 2, up.astype(jnp.float32)], -1)
        return estimates


def gaussian_pyramid(x: Float[Array, "b h w 3"], scales: int) -> tuple[Float[Array, "b _h _w 3"], ...]:
    """As `skimage.transform.pyramid_gaussian`: blur with deviation 2/3, then linear to half size, rounded up."""
    levels = [x]
    for _ in range(scales - 1):
        blurred = gaussian_blur(levels[-1], sigma=2 / 3, border="symmetric")
        b, h, w, c = blurred.shape
        if h % 2 == w % 2 == 0:
            levels.append(layers.area_mean(blurred, 2))
        else:
            half = (b, -(-h // 2), -(-w // 2), c)
            levels.append(jax.image.resize(blurred, half, "linear", antialias=False))
    return tuple(levels)


def torch_names(config: DeepDeblurConfig) -> dict[str, str]:
    """Where each of our convolutions is called what in the official state dict."""
    names = {}
    for s in range(config.scales):
        body = f"body_models.{s}.body"
        names[f"scale{s}_head"] = f"{body}.0"
        for b in range(config.blocks):
            names[f"scale{s}_block{b}/conv1"] = f"{body}.{b + 1}.body.0"
            names[f"scale{s}_block{b}/conv2"] = f"{body}.{b + 1}.body.2"
        names[f"scale{s}_tail"] = f"{body}.{config.blocks + 1}"
        if s > 0:
            names[f"scale{s}_up"] = f"conv_end_models.{s}.uppath.0"
    return names


def config_of(shapes: Mapping[str, tuple[int, ...]]) -> DeepDeblurConfig | None:
    """The configuration, from the shapes in a state dict; None if it is not DeepDeblur's."""
    found = [m for name in shapes if (m := re.fullmatch(r"body_models\.(\d+)\.body\.(\d+)(\.body\.\d+)?\.\w+", name))]
    head = shapes.get("body_models.0.body.0.weight")
    if not found or head is None or len(head) != 4:
        return None
    blocks = max((int(m[2]) for m in found if m[3]), default=0)
    return DeepDeblurConfig(blocks, head[0], head[2], 1 + max(int(m[1]) for m in found))


def fit_torch(config: DeepDeblurConfig, state: Mapping[str, np.ndarray]) -> Fit:
    """The official state dict as parameters of `DeepDeblur(config)`, and what does not fit."""
    return torch_weights.matched(state, **_layout(config))


def params_from_torch(config: DeepDeblurConfig, state: Mapping[str, np.ndarray]) -> dict:
    """The same, where anything that does not fit is an error."""
    return torch_weights.convolutions(state, **_layout(config))


def _layout(config: DeepDeblurConfig) -> dict[str, Any]:
    picture = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    expected = jax.eval_shape(DeepDeblur(config).init, jax.random.key(0), picture)["params"]
    shuffled = {f"scale{s}_up": 2 for s in range(1, config.scales)}
    return {"expected": expected, "names": torch_names(config), "shuffled": shuffled}
