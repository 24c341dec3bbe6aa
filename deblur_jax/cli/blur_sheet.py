"""The contact sheet of `deblur blur`: all kinds of blur of one picture, their kernels, and paths of hands."""

import argparse
import itertools
import math
from typing import Any

from deblur_jax.cli.blur import KINDS, VARYING, blurred, mosaic, recorded_path, taken

_SIDE = 320  # of a cell
_EXTRA = {
    "shake, highlights x8": {"saturate": 8.0},
    "shake, noise, JPEG 30": {"noise": 0.02, "photons": 300.0, "jpeg": 30},
}
_INSET, _GRID = 96, 144  # of a kernel, of nine of them
_PATHS = 8


def sheet(picture: Any, options: argparse.Namespace) -> Any:
    """The middle of the picture, sharp and blurred by every kind, kernels in the corner; below, paths of hands."""
    import numpy as np

    side = min(_SIDE, *picture.shape[:2])
    # Cut out larger where there is more, so that what moves in over the border is real.
    room = [min(math.ceil(options.extent), (size - side) // 2) for size in picture.shape[:2]]
    top, left = ((size - side) // 2 - r for size, r in zip(picture.shape[:2], room, strict=True))
    cut = np.ascontiguousarray(picture[top : top + side + 2 * room[0], left : left + side + 2 * room[1]])
    inner = (slice(room[0], room[0] + side), slice(room[1], room[1] + side))

    plain = argparse.Namespace(**vars(options))
    plain.saturate, plain.noise, plain.photons, plain.jpeg = None, 0.0, None, None
    cells = [_cell("sharp", cut[inner], None)]
    for name in (*(kind for kind in KINDS if kind != "frames"), *_EXTRA):
        own = argparse.Namespace(**{**vars(plain), "kind": name.split(",")[0], **_EXTRA.get(name, {})})
        made = blurred(cut, own, grid=(3, 3))
        kernels = made.kernels if own.kind in VARYING or name not in _EXTRA else None
        cells.append(_cell(name, np.asarray(taken(made.light, own))[inner], kernels))
    rows = [np.hstack(cells[i : i + 4]) for i in range(0, len(cells), 4)]
    return np.vstack([*rows, *_path_rows(options, rows[0].shape[1])])


def _cell(title: str, picture: Any, kernels: Any) -> Any:
    import cv2
    import numpy as np

    from deblur_jax import blur, filters

    # Small pictures are shown enlarged, pixel by pixel.
    cell = cv2.resize(np.asarray(filters.to_8bit(picture)), (_SIDE, _SIDE), interpolation=cv2.INTER_NEAREST)
    if kernels is not None:
        # Shown as the light that they are; whole pixels, unless there are too many.
        shown = _trimmed(np.asarray(blur.linear_to_srgb(kernels / kernels.max((2, 3), keepdims=True))))
        longest = _INSET if kernels.shape[0] == 1 else _GRID
        scale = max(1, longest // (shown.shape[0] * shown.shape[2]))
        inset = mosaic(np.kron(shown, np.ones((scale, scale), np.float32)))
        if max(inset.shape) > longest:
            inset = cv2.resize(inset, (longest, longest), interpolation=cv2.INTER_AREA)
        inset = cv2.copyMakeBorder(inset, 1, 1, 1, 1, 0, value=255)
        h, w = inset.shape
        cell[-h - 4 : -4, -w - 4 : -4] = inset[..., None]
    return _titled(title, cell, 2)


def _trimmed(kernels: Any) -> Any:
    """Without the borders that are dark in all of them."""
    import numpy as np

    size = kernels.shape[-1]
    lit = np.argwhere(kernels.max((0, 1)) > 0.05)
    reach = min(np.abs(lit - size // 2).max() + 1, size // 2)
    inside = slice(size // 2 - reach, size // 2 + reach + 1)
    return kernels[:, :, inside, inside]


def _titled(title: str, cell: Any, border: int) -> Any:
    import cv2
    import numpy as np

    strip = np.full((28, cell.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, title, (4, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1, cv2.LINE_AA)
    edges = ((border, border), (border, border), (0, 0))
    return np.pad(np.vstack([strip, cell]), edges, constant_values=255)


def _path_rows(options: argparse.Namespace, width: int) -> list[Any]:
    import jax
    import numpy as np

    from deblur_jax import blur

    keys = jax.random.split(jax.random.key(options.seed), _PATHS)
    walks = jax.vmap(lambda key: blur.random_walk(key, steps=64))(keys)
    rows = [("paths of a trembling hand, from dark to light, each to its own scale", np.asarray(walks))]
    if options.poses:
        seeds = (argparse.Namespace(**{**vars(options), "seed": options.seed + i}) for i in range(_PATHS))
        paths = [np.asarray(recorded_path(own, 1000.0))[:, :2] for own in seeds]
        rows.append((f"recorded: {options.poses.name}", np.stack(paths)))
    drawn = []
    for title, paths in rows:
        panels = np.hstack([_drawn(path, width // _PATHS) for path in paths])
        drawn.append(_titled(title, panels, 0))
    return drawn


def _drawn(path: Any, side: int) -> Any:
    """A path from dark to light in the middle of a square."""
    import cv2
    import numpy as np

    panel = np.full((side, side, 3), 255, np.uint8)
    low, high = path.min(0), path.max(0)
    points = (path - (low + high) / 2) / max((high - low).max(), 1e-9) * (side - 36) + side / 2
    fine = np.round(points * 16).astype(np.int32)  # OpenCV draws at sixteenths of a pixel
    for i, (start, end) in enumerate(itertools.pairwise(fine)):
        time = i / (len(fine) - 2)
        colour = (int(30 + 205 * time), int(30 + 90 * time), int(90 - 50 * time))
        cv2.line(panel, start.tolist(), end.tolist(), colour, 2, cv2.LINE_AA, 4)
    return panel
