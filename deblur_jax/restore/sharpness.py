"""How sharp a picture is, without another one to compare with.

Blurring a picture once more takes much from what is sharp and little from what is blurred already. Photographs hold
about as much contrast at every size of detail; then, if they were blurred by a Gaussian of s pixels (its standard
deviation), the energies of the gradient after a further blur by a and by b pixels are as

    E(a) / E(b) = (b^2 + s^2) / (a^2 + s^2)

which gives s, the blur's width. A ratio does not depend on contrast, and what noise adds to both energies is
estimated and taken off. It is done in blocks and for all directions, because motion leaves sharp what runs along it: a
block is as blurred as its most blurred direction, and one with detail in a single direction says nothing. The picture
is judged by its sharpest blocks, so that sky, or a background out of focus on purpose, does not count.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float

from deblur_jax.blur.camera import linear_to_srgb
from deblur_jax.restore.images import as_rgb

__all__ = ["SHARP", "SURELY_SHARP", "TOO_BLURRED", "Sharpness", "sharpness"]

# The measure was chosen on 100 photographs; the figures are of 61 others, seen with these two numbers in mind. At 640,
# 512 and 320 pixels, as JPEG: sharp ones as they are, noisy, of low contrast, before a blurred background; and the same
# shaken by 9 to 21 pixels, out of focus by 2.5 to 6, blurred by a Gaussian of 1.2 to 3. Of the sharp ones 9 % lie
# below, of the blurred ones 8 % above, all of them shaken.
SHARP = 0.82  # a blur of 0.7 pixels
# Above, a picture need not be restored at all. To restore a sharp one costs some seconds, to leave a blurred one costs
# the picture: of the blurred ones 3 % lie above (2 to 7 % of those shaken, by size and noise), of the sharp ones 20 %
# below (noisy ones of 320 pixels a third, plain ones of 640 8 %).
SURELY_SHARP = 0.86
# 3.9 pixels: 99 % of the widest blurs above are narrower. Help fades there and ends nowhere at once: of 40 photographs
# under 13 Gaussians and discs each, those that score 0.35 to 0.4 got 0.64 dB better with the first Nano (median),
# those of 0.2 to 0.25 got 0.36 dB.
TOO_BLURRED = 0.25

_FINE, _COARSE = 0.4, 1.3  # the further blurs a and b
_BLOCK = 32
_LONGEST = 2048  # larger pictures are looked at reduced to this: what matters is how they look, not single pixels
_NOISE_AT = 1.2  # the width of detail by which noise is measured: JPEG takes away what is finer
_SHARPEST = 0.02  # share of all blocks by which the picture is judged, but at least so many:
_FEWEST = 4
_FAIR = 0.03  # a block counts that has detail in all directions: this share of the strongest in the weakest
_CLEAR = 30.0  # and whose energies are so many deviations of the noise's own
_LEAST_ENERGY = 2e-6  # and so much: a gradient of a third of an 8-bit step


@dataclass(frozen=True)
class Sharpness:
    score: float  # 1 / sqrt(1 + width^2): near 1 sharp, 0.7 a blur of one pixel, 0 nothing to be seen at all
    map: Float[np.ndarray, "rows columns"]  # the score of each block of the picture; NaN where there is no detail
    width: float  # the blur's, as a Gaussian's deviation in the picture's own pixels


def sharpness(pixels: np.ndarray, *, linear: bool = False) -> Sharpness:
    """Of a picture `(h w 1)` or `(h w 3)` of any depth; floating ones are in [0, 1], `linear` ones light itself."""
    h, w = pixels.shape[:2]
    reduced = max(1.0, max(h, w) / _LONGEST)
    if reduced > 1:  # before it is made floating, which takes four times the memory
        pixels = cv2.resize(
            pixels, (max(1, round(w / reduced)), max(1, round(h / reduced))), interpolation=cv2.INTER_AREA
        )
        pixels = pixels.reshape(*pixels.shape[:2], -1)  # OpenCV drops the axis of a single channel
    rgb = as_rgb(pixels)
    grey = cv2.cvtColor(np.asarray(linear_to_srgb(rgb)) if linear else rgb, cv2.COLOR_RGB2GRAY)
    widths = _widths(grey)
    known = np.sort(widths[~np.isnan(widths)])
    if not known.size:
        return Sharpness(0.0, np.full(widths.shape, np.nan, np.float32), math.inf)
    width = float(known[min(known.size, max(_FEWEST, round(_SHARPEST * widths.size))) - 1])
    return Sharpness(1 / math.hypot(1, width), (1 / np.hypot(1, widths)).astype(np.float32), width * reduced)


def _widths(grey: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "rows columns"]:
    """The blur's width in each block, NaN where nothing can be said."""
    block = min(_BLOCK, *grey.shape)
    noise = _noise(grey)
    (axx, ayy, axy), _ = _energies(grey, _FINE, block, noise)
    (bxx, byy, bxy), clear = _energies(grey, _COARSE, block, noise)
    # Of all directions u the one with the least u'Au / u'Bu: the smallest root of det(A - ratio B) = 0.
    determinant = bxx * byy - bxy * bxy
    weakest = (bxx + byy) / 2 - np.hypot((bxx - byy) / 2, bxy)
    counts = (weakest > clear) & (weakest > _FAIR * (bxx + byy - weakest))
    determinant = np.where(counts, determinant, 1)
    half = (axx * byy + ayy * bxx - 2 * axy * bxy) / determinant / 2
    ratio = half - np.sqrt(np.maximum(half * half - (axx * ayy - axy * axy) / determinant, 0))
    ratio = np.maximum(ratio, 1.0001)
    squared = (_COARSE**2 - ratio * _FINE**2) / (ratio - 1)
    return np.where(counts, np.sqrt(np.maximum(squared, 0)), np.nan).astype(np.float32)


