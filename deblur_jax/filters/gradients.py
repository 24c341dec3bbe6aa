"""Sobel and Laplacian: first and second derivatives on a 3x3 neighbourhood."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from deblur_jax.filters.grey import grey_8bit


def _reflected(x: Array, axis: int) -> tuple[Array, Array]:
    """The neighbours before and after along `axis`; the border is reflected."""
    size = x.shape[axis]
    pad = [(1, 1) if a == axis else (0, 0) for a in range(x.ndim)]
    # A reflection of a single line is that line: jnp.pad repeats it, as OpenCV does.
    padded = jnp.moveaxis(jnp.pad(x, pad, mode="reflect"), axis, 0)
    return jnp.moveaxis(padded[:size], 0, axis), jnp.moveaxis(padded[2:], 0, axis)


def _difference(x: Array, axis: int) -> Array:
    before, after = _reflected(x, axis)
    return after - before


def _smoothed(x: Array, axis: int) -> Array:
    before, after = _reflected(x, axis)
    return before + 2 * x + after


@jax.jit
def sobel(x: Float[Array, "*b h w c"]) -> tuple[Float[Array, "*b h w c"], Float[Array, "*b h w c"]]:
    """Horizontal and vertical derivative, each channel on its own (`cv2.Sobel`, kernel size 3)."""
    rows, columns = x.ndim - 3, x.ndim - 2
    return _difference(_smoothed(x, rows), columns), _difference(_smoothed(x, columns), rows)


@jax.jit
def sobel_magnitude(x: Float[Array, "*b h w c"]) -> Float[Array, "*b h w c"]:
    """Length of the Sobel gradient; its own gradient is zero, not NaN, where the picture is flat."""
    dx, dy = sobel(x)
    squared = dx**2 + dy**2
    flat = squared == 0
    return jnp.where(flat, 0.0, jnp.sqrt(jnp.where(flat, 1.0, squared)))


@jax.jit
def sobel_edges(x: Float[Array, "*b h w c"]) -> UInt8[Array, "*b h w"]:
    """Sobel magnitude of the 8-bit grey picture, stretched from its own least to greatest value to 0..255.

    As `cv2.normalize(magnitude, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)`; a flat picture is all 0.
    """
    magnitude = sobel_magnitude(grey_8bit(x).astype(jnp.float32)[..., None])[..., 0]
    least = magnitude.min((-2, -1), keepdims=True)
    span = magnitude.max((-2, -1), keepdims=True) - least
    return jnp.rint((magnitude - least) * (255.0 / jnp.where(span > 0, span, 1.0))).astype(jnp.uint8)


@jax.jit
def laplacian(x: Float[Array, "*b h w c"]) -> Float[Array, "*b h w c"]:
    """Sum of the four neighbours minus four times the pixel (`cv2.Laplacian`, kernel size 1)."""
    up, down = _reflected(x, x.ndim - 3)
    left, right = _reflected(x, x.ndim - 2)
    return up + down + left + right - 4 * x
