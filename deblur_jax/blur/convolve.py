"""`f * h` of the forward model `g = f * h + n`: every picture with its own kernel, borders reflected."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def _extended(x: Float[Array, "b h w c"], size: int) -> Float[Array, "b H W c"]:
    r = size // 2
    return jnp.pad(x, ((0, 0), (r, r), (r, r), (0, 0)), mode="reflect")


@jax.jit
def convolve(x: Float[Array, "b h w c"], kernels: Float[Array, "b k k"]) -> Float[Array, "b h w c"]:
    """Directly: O(k^2) operations a pixel. The faster one for kernels of a few pixels."""
    b, size = kernels.shape[:2]
    # One picture of b * c channels, each convolved on its own. XLA correlates, so the kernel is turned round.
    channels = jnp.moveaxis(_extended(x, size), 0, 2)
    flat = channels.reshape(1, *channels.shape[:2], -1)
    turned = jnp.repeat(jnp.moveaxis(kernels[:, ::-1, ::-1], 0, -1), x.shape[-1], axis=-1)[:, :, None]
    blurred = jax.lax.conv_general_dilated(
        flat,
        turned,
        (1, 1),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=flat.shape[-1],
        precision="highest",
    )
    return jnp.moveaxis(blurred.reshape(*x.shape[1:3], b, x.shape[-1]), 2, 0)


@jax.jit
def convolve_fft(x: Float[Array, "b h w c"], kernels: Float[Array, "b k k"]) -> Float[Array, "b h w c"]:
    """By the Fourier transform: O(log n) operations a pixel whatever the kernel's size; the same to 1e-5."""
    size = kernels.shape[1]
    extended = _extended(x, size)
    area = [_smooth(side) for side in extended.shape[1:3]]
    product = jnp.fft.rfft2(extended, s=area, axes=(1, 2)) * jnp.fft.rfft2(kernels, s=area, axes=(1, 2))[..., None]
    blurred = jnp.fft.irfft2(product, s=area, axes=(1, 2))
    # The full convolution starts size - 1 before the first pixel whose kernel lies wholly inside.
    return blurred[:, size - 1 : size - 1 + x.shape[1], size - 1 : size - 1 + x.shape[2]]


def _smooth(side: int) -> int:
    """The next side whose prime factors are at most 5, which transforms fast."""
    while True:
        rest = side
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return side
        side += 1
