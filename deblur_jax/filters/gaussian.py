"""Gaussian blur, separable."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def gaussian_taps(sigma: float, radius: int) -> np.ndarray:
    """The sampled Gaussian at -radius..radius, summing to one, in float64."""
    offsets = np.arange(-radius, radius + 1)
    taps = np.exp(-0.5 * (offsets / sigma) ** 2)
    return taps / taps.sum()


@functools.partial(jax.jit, static_argnames=("sigma", "truncate", "border"))
def gaussian_blur(
    x: Float[Array, "*b h w c"], *, sigma: float, truncate: float = 4.0, border: str = "reflect"
) -> Float[Array, "*b h w c"]:
    """Blurs with a Gaussian cut off at `truncate` deviations (rounded, as SciPy does).

    `border` is a mode of `jnp.pad`. (SciPy's "reflect" is called "symmetric" there.)
    """
    if not 0 <= sigma < math.inf:
        raise ValueError(f"sigma must be a number from 0, not {sigma}")
    if sigma == 0:
        return x
    radius = int(truncate * sigma + 0.5)
    taps = gaussian_taps(sigma, radius)
    for axis in (x.ndim - 3, x.ndim - 2):
        pad = [(radius, radius) if a == axis else (0, 0) for a in range(x.ndim)]
        padded, size = jnp.pad(x, pad, mode=border), x.shape[axis]
        x = jnp.zeros_like(x)
        for i, tap in enumerate(taps):
            x += float(tap) * jax.lax.slice_in_dim(padded, i, i + size, axis=axis)
    return x
