"""The physics of blur: pure, jitted functions; random ones take `key` first.

Kernels are `(size, size)` with an odd size, sum to one, and have their centre of mass in the middle, to a
small fraction of a pixel. Sizes are static; everything else may be traced, so `jax.vmap` makes batches.
"""

from deblur_jax.blur.camera import (
    CameraConfig,
    capture,
    jpeg,
    linear_to_srgb,
    noisy,
    srgb_to_linear,
)
from deblur_jax.blur.convolve import convolve, convolve_fft
from deblur_jax.blur.kernels import (
    aperture_kernel,
    defocus_kernel,
    gaussian_kernel,
    line_kernel,
    random_trajectory,
    trajectory_kernel,
)

__all__ = [
    "CameraConfig",
    "aperture_kernel",
    "capture",
    "convolve",
    "convolve_fft",
    "defocus_kernel",
    "gaussian_kernel",
    "jpeg",
    "line_kernel",
    "linear_to_srgb",
    "noisy",
    "random_trajectory",
    "srgb_to_linear",
    "trajectory_kernel",
]
