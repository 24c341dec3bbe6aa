"""The physics of blur: pure, jitted functions; random ones take `key` first.

Kernels are `(size, size)` with an odd size, sum to one, and have their centre of mass in the middle, to a
small fraction of a pixel. Sizes are static; everything else may be traced, so `jax.vmap` makes batches.
"""

from deblur_jax.blur.camera import Camera, capture, highlights, jpeg, linear_to_srgb, noisy, srgb_to_linear
from deblur_jax.blur.clips import average_frames, optical_flow
from deblur_jax.blur.convolve import convolve, convolve_fft
from deblur_jax.blur.kernels import (
    aperture_kernel,
    defocus_kernel,
    gaussian_kernel,
    line_kernel,
    random_trajectory,
    trajectory_kernel,
)
from deblur_jax.blur.trajectories import draw_recorded, random_rotations, random_walk, steady_rotations
from deblur_jax.blur.turbulence import phase_screen, turbulence_kernel, turbulence_warp
from deblur_jax.blur.views import camera_shake, composite, layered_motion, moved_points, random_mask

__all__ = [
    "Camera",
    "aperture_kernel",
    "average_frames",
    "camera_shake",
    "capture",
    "composite",
    "convolve",
    "convolve_fft",
    "defocus_kernel",
    "draw_recorded",
    "gaussian_kernel",
    "highlights",
    "jpeg",
    "layered_motion",
    "line_kernel",
    "linear_to_srgb",
    "moved_points",
    "noisy",
    "optical_flow",
    "phase_screen",
    "random_mask",
    "random_rotations",
    "random_trajectory",
    "random_walk",
    "srgb_to_linear",
    "steady_rotations",
    "trajectory_kernel",
    "turbulence_kernel",
    "turbulence_warp",
]
