"""Dark pictures brightened for a network, and darkened again behind it.

Of pictures that are stored linearly most values lie where networks have seen few. The curve
y^2 = d x + (1 - d) x^2 lies between y = x (d = 0) and the square root (d = 1); black and white stay where they are.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

MEDIAN = 0.15  # pictures whose median value is below are dark; at more, dark ones that are sRGB come back worse


@jax.jit
def darkness(median: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """The d of pictures with this median value that brings it to `MEDIAN`, as far as the square root does."""
    m = jnp.clip(median, 1e-3, MEDIAN)
    return jnp.minimum((MEDIAN**2 - m**2) / (m - m**2), 1.0)


@jax.jit
def brightened(x: Float[Array, "b h w c"], dark: Float[Array, " b"]) -> Float[Array, "b h w c"]:
    """Pictures in [0, 1]; where `dark` is 0 they stay as they are."""
    d = dark[:, None, None, None]
    return jnp.where(d > 0, jnp.sqrt(x * (d + (1 - d) * x)), x)


@jax.jit
def darkened(y: Float[Array, "b h w c"], dark: Float[Array, " b"]) -> Float[Array, "b h w c"]:
    """The inverse of `brightened`, odd below 0, with finite gradients everywhere."""
    d = dark[:, None, None, None]
    some = jnp.where(d > 0, d, 1.0)
    return jnp.where(d > 0, 2 * y * jnp.abs(y) / (some + jnp.sqrt(some**2 + 4 * (1 - some) * y**2)), y)
