"""Scores of pictures, one number per picture. Each name is one protocol; tables must not mix them.

Pictures are `(b h w c)` in [0, 1]; computed in float32. Scores are taken of the values given: clip and
round first if the score of the 8-bit file is meant.
"""

import functools

import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from deblur_jax.filters import gaussian_taps, grey_8bit, laplacian

__all__ = ["laplacian_score", "mse", "psnr", "ssim", "ssim_gopro_matlab"]

_WINDOW = 11  # SSIM's Gaussian window: 11 pixels wide, deviation 1.5 (Wang et al. 2004)
_TAPS = gaussian_taps(1.5, _WINDOW // 2)
_K1, _K2 = 0.01, 0.03


@jax.jit
def mse(a: Float[Array, "b h w c"], b: Float[Array, "b h w c"]) -> Float[Array, " b"]:
    """Mean squared error."""
    return jnp.mean((a.astype(jnp.float32) - b.astype(jnp.float32)) ** 2, axis=(1, 2, 3))


@jax.jit
def psnr(a: Float[Array, "b h w c"], b: Float[Array, "b h w c"]) -> Float[Array, " b"]:
    """Peak signal-to-noise ratio in dB, of all channels together; infinite for equal pictures."""
    return -10.0 * jnp.log10(mse(a, b))


@jax.jit
def ssim(a: Float[Array, "b h w c"], b: Float[Array, "b h w c"]) -> Float[Array, " b"]:
    """Structural similarity (Wang et al. 2004): window as above, mean over channels and the valid region.

    Equals scikit-image's `structural_similarity(gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=1)`. Pictures must be at least 11x11.
    """
    if min(a.shape[1:3]) < _WINDOW:
        raise ValueError(f"SSIM needs pictures of at least {_WINDOW}x{_WINDOW} pixels, these are {a.shape[1:3]}")
    # Two banded matrices instead of dm_pix's convolution. On two CPU cores, 8 crops of 256x256: 0.15 of its
    # time, 0.11 with the gradient; one 1280x720 frame: 0.5 and 0.44. (A sum of shifted pictures is faster still
    # on the frame, 0.25, but its gradient takes 3 times as long as dm_pix's.)
    # float32 always: gradients in bf16 point elsewhere.
    rows, columns = _band(a.shape[1]), _band(a.shape[2])

    def window_means(z):
        z = jnp.einsum("oh,bhwc->bowc", rows, z, precision="highest")
        return jnp.einsum("ow,bhwc->bhoc", columns, z, precision="highest")

    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    return jnp.asarray(dm_pix.ssim(a, b, k1=_K1, k2=_K2, filter_fn=window_means))


@functools.lru_cache(maxsize=8)
def _band(size: int) -> np.ndarray:
    """The window as a matrix: row i weighs the pixels i..i+10."""
    band = np.zeros((size - _WINDOW + 1, size), np.float32)
    for i in range(len(band)):
        band[i, i : i + _WINDOW] = _TAPS
    return band


@jax.jit
def ssim_gopro_matlab(a: Float[Array, "b h w 3"], b: Float[Array, "b h w 3"]) -> Float[Array, " b"]:
    """SSIM as tables on GoPro report it: MATLAB's `ssim` called on an RGB array, which takes it for a volume.

    The window is 11x11x11, over the three channels too; borders are repeated; the mean is over everything.
    """
    x, y = a.astype(jnp.float32), b.astype(jnp.float32)

    def window_means(z):
        for axis in (1, 2, 3):
            # As a matrix too: the repeated border is folded into its first and last column.
            z = jnp.moveaxis(jnp.tensordot(_band_repeated(z.shape[axis]), z, (1, axis), precision="highest"), 0, axis)
        return z

    mean_x, mean_y = window_means(x), window_means(y)
    var_x = window_means(x * x) - mean_x**2
    var_y = window_means(y * y) - mean_y**2
    covariance = window_means(x * y) - mean_x * mean_y
    c1, c2 = _K1**2, _K2**2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    )
    return similarity.mean((1, 2, 3))


@functools.lru_cache(maxsize=8)
def _band_repeated(size: int) -> np.ndarray:
    band = np.zeros((size, size), np.float64)
    for i in range(size):
        for tap, offset in zip(_TAPS, range(-(_WINDOW // 2), _WINDOW // 2 + 1), strict=True):
            band[i, min(max(i + offset, 0), size - 1)] += tap
    return band.astype(np.float32)


@jax.jit
def laplacian_score(x: Float[Array, "b h w c"]) -> Float[Array, " b"]:
    """Sharpness: the variance of the Laplacian of the 8-bit grey picture (`cv2.Laplacian(...).var()`)."""
    # Divided by its greatest value, which makes the squares well-behaved in float32.
    response = laplacian(grey_8bit(x).astype(jnp.float32)[..., None])[..., 0] / 1020.0
    return jnp.var(response, axis=(1, 2)) * 1020.0**2
