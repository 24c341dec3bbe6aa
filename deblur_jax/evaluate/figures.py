"""Which pictures the report shows, and what of them: details at their own size, with their edges."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import cv2
import jax.numpy as jnp
import numpy as np

from deblur_jax import filters
from deblur_jax.evaluate import scores
from deblur_jax.evaluate.run import BLURRY, SHARP, Evaluation, read_pair
from deblur_jax.restore.restorer import Restorer

__all__ = ["Case", "cases", "lead", "show"]

_DETAIL = (216, 288)  # height and width


@dataclass(frozen=True)
class Case:
    """One picture of the report. `rows` has the detail and its edge map of each row, as 8 bits."""

    title: str
    index: int  # among the evaluation's pictures
    overview: np.ndarray  # the whole blurry frame, small, with the detail framed
    rows: dict[str, tuple[np.ndarray, np.ndarray]]


def lead(found: Evaluation, models: Iterable[str]) -> str:
    """The one of these whose mean gain in PSNR is the greatest: cases are chosen by it."""
    return max(models, key=lambda label: scores.mean(found.gains(label, "psnr")) or 0.0)


def cases(found: Evaluation, *, lead: str, extremes: int = 2) -> dict[str, dict[str, int]]:
    """Indices by title: `typical` ones for each strength of blur (the median gain), the `best` and the `worst`."""
    gains = found.gains(lead, "psnr")
    parts = scores.thirds(found.values(BLURRY, "psnr"))
    names = ("light blur", "medium blur", "heavy blur") if len(parts) == 3 else ("typical",)
    typical = {n: int(part[np.argsort(gains[part])[len(part) // 2]]) for n, part in zip(names, parts, strict=True)}
    order = np.argsort(gains, kind="stable")
    many = min(extremes, len(order) // 2)
    return {
        "typical": typical,
        "best": {f"best {i + 1}": int(order[-1 - i]) for i in range(many)},
        "worst": {f"worst {i + 1}": int(order[i]) for i in range(many)},
    }


def show(title: str, index: int, found: Evaluation, restorers: Mapping[str, Restorer]) -> Case:
    """Restores the picture once more and takes out the detail that blur changed most."""
    blurred, sharp = read_pair(found.entries[index])
    pictures = {BLURRY: blurred}
    pictures |= {label: restorer.restore(blurred) for label, restorer in restorers.items()}
    pictures[SHARP] = sharp
    top, left, bottom, right = _changed_most(blurred, sharp)
    rows = {}
    for row, pixels in pictures.items():
        # Edges of the whole frame: a detail's own border would have edges of its own.
        edges = np.asarray(filters.canny(jnp.asarray(pixels, jnp.float32) / 255.0), np.uint8) * 255
        rows[row] = pixels[top:bottom, left:right], edges[top:bottom, left:right]
    return Case(title, index, _overview(blurred, top, left, bottom, right), rows)


def _changed_most(blurred: np.ndarray, sharp: np.ndarray) -> tuple[int, int, int, int]:
    """The detail with the greatest mean difference: top, left, bottom, right."""
    h, w = min(_DETAIL[0], sharp.shape[0]), min(_DETAIL[1], sharp.shape[1])
    difference = np.abs(blurred.astype(np.float32) - sharp).mean(-1)
    sums = cv2.integral(difference)
    windows = sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]
    top, left = (int(i) for i in np.unravel_index(windows.argmax(), windows.shape))
    return top, left, top + h, left + w


def _overview(frame: np.ndarray, top: int, left: int, bottom: int, right: int) -> np.ndarray:
    scale = min(1.0, 240 / max(frame.shape[:2]))
    size = max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale))
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    one, other = ((round(x * scale), round(y * scale)) for x, y in ((left, top), (right - 1, bottom - 1)))
    for colour, thickness in (((0, 0, 0), 4), ((255, 255, 255), 2)):  # seen on light and on dark
        small = cv2.rectangle(small, one, other, colour, thickness)
    return small
