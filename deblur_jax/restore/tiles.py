"""Pictures too large for the memory, restored in tiles that all have one shape.

Tiles overlap by what a network's receptive field needs and begin at multiples of its `multiple_of`, so what is kept
of each is what the whole picture would have given: nothing is blended. A tile beside the picture's border ends there,
as the picture does.

A network that sees the whole picture sees its tile instead, and gives only nearly what the whole would have given; how
large its tiles shall be was measured (its facts' `tile` and `overlap`). They fade into each other where they overlap.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Shaped

from deblur_jax.models.facts import Facts

__all__ = ["Tiling", "padded", "plan", "restore"]


@dataclass(frozen=True)
class Tiling:
    """Where tiles begin along each side, their size, and the picture's (padded to the network's multiple)."""

    height: int
    width: int
    tile_height: int
    tile_width: int
    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    fading: bool = False

    @property
    def count(self) -> int:
        return len(self.tops) * len(self.lefts)


def plan(height: int, width: int, *, facts: Facts, pixels: int) -> Tiling:
    """Equal tiles of at most `pixels` pixels, unless the receptive field leaves too little to keep of such a tile."""
    multiple = facts.multiple_of
    margin = _up(facts.margin, multiple)
    if facts.tile:
        pixels = min(pixels, facts.tile**2)
    least = 3 * margin + multiple  # of a side, so that at least a third of it is kept
    height, width = _up(height, multiple), _up(width, multiple)
    best = None
    # The fewest pixels computed in all, the overlaps counted as often as they are.
    for across in range(1, 2 + width // multiple):
        tile_width = _tile(width, across, margin, multiple)
        if across > 1 and tile_width < least:
            break
        tile_height = min(height, max(pixels // tile_width // multiple * multiple, least))
        tops, lefts = _starts(height, tile_height, margin), _starts(width, tile_width, margin)
        tile_height = _tile(height, len(tops), margin, multiple)  # as small as so many tiles can be
        tops = _starts(height, tile_height, margin)
        area = tile_height * tile_width
        cost = (max(area, pixels), area * len(tops) * len(lefts))
        if best is None or cost < best[0]:
            best = cost, Tiling(height, width, tile_height, tile_width, tops, lefts)
    assert best is not None
    return replace(best[1], fading=facts.tile is not None)


def restore(
    apply: Callable[[Shaped[np.ndarray, "b th tw c"]], Shaped[np.ndarray, "b th tw c"]],
    picture: Shaped[np.ndarray, "h w c"],
    tiling: Tiling,
    *,
    batch: int = 1,
    tick: Callable[[int, int], None] | None = None,
) -> Shaped[np.ndarray, "h w c"]:
    """The picture restored by `apply`, which gets at most `batch` tiles at a time.

    Of any type of number: nothing as large as the picture is made but the result. `tick` hears of the tiles done.
    """
    h, w = picture.shape[:2]
    rows, columns = _reflected(h, w, tiling)
    restored = np.empty_like(picture)
    lines = (_fading if tiling.fading else _cut)(tiling.tops, tiling.tile_height)
    done = 0
    for y, top, bottom, rising in lines:
        # Where tiles fade, a row of them is whole before it meets the one above.
        there = restored[top:bottom]
        band = np.empty_like(there) if tiling.fading else there
        places = list((_fading if tiling.fading else _cut)(tiling.lefts, tiling.tile_width))
        for start in range(0, len(places), batch):
            some = places[start : start + batch]
            down = rows[y : y + tiling.tile_height]
            cut = np.stack([picture[np.ix_(down, columns[x : x + tiling.tile_width])] for x, *_ in some])
            for tile, (x, left, right, rising_across) in zip(apply(cut), some, strict=True):
                part = band[:, left:right]
                here = tile[top - y :, left - x :][: len(part), : part.shape[1]]
                part[:] = _over(part, here, rising_across[None, : part.shape[1], None])
            done += len(some)
            if tick:
                tick(done, tiling.count)
        if tiling.fading:
            there[:] = _over(there, band, rising[: len(there), None, None])
    return restored


def padded(picture: Shaped[np.ndarray, "h w c"], tiling: Tiling) -> Shaped[np.ndarray, "H W c"]:
    """The picture continued to the size of the tiling."""
    return picture[np.ix_(*_reflected(picture.shape[0], picture.shape[1], tiling))]


def _reflected(height: int, width: int, tiling: Tiling) -> tuple[np.ndarray, np.ndarray]:
    """Which rows and columns to take: where the picture ends it goes on as networks pad (layers.pad_to_multiple)."""
    sizes = (height, tiling.height), (width, tiling.width)
    rows, columns = (np.pad(np.arange(n), (0, m - n), "reflect") for n, m in sizes)
    return rows, columns


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _tile(size: int, count: int, margin: int, multiple: int) -> int:
    """The smallest side with which `count` tiles cover `size`, each inner border `margin` away from what is kept."""
    return min(size, _up(math.ceil((size + 2 * margin * (count - 1)) / count), multiple))


def _starts(size: int, tile: int, margin: int) -> tuple[int, ...]:
    if tile >= size:
        return (0,)
    return (*range(0, size - tile, tile - 2 * margin), size - tile)


_Place = tuple[int, int, int, Shaped[np.ndarray, "n"]]


def _cut(starts: tuple[int, ...], tile: int) -> Iterator[_Place]:
    """Of each tile: where it begins, from where to where it is kept (to the middle of each overlap), all of it."""
    cuts = [(a + tile + b) // 2 for a, b in itertools.pairwise(starts)]
    for start, first, last in zip(starts, [starts[0], *cuts], [*cuts, starts[-1] + tile], strict=True):
        yield start, first, last, np.ones(last - first, np.float32)


def _fading(starts: tuple[int, ...], tile: int) -> Iterator[_Place]:
    """All of each tile is kept, its share rising from 0 to 1 over what the one before it has too."""
    overlaps = [0, *(a + tile - b for a, b in itertools.pairwise(starts))]
    steps = np.arange(tile, dtype=np.float32) + 0.5
    for start, overlap in zip(starts, overlaps, strict=True):
        yield start, start, start + tile, np.minimum(1.0, steps / overlap) if overlap else np.ones_like(steps)


def _over(
    there: Shaped[np.ndarray, "h w c"], here: Shaped[np.ndarray, "h w c"], share: Shaped[np.ndarray, "..."]
) -> Shaped[np.ndarray, "h w c"]:
    """What is here over what is there; where all is here, `there` is not read."""
    if (share == 1.0).all():
        return here
    # What was not written yet may be anything, also no number.
    mixed = share * here + (1.0 - share) * np.where(share < 1.0, there, np.float32(0))
    return np.rint(mixed) if np.issubdtype(here.dtype, np.integer) else mixed
