"""Scores of many pictures, and what may be said of them together.

Frames of one video are much alike, so intervals come from resampling whole sequences where there are any: resampling
frames would pretend to know more than is known.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from deblur_jax import metrics
from deblur_jax.errors import UserError

__all__ = ["PROTOCOLS", "SCORES", "laplacian_of", "mean", "mean_and_interval", "per_sequence", "score", "thirds"]

PROTOCOLS = {
    "psnr": "peak signal-to-noise ratio in dB, over all three channels of a picture; in means and gains what is above "
    "60 dB counts as 60: less than rounding to 8 bits takes away (and infinite where pictures are equal)",
    "mse": "mean squared error over all three channels, pictures in [0, 1]",
    "ssim": "structural similarity after Wang et al. 2004: Gaussian window 11x11, sigma 1.5, mean over the channels "
    "and the valid region",
    "ssim_gopro_matlab": "structural similarity as tables on GoPro report it: an 11x11x11 window over the channels "
    "too, borders repeated (MATLAB's ssim of an RGB array)",
    "laplacian": "sharpness: variance of the Laplacian of the 8-bit grey picture; needs no sharp picture",
}
SCORES = tuple(PROTOCOLS)

SAME = 60.0  # dB of PSNR
_RESAMPLES = 4000
_SMALLEST = 11  # SSIM's window


@jax.jit
def _scores(restored: jax.Array, sharp: jax.Array) -> dict[str, jax.Array]:
    restored, sharp = (x.astype(jnp.float32) / 255.0 for x in (restored, sharp))
    return {
        "psnr": metrics.psnr(restored, sharp),
        "mse": metrics.mse(restored, sharp),
        "ssim": metrics.ssim(restored, sharp),
        "ssim_gopro_matlab": metrics.ssim_gopro_matlab(restored, sharp),
        "laplacian": metrics.laplacian_score(restored),
    }


@jax.jit
def _laplacian(pictures: jax.Array) -> jax.Array:
    return metrics.laplacian_score(pictures.astype(jnp.float32) / 255.0)


def score(
    restored: UInt8[np.ndarray, "b h w 3"], sharp: UInt8[np.ndarray, "b h w 3"], *, place: Any = None
) -> list[dict[str, float]]:
    """Every score of each picture as it would be in an 8-bit file. `place` is a device or sharding to compute on."""
    if min(sharp.shape[1:3]) < _SMALLEST:
        raise UserError(f"pictures of {sharp.shape[2]}x{sharp.shape[1]} pixels; SSIM needs {_SMALLEST}x{_SMALLEST}")
    values = jax.device_get(_scores(*jax.device_put((restored, sharp), place)))
    return [{name: float(values[name][i]) for name in SCORES} for i in range(len(sharp))]


def laplacian_of(pictures: UInt8[np.ndarray, "b h w 3"], *, place: Any = None) -> list[float]:
    """The one score that a picture has by itself."""
    return [float(value) for value in _laplacian(jax.device_put(pictures, place))]


def mean(values: Sequence[float] | np.ndarray) -> float | None:
    """Of the finite ones; None if there are none."""
    finite = np.asarray(values, np.float64)
    finite = finite[np.isfinite(finite)]
    return float(finite.mean()) if len(finite) else None


def mean_and_interval(
    values: Sequence[float] | np.ndarray, sequences: Sequence[str], *, seed: int = 0
) -> tuple[float | None, tuple[float, float] | None]:
    """The mean over pictures and its 95% bootstrap interval, from resampled sequences.

    A picture that belongs to no sequence is one of its own. No interval from a single sequence.
    """
    values = np.asarray(values, np.float64)
    kept = np.isfinite(values)
    if not kept.any():
        return None, None
    values = values[kept]
    _, which = np.unique(np.asarray(sequences)[kept], return_inverse=True)
    sums, counts = np.bincount(which, values), np.bincount(which)
    average = float(values.mean())
    if len(counts) < 2:
        return average, None
    # How often each sequence is drawn. A thousand resamples at a time, for the memory.
    generator, means = np.random.default_rng(seed), []
    for _ in range(_RESAMPLES // 1000):
        drawn = generator.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=1000)
        means.append((drawn @ sums) / (drawn @ counts))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return average, (float(low), float(high))


def per_sequence(values: Sequence[float], sequences: Sequence[str]) -> dict[str, float | None]:
    """The mean of each sequence, in the order in which they come."""
    found: dict[str, list[float]] = {}
    for value, sequence in zip(values, sequences, strict=True):
        found.setdefault(sequence, []).append(value)
    return {sequence: mean(several) for sequence, several in found.items()}


def thirds(psnr_of_the_input: Sequence[float]) -> list[np.ndarray]:
    """The pictures' indices by strength of their blur: the third that is least blurred first. One part if too few."""
    order = np.argsort(-np.asarray(psnr_of_the_input, np.float64), kind="stable")
    return [np.sort(part) for part in np.array_split(order, 3)] if len(order) >= 3 else [order]
