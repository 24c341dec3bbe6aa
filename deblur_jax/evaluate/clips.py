"""Scores of whole clips: blur/NAME.mp4 beside sharp/NAME.mp4, frame by frame in constant memory."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deblur_jax.errors import UserError
from deblur_jax.restore import video_io
from deblur_jax.restore.inputs import READABLE_CLIPS
from deblur_jax.restore.restorer import Restorer

__all__ = ["pairs", "score"]


def pairs(folder: Path) -> list[tuple[str, Path, Path]]:
    """Name, blurred and sharp clip of each pair; none where the folder holds no clips."""
    found = [p for p in sorted((folder / "blur").glob("*")) if p.suffix.lower() in READABLE_CLIPS]
    for path in found:
        if not (folder / "sharp" / path.name).is_file():
            raise UserError(f"{folder / 'sharp' / path.name}: is missing: each clip in blur/ needs its sharp one")
    return [(path.name, path, folder / "sharp" / path.name) for path in found]


def score(blurred: Path, sharp: Path, restorers: Mapping[str, Restorer]) -> dict[str, Any]:
    """Per row (`blurry` and each model) the means over the frames: `mse` in [0, 1], `psnr` of frames that differ."""
    one, other = video_io.probe(blurred), video_io.probe(sharp)
    if (one.width, one.height) != (other.width, other.height):
        raise UserError(f"{blurred}: is {one.width}x{one.height}, its sharp clip {other.width}x{other.height}")
    errors: dict[str, list[float]] = {"blurry": []} | {label: [] for label in restorers}
    for b, s in itertools.zip_longest(_pictures(one), _pictures(other)):
        if b is None or s is None:
            raise UserError(f"{blurred}: has {'fewer' if b is None else 'more'} frames than its sharp clip")
        target = _unit(s)
        errors["blurry"].append(float(np.square(_unit(b) - target).mean()))
        for label, restorer in restorers.items():
            errors[label].append(float(np.square(_unit(restorer.restore(b)) - target).mean()))
    rows = {label: {"psnr": _psnr(several), "mse": float(np.mean(several))} for label, several in errors.items()}
    return {"frames": len(errors["blurry"]), "rows": rows}


def _psnr(errors: list[float]) -> float | None:
    """The mean over frames in dB; equal frames, of infinitely many, are left out."""
    differing = [e for e in errors if e > 0]
    return float(np.mean(-10 * np.log10(differing))) if differing else None


def _pictures(clip: video_io.Clip) -> Any:
    for frame in video_io.frames(clip, clip.pixel_format, video_io.Loss()):
        yield video_io.to_rgb(frame.picture, clip.colours)


def _unit(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float64) / np.iinfo(pixels.dtype).max
