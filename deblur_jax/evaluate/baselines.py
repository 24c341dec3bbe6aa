"""What a network is held against: unsharp masking, and deconvolution that is told the true kernel.

Their settings are those that gained most on the set of `deblur data grid`, which favours them. Richardson's and Lucy's
method works in linear light, where blur happens; Wiener's filter gained more on the stored values, where noise in the
dark is not spread.
"""

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from deblur_jax.blur import linear_to_srgb, srgb_to_linear
from deblur_jax.errors import UserError
from deblur_jax.evaluate.grid import ENCODINGS, Grid

__all__ = ["Method", "baselines"]

Method = Callable[[Any, Sequence[str]], list[np.ndarray]]
"""8-bit pictures (an array or several) and their names -> restored ones."""

_RADIUS, _AMOUNT = 4.0, 0.2
_BALANCE = 0.1
_ITERATIONS = 10
_PEDESTAL = 0.01
_BORDER = 48  # mirrored around the picture, cut off again: what lies outside is not known


def baselines(grid: Grid | None) -> dict[str, tuple[str, Method]]:
    """By name: what it is, and the method. Those that need the kernel only where there is a grid."""

    def unsharp(picture: np.ndarray) -> np.ndarray:
        return picture + _AMOUNT * (picture - cv2.GaussianBlur(picture, (0, 0), _RADIUS))

    def each(restore: Callable[[np.ndarray], np.ndarray]) -> Method:
        return lambda pictures, _: [_bytes(restore(p / np.float32(255))) for p in pictures]

    found = {"unsharp": (f"unsharp masking, radius {_RADIUS}, amount {_AMOUNT}", each(unsharp))}
    if grid is None:
        return found
    try:
        from skimage import restoration
    except ImportError:
        raise UserError("--baselines on a grid needs scikit-image: pip install scikit-image") from None

    def wiener(picture: np.ndarray, kernel: np.ndarray, _: str) -> np.ndarray:
        return np.asarray(restoration.wiener(_tapered(picture, kernel), kernel, _BALANCE, clip=False))

    def richardson_lucy(picture: np.ndarray, kernel: np.ndarray, encoding: str) -> np.ndarray:
        # It divides by what it expects to see: a little light everywhere, which no blur moves, keeps that from nothing,
        # and double precision from going below it, where single precision swings up to what spoils the picture.
        lit = _PEDESTAL + _light(np.pad(picture, _BORDER, mode="reflect"), encoding).astype(np.float64)
        found = restoration.richardson_lucy(lit, kernel.astype(np.float64), num_iter=_ITERATIONS, clip=False)
        return _stored(found - _PEDESTAL, encoding)

    def oracle(deconvolve: Callable[[np.ndarray, np.ndarray, str], np.ndarray]) -> Method:
        def one(picture: np.ndarray, name: str) -> np.ndarray:
            about, kernel = grid.pairs[name], grid.kernels.get(name)
            if kernel is None or about["kind"] == "sharp":
                return picture
            values = picture / np.float32(255)
            channels = [deconvolve(values[..., c], kernel, about["encoding"]) for c in range(3)]
            return _bytes(np.stack([c[_BORDER:-_BORDER, _BORDER:-_BORDER] for c in channels], -1))

        return lambda pictures, names: [one(p, name) for p, name in zip(pictures, names, strict=True)]

    told = "with the true kernel; unchanged where no one kernel holds"
    lucy = f"Richardson and Lucy in linear light, {_ITERATIONS} iterations, {told}"
    return {
        **found,
        "wiener-oracle": (f"Wiener filter, balance {_BALANCE}, {told}", oracle(wiener)),
        "richardson-lucy-oracle": (lucy, oracle(richardson_lucy)),
    }


def _tapered(channel: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Mirrored around itself, and towards the new border ever more blurred as if it went on at the other side.

    A filter in the Fourier domain takes it to do so, and would ring all over from the seam.
    """
    wide = np.pad(channel, _BORDER, mode="reflect")
    half = len(kernel) // 2
    around = [(0, n - len(kernel)) for n in wide.shape]
    spectrum = np.fft.rfft2(np.roll(np.pad(kernel, around), (-half, -half), (0, 1)))
    ramps = [np.minimum(1.0, (np.minimum(np.arange(n), np.arange(n)[::-1]) + 0.5) / _BORDER) for n in wide.shape]
    inside = np.outer(*ramps)
    inside = inside**2 * (3.0 - 2.0 * inside)
    for _ in range(3):
        wide = inside * wide + (1.0 - inside) * np.fft.irfft2(np.fft.rfft2(wide) * spectrum, s=wide.shape)
    return wide


def _light(channel: np.ndarray, encoding: str) -> np.ndarray:
    gamma, _, contrast, _ = ENCODINGS[encoding]
    srgb = np.clip((channel - (1.0 - contrast) / 2) / contrast, 0.0, 1.0) ** (1.0 / gamma)
    return np.asarray(srgb_to_linear(srgb.astype(np.float32)))


def _stored(light: np.ndarray, encoding: str) -> np.ndarray:
    gamma, _, contrast, _ = ENCODINGS[encoding]
    srgb = np.asarray(linear_to_srgb(np.clip(light, 0.0, 1.0).astype(np.float32)))
    return (1.0 - contrast) / 2 + contrast * srgb**gamma


def _bytes(picture: Float[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    return np.rint(np.clip(picture, 0.0, 1.0) * 255.0).astype(np.uint8)
