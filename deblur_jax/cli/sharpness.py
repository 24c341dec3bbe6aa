"""Measure how sharp pictures are, from the most blurred to the sharpest.

The score is near 1 for a sharp picture, 0.82 where a blur begins to be seen (0.7 pixels wide), and 0.3 for a blur of
three pixels (the deviation of a Gaussian). A picture is judged by its sharpest parts: a background out of focus does
not count against it. Pictures of more than 2048 pixels a side are judged as they look at that size.
"""

import argparse
import collections
import math
import os
import sys
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="IN", help="pictures, folders (with all below), patterns")
    parser.add_argument("--threshold", type=float, metavar="SCORE", help="a picture below is called blurred (0.82)")
    parser.add_argument("--sort", choices=("score", "name"), default="score", help="default: score, lowest first")
    parser.add_argument("--csv", metavar="FILE", help="write the table as CSV, - for standard output")
    parser.add_argument("--map", type=Path, metavar="FOLDER", help="write each picture's map: white is sharp")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="pictures measured at a time (2)")
    parser.add_argument("--max-pixels", type=float, default=250, metavar="MILLION", help="refuse larger ones (250)")
    parser.add_argument("--overwrite", action="store_true", help="replace outputs if they exist")


def run(options: argparse.Namespace) -> int:
    from concurrent.futures import ThreadPoolExecutor, as_completed

    from deblur_jax.cli.progress import Progress
    from deblur_jax.errors import UserError
    from deblur_jax.files import write_whole
    from deblur_jax.restore import images
    from deblur_jax.restore.inputs import collect
    from deblur_jax.restore.sharpness import SHARP

    threshold = SHARP if options.threshold is None else options.threshold
    if not 0 <= threshold <= 1:
        raise UserError(f"--threshold is a score from 0 to 1, not {threshold:g}")
    if options.jobs < 1:
        raise UserError(f"--jobs must be 1 or more, not {options.jobs}")
    if not options.max_pixels > 0:
        raise UserError(f"--max-pixels must be above 0, not {options.max_pixels:g}")
    table = None
    if options.csv not in (None, "-"):
        table = images.check_output(options.csv, overwrite=options.overwrite, suffixes=(".csv", ".txt"))
    found = collect(options.inputs)
    # Maps of an earlier run are no pictures of the user's, unless they are named one by one.
    named = {os.path.realpath(name) for name in options.inputs}
    measured = [item for item in found if not _is_map(item.path) or os.path.realpath(item.path) in named]
    own = len(found) - len(measured)
    found[:] = measured
    if not found:
        but = f" but {own} maps (*{_MAP})" if own else ""
        raise UserError("; ".join([f"no pictures in {', '.join(map(str, options.inputs))}{but}", *found.unread]))
    maps = _map_paths(found, options)

    rows, failures = [], [*found.unread]
    with Progress("pictures") as progress, ThreadPoolExecutor(options.jobs) as pool:
        try:
            work = {pool.submit(_measure, item.path, maps.get(item.path), options): item.path for item in found}
            for done, future in enumerate(as_completed(work), 1):
                try:
                    rows.append(_Row(work[future], *future.result(), threshold))
                except UserError as error:
                    failures.append(str(error))
                progress(done, len(work))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    order = {item.path: at for at, item in enumerate(found)}
    rows.sort(key=lambda row: order[row.path] if options.sort == "name" else (row.score, order[row.path]))
    if options.csv:
        text = _csv(rows)
        if table is None:
            print(text, end="")
        else:
            write_whole(table, text.encode(errors="backslashreplace"))
            print(table)
    elif rows:
        print(_columns(rows))
    kinds = collections.Counter(row.verdict for row in rows)
    counts = ", ".join(
        f"{kinds[kind]} {kind}" for kind in ("sharp", "blurred", "too blurred", "no detail") if kinds[kind]
    )
    skipped = f"; other files passed over: {found.skipped}" if found.skipped else ""
    skipped += f"; maps passed over: {own}" if own else ""
    print(f"{len(rows)} pictures: {counts or 'none could be read'}{skipped}", file=sys.stderr)
    for line in sorted(failures):
        print(f"deblur sharpness: {line}", file=sys.stderr)
    return 1 if failures else 0


