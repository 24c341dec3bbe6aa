"""What a network is held against: unsharp masking, and deconvolution that is told the true kernel.

The oracles work in linear light, where blur happens, and know how the picture is stored. Their settings are those that
gained most on the set of `deblur data grid`, which favours them.
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

_RADIUS, _AMOUNT = 1.5, 0.6
_BALANCE = 0.02
_ITERATIONS = 20
_PEDESTAL = 0.01
_BORDER = 32  # mirrored around the picture, cut off again: what lies outside is not known


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

    def oracle(deconvolve: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Method:
        def restore(pictures: Any, names: Sequence[str]) -> list[np.ndarray]:
            return [_told(p, grid, name, deconvolve) for p, name in zip(pictures, names, strict=True)]

        return restore

    def wiener(light: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        return np.asarray(restoration.wiener(light, kernel, _BALANCE, clip=False))

    def richardson_lucy(light: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        # It divides by what it expects to see: a little light everywhere, which no blur moves, keeps that from nothing.
        lit = light + _PEDESTAL
        return restoration.richardson_lucy(lit, kernel, num_iter=_ITERATIONS, clip=False) - _PEDESTAL

    told = "with the true kernel, in linear light; unchanged where no one kernel holds"
    found["wiener-oracle"] = (f"Wiener filter, balance {_BALANCE}, {told}", oracle(wiener))
    lucy = f"Richardson and Lucy, {_ITERATIONS} iterations, {told}"
    found["richardson-lucy-oracle"] = (lucy, oracle(richardson_lucy))
    return found


def _told(
    picture: UInt8[np.ndarray, "h w 3"],
    grid: Grid,
    name: str,
    deconvolve: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> UInt8[np.ndarray, "h w 3"]:
    kernel = grid.kernels.get(name)
    if kernel is None or grid.pairs[name]["kind"] == "sharp":
        return picture
    gamma, _, contrast, _ = ENCODINGS[grid.pairs[name]["encoding"]]
    low = (1.0 - contrast) / 2
    srgb = (np.clip((picture / np.float32(255) - low) / contrast, 0.0, 1.0) ** (1.0 / gamma)).astype(np.float32)
    light = np.asarray(srgb_to_linear(srgb))
    around = [(_BORDER, _BORDER)] * 2
    channels = [deconvolve(np.pad(light[..., c], around, mode="reflect"), kernel) for c in range(3)]
    sharp = np.stack([c[_BORDER:-_BORDER, _BORDER:-_BORDER] for c in channels], -1)
    srgb = np.asarray(linear_to_srgb(np.clip(sharp, 0.0, 1.0).astype(np.float32)))
    return _bytes(low + contrast * srgb**gamma)


def _bytes(picture: Float[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    return np.rint(np.clip(picture, 0.0, 1.0) * 255.0).astype(np.uint8)