def _energies(grey: Float[np.ndarray, "h w"], sigma: float, block: int, noise: float) -> tuple[list[np.ndarray], float]:
    """Of each block the mean products of the derivatives, without the noise's share, and what is clear of noise."""
    right, down = _gradient(grey, sigma)
    rows, columns = grey.shape[0] // block, grey.shape[1] // block

    def mean(values: np.ndarray) -> np.ndarray:
        values = values[: rows * block, : columns * block]
        return cv2.resize(values, (columns, rows), interpolation=cv2.INTER_AREA).reshape(rows, columns).astype(float)

    floor = noise * _of_noise(_gradient, sigma) / 2  # in each of the two directions
    # The mean over a block varies the less, the more independent values are in it.
    deviation = floor * math.sqrt(8 * math.pi) * sigma / block
    return [mean(right * right) - floor, mean(down * down) - floor, mean(right * down)], max(
        _CLEAR * deviation, _LEAST_ENERGY
    )


def _gradient(grey: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    smooth = cv2.GaussianBlur(grey, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    right, down = (
        cv2.Sobel(smooth, cv2.CV_32F, *axes, ksize=1, scale=0.5, borderType=cv2.BORDER_REFLECT)
        for axes in ((1, 0), (0, 1))
    )
    return right, down


@functools.cache
def _of_noise(linear: Callable[..., np.ndarray], *settings: float) -> float:
    """The energy that a filter leaves of white noise of variance 1."""
    impulse = np.zeros((65, 65), np.float32)
    impulse[32, 32] = 1
    return float(np.square(linear(impulse, *settings)).sum())


def _noise(grey: Float[np.ndarray, "h w"]) -> float:
    """The variance of white noise, from the blocks with least detail; at least that of rounding to 8 bits."""
    detail = _detail(grey)
    block = min(16, *grey.shape)
    size = grey.shape[1] // block, grey.shape[0] // block
    variances = cv2.resize(np.square(detail)[: size[1] * block, : size[0] * block], size, interpolation=cv2.INTER_AREA)
    return max(float(np.quantile(variances, 0.1)) / _of_noise(_detail), 1 / 255**2 / 12)


def _detail(grey: np.ndarray) -> np.ndarray:
    smooth = cv2.GaussianBlur(grey, (0, 0), _NOISE_AT, borderType=cv2.BORDER_REFLECT)
    return cv2.filter2D(smooth, -1, np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32))
