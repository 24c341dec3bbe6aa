"""Frames of a film clip."""

import math
from pathlib import Path

import cv2
import numpy as np

from deblur_jax.errors import UserError
from deblur_jax.restore.images import silenced_stderr


def read_frames(path: str | Path, *, count: int, start: float = 0.0) -> np.ndarray:
    """`count` consecutive frames from `start` seconds on, as 8-bit RGB `(n h w 3)`, turned as the clip says."""
    try:
        Path(path).open("rb").close()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    with silenced_stderr():
        clip = cv2.VideoCapture(str(path))
        rate = clip.get(cv2.CAP_PROP_FPS) if clip.isOpened() else 0.0
    if not (math.isfinite(rate) and rate > 0):
        raise UserError(f"{path}: not a film clip that can be read")
    frames, first = [], round(start * rate)
    with silenced_stderr():
        # Counted, not sought: seeking lands on a key frame nearby.
        skipped = sum(1 for _ in zip(range(first), iter(clip.grab, False), strict=False))
        while len(frames) < count and skipped == first:
            there, frame = clip.read()
            if not there:
                break
            frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
        clip.release()
    if not skipped + len(frames):
        raise UserError(f"{path}: not a film clip that can be read")
    if len(frames) < count:
        found = skipped + len(frames)
        raise UserError(f"{path}: {first + count} frames are needed ({count} from {start:g} s on), it has {found}")
    return np.stack(frames)
