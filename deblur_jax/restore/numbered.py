"""Clips as numbered pictures: `out/%05d.png`."""

import os
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from deblur_jax.errors import UserError
from deblur_jax.files import write_whole
from deblur_jax.restore import pictures, video_io
from deblur_jax.restore.images import read_bytes
from deblur_jax.restore.inputs import NUMBER, is_pattern
from deblur_jax.restore.pictures import Picture
from deblur_jax.restore.video_io import Clip, Colours, Decoded

__all__ = ["Numbered", "frames", "probe", "stamp"]


def _name(pattern: Path, number: int) -> Path:
    return pattern.with_name(NUMBER.sub(lambda m: f"{number:0{m[1] or 1}}", pattern.name, count=1))


def _there(pattern: Path) -> list[int]:
    head, tail = (re.escape(part) for part in (NUMBER.split(pattern.name)[0], NUMBER.split(pattern.name)[-1]))
    matches = (re.fullmatch(f"{head}(\\d+){tail}", path.name) for path in pattern.parent.glob("*"))
    return sorted({int(m[1]) for m in matches if m and _name(pattern, int(m[1])).name == m[0]})


def _numbers(pattern: Path) -> list[int]:
    """Those that there are, in a row from the first one on."""
    there = _there(pattern)
    if not there:
        raise UserError(f"{pattern}: no such pictures")
    if (gap := there[-1] - there[0] + 1 - len(there)) > 0:
        missing = next(n for n in range(there[0], there[-1]) if n not in set(there))
        raise UserError(f"{pattern}: {gap} numbers are missing, the first is {_name(pattern, missing)}")
    return there


def probe(pattern: Path, fps: float | None) -> Clip:
    if fps is None:
        raise UserError(f"{pattern}: --fps says how many of these pictures are a second")
    numbers = _numbers(pattern)
    first = _name(pattern, numbers[0])
    picture = pictures.read(read_bytes(first), first)
    height, width = picture.pixels.shape[:2]
    rate = Fraction(fps).limit_denominator(1001)
    deep = picture.pixels.dtype != np.uint8
    even = height % 2 == 0 and width % 2 == 0
    written = ("yuv420p" if even else "yuv444p") + ("10le" if deep else "")
    # Tagged, so that players need not guess: BT.709, whose transfer is close enough to sRGB's for them.
    colours, notes = Colours(1, 1, 1, 1), ("transparency is left out",) if picture.alpha is not None else ()
    return Clip(pattern, "h264", "", width, height, written, colours, rate, 1 / rate, len(numbers), notes=notes)


def stamp(clip: Clip) -> list[Any]:
    stats = [(path, path.stat()) for path in (_name(clip.path, n) for n in _numbers(clip.path))]
    return [[str(path.resolve()), s.st_size, s.st_mtime_ns] for path, s in stats]


def frames(
    clip: Clip,
    pixel_format: str,
    *,
    start: float | None,
    end: float | None,
    every: int,
    after: int,
    max_pixels: int | None,
) -> Iterator[Decoded]:
    first = None
    for place, number in enumerate(_numbers(clip.path)):
        if (start is not None and place / clip.rate < start) or (end is not None and place / clip.rate >= end):
            continue
        first = place if first is None else first
        index = place - first
        if index % every or index <= after:
            continue
        path = _name(clip.path, number)
        pixels = pictures.read(read_bytes(path), path, max_pixels=max_pixels).pixels
        if pixels.shape[:2] != (clip.height, clip.width):
            size = f"{pixels.shape[1]}x{pixels.shape[0]}"
            raise UserError(f"{path}: is {size}, the first picture {clip.width}x{clip.height}")
        if pixels.dtype.kind == "f":
            pixels = np.rint(np.clip(pixels, 0, 1) * 65535).astype(np.uint16)
        colours = np.repeat(pixels, 3, -1) if pixels.shape[2] == 1 else pixels[..., :3]
        picture = video_io.from_rgb(np.ascontiguousarray(colours), pixel_format, clip.colours)
        yield Decoded(index, place, every, picture, {})


class Numbered:
    """Pictures numbered from 1, each written whole."""

    def __init__(
        self, pattern: Path, source: Path, *, quality: int | None, overwrite: bool, skip_existing: bool
    ) -> None:
        self._pattern, self._quality, self._skip = pattern, quality, skip_existing
        self._format = pictures.format_of(pattern.suffix)
        there = [number for number in _there(pattern) if number > 0]
        if there and not (overwrite or skip_existing):
            raise UserError(
                f"{_name(pattern, there[0])}: exists already; --overwrite replaces it, --skip-existing passes over it"
            )
        if there and overwrite and is_pattern(source) and _numbers(source)[0] == 0:
            read = {os.path.realpath(_name(source, number)) for number in _numbers(source)}
            if both := [path for n in there if os.path.realpath(path := _name(pattern, n)) in read]:
                raise UserError(f"{both[0]}: would be replaced before it is read; number the inputs from 1")

    def has(self, number: int) -> bool:
        return self._skip and _name(self._pattern, number).exists()

    def write(self, number: int, pixels: np.ndarray) -> None:
        data = pictures.encode(Picture(pixels), self._format, quality=self._quality)
        write_whole(_name(self._pattern, number), data)
