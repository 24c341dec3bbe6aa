"""Grey scale and 8 bits, to the bit as OpenCV has them."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, UInt8

# Rec. 601 luma, and the same in 15-bit fixed point as cv2.cvtColor uses for 8-bit pictures.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_LUMA_15BIT = (9798, 19235, 3735)


@jax.jit
def to_8bit(x: Float[Array, "..."]) -> UInt8[Array, "..."]:
    """[0, 1] to 0..255, rounded and clipped."""
    return jnp.rint(jnp.clip(x, 0.0, 1.0) * 255.0).astype(jnp.uint8)


@jax.jit
def grey(x: Float[Array, "*b h w 3"]) -> Float[Array, "*b h w 1"]:
    """Luma of an RGB picture, as a picture with one channel."""
    r, g, b = (x[..., i : i + 1] for i in range(3))
    return LUMA[0] * r + LUMA[1] * g + LUMA[2] * b


@jax.jit
def grey_8bit(x: Float[Array, "*b h w c"]) -> Int32[Array, "*b h w"]:
    """The 8-bit grey values 0..255 of an RGB or grey picture, as OpenCV computes them from 8-bit RGB."""
    values = to_8bit(x).astype(jnp.int32)
    if x.shape[-1] == 1:
        return values[..., 0]
    r, g, b = (values[..., i] * _LUMA_15BIT[i] for i in range(3))
    return (r + g + b + (1 << 14)) >> 15
