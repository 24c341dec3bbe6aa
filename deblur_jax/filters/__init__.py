"""Picture filters: pure, jitted, on batches of pictures `(... h w c)` in [0, 1].

Border rule, unless a function says otherwise: reflection without repeating the edge pixel, as OpenCV.
"""

from deblur_jax.filters.canny import canny
from deblur_jax.filters.dark import brightened, darkened, darkness
from deblur_jax.filters.gaussian import gaussian_blur, gaussian_taps
from deblur_jax.filters.gradients import laplacian, sobel, sobel_edges, sobel_magnitude
from deblur_jax.filters.grey import grey, grey_8bit, to_8bit

__all__ = [
    "brightened",
    "canny",
    "darkened",
    "darkness",
    "gaussian_blur",
    "gaussian_taps",
    "grey",
    "grey_8bit",
    "laplacian",
    "sobel",
    "sobel_edges",
    "sobel_magnitude",
    "to_8bit",
]
