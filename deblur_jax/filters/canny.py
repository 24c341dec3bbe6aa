"""Canny's edge detector (Canny 1986), bit for bit as OpenCV computes it of a grey picture."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32

from deblur_jax.filters.grey import grey_8bit

_TAN_22 = 13573  # tan(22.5 degrees) in 15-bit fixed point; tan(67.5 degrees) is this plus 2


@functools.partial(jax.jit, static_argnames=("low", "high", "l2"))
def canny(
    x: Float[Array, "*b h w c"], *, low: float = 100.0, high: float = 200.0, l2: bool = False
) -> Bool[Array, "*b h w"]:
    """Edges of the 8-bit grey picture: thin ridges of the gradient above `low` that hang on one above `high`.

    Thresholds are on the 8-bit scale: of |dx| + |dy|, or with `l2` of the gradient's length.
    """
    dx, dy = _sobel_replicated(grey_8bit(x))
    low, high = min(low, 32767.0), min(high, 32767.0)  # no gradient is longer
    if l2:
        magnitude = dx**2 + dy**2
        low, high = low**2, high**2
    else:
        magnitude = jnp.abs(dx) + jnp.abs(dy)
    # The magnitudes are whole numbers, so the floor of a threshold decides the same.
    ridge = _is_ridge(magnitude, dx, dy) & (magnitude > int(low))
    return _connected(ridge & (magnitude > int(high)), ridge)


def _neighbour(x: Array, down: int, right: int) -> Array:
    """The value `down` rows below and `right` columns to the right; zero outside."""
    h, w = x.shape[-2:]
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(1, 1), (1, 1)])
    return padded[..., 1 + down : 1 + down + h, 1 + right : 1 + right + w]


def _sobel_replicated(grey: Int32[Array, "*b h w"]) -> tuple[Int32[Array, "*b h w"], Int32[Array, "*b h w"]]:
    # OpenCV's Canny repeats the border pixel, unlike its Sobel.
    p = jnp.pad(grey, [(0, 0)] * (grey.ndim - 2) + [(1, 1), (1, 1)], mode="edge")
    vertical = p[..., :-2, :] + 2 * p[..., 1:-1, :] + p[..., 2:, :]
    horizontal = p[..., :, :-2] + 2 * p[..., :, 1:-1] + p[..., :, 2:]
    return vertical[..., 2:] - vertical[..., :-2], horizontal[..., 2:, :] - horizontal[..., :-2, :]


def _is_ridge(
    m: Int32[Array, "*b h w"], dx: Int32[Array, "*b h w"], dy: Int32[Array, "*b h w"]
) -> Bool[Array, "*b h w"]:
    """Non-maximum suppression across the edge, in the gradient's direction rounded to 45 degrees."""
    steepness, flat = jnp.abs(dy) << 15, jnp.abs(dx) * _TAN_22
    steep = flat + (jnp.abs(dx) << 16)
    across = (m > _neighbour(m, 0, -1)) & (m >= _neighbour(m, 0, 1))
    along = (m > _neighbour(m, -1, 0)) & (m >= _neighbour(m, 1, 0))
    falling = (m > _neighbour(m, -1, -1)) & (m > _neighbour(m, 1, 1))
    rising = (m > _neighbour(m, -1, 1)) & (m > _neighbour(m, 1, -1))
    diagonal = jnp.where((dx ^ dy) < 0, rising, falling)
    return jnp.where(steepness < flat, across, jnp.where(steepness > steep, along, diagonal))


def _connected(strong: Bool[Array, "*b h w"], ridge: Bool[Array, "*b h w"]) -> Bool[Array, "*b h w"]:
    """Grows the strong pixels along the ridge, to all eight neighbours, until nothing changes."""

    def grow(state):
        edges, _ = state
        rows = edges | _neighbour(edges, -1, 0) | _neighbour(edges, 1, 0)
        grown = ridge & (rows | _neighbour(rows, 0, -1) | _neighbour(rows, 0, 1))
        return grown, jnp.any(grown != edges)

    return jax.lax.while_loop(lambda state: state[1], grow, (strong, jnp.any(strong)))[0]