_MAP = ".sharpness.png"


def _is_map(path: Path) -> bool:
    return path.name.endswith(_MAP)


class _Row:
    def __init__(self, path: Path, measured: Any, size: tuple[int, int], threshold: float):
        from deblur_jax.restore.sharpness import TOO_BLURRED

        self.path, self.score, self.width, self.size = path, measured.score, measured.width, size
        if not math.isfinite(self.width):
            self.verdict = "no detail"
        elif self.score >= threshold:
            self.verdict = "sharp"
        else:
            self.verdict = "too blurred" if self.score < TOO_BLURRED else "blurred"

    @property
    def cells(self) -> tuple[str, ...]:
        width = f"{self.width:.1f}" if math.isfinite(self.width) else "-"
        return f"{self.score:.3f}", width, self.verdict, f"{self.size[0]}x{self.size[1]}", str(self.path)


def _measure(path: Path, map_path: Path | None, options: argparse.Namespace) -> tuple[Any, tuple[int, int]]:
    from deblur_jax.restore import images, pictures
    from deblur_jax.restore.colour import is_linear
    from deblur_jax.restore.sharpness import sharpness

    limit = round(options.max_pixels * 1e6) if math.isfinite(options.max_pixels * 1e6) else None
    picture = pictures.read(images.read_bytes(path), path, max_pixels=limit)
    measured = sharpness(picture.pixels, linear=is_linear(picture))
    height, width = picture.pixels.shape[:2]
    if map_path:
        images.write_image(map_path, _visible(measured.map, picture.pixels.shape), overwrite=options.overwrite)
    return measured, (width, height)


def _map_paths(found: Any, options: argparse.Namespace) -> dict[Path, Path]:
    """Where the maps go, below the folder as the pictures lie below theirs; the folders are made."""
    from deblur_jax.errors import UserError
    from deblur_jax.files import make_folder
    from deblur_jax.restore import images

    if not options.map:
        return {}
    paths: dict[Path, Path] = {}
    for item in found:
        target = options.map / item.path.relative_to(item.root)
        paths[item.path] = target.with_name(target.name + _MAP)
    if len(set(paths.values())) < len(paths):
        raise UserError(f"{options.map}: two pictures have the same name there; name one folder at a time")
    for path in paths.values():
        make_folder(path.parent)
        images.check_output(path, overwrite=options.overwrite)
    return paths


def _visible(scores: Any, shape: tuple[int, ...]) -> Any:
    """White where sharp, black where blurred, blue where there is nothing to see; at most 1024 pixels a side."""
    import cv2
    import numpy as np

    grey = np.round(np.nan_to_num(scores) * 255).astype(np.uint8)
    rgb = np.where(np.isnan(scores)[..., None], np.array([40, 60, 120], np.uint8), grey[..., None])
    reduced = max(1.0, max(shape) / 1024)
    size = max(1, round(shape[1] / reduced)), max(1, round(shape[0] / reduced))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_NEAREST)


def _columns(rows: list[_Row]) -> str:
    cells = [("score", "blur px", "", "size", "file"), *(row.cells for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        f"{score:>{widths[0]}}  {width:>{widths[1]}}  {verdict:{widths[2]}}  {size:>{widths[3]}}  {path}"
        for score, width, verdict, size, path in cells
    )


def _csv(rows: list[_Row]) -> str:
    import csv
    import io

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("file", "score", "blur_px", "verdict", "width", "height"))
    for row in rows:
        width = f"{row.width:.3f}" if math.isfinite(row.width) else ""
        writer.writerow((row.path, f"{row.score:.4f}", width, row.verdict, *row.size))
    return out.getvalue()
