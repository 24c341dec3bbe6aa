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
    sides = (tiling.tops, tiling.tile_height), (tiling.lefts, tiling.tile_width)
    places = list(itertools.product(*((_all if tiling.fading else _kept)(*side) for side in sides)))
    down, across = (_rising(*side) for side in sides)
    for start in range(0, len(places), batch):
        some = places[start : start + batch]
        cut = [
            picture[np.ix_(rows[y : y + tiling.tile_height], columns[x : x + tiling.tile_width])]
            for (y, *_), (x, *_) in some
        ]
        for tile, ((y, top, bottom), (x, left, right)) in zip(apply(np.stack(cut)), some, strict=True):
            there = restored[top:bottom, left:right]
            here = tile[top - y :, left - x :][: there.shape[0], : there.shape[1]]
            there[:] = _faded(there, here, down[y], across[x]) if tiling.fading else here
        if tick:
            tick(start + len(some), len(places))
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


def _kept(starts: tuple[int, ...], tile: int) -> Iterator[tuple[int, int, int]]:
    """Of each tile: where it begins, and from where to where it is kept: to the middle of each overlap."""
    cuts = [(a + tile + b) // 2 for a, b in itertools.pairwise(starts)]
    yield from zip(starts, [starts[0], *cuts], [*cuts, starts[-1] + tile], strict=True)


def _all(starts: tuple[int, ...], tile: int) -> Iterator[tuple[int, int, int]]:
    yield from ((start, start, start + tile) for start in starts)


def _rising(starts: tuple[int, ...], tile: int) -> dict[int, Shaped[np.ndarray, "tile"]]:
    """Of each tile by its start: from 0 to 1 over what the one before it has too."""
    overlaps = [0, *(a + tile - b for a, b in itertools.pairwise(starts))]
    steps = np.arange(tile, dtype=np.float32) + 0.5
    return {s: np.minimum(1.0, steps / o) if o else np.ones_like(steps) for s, o in zip(starts, overlaps, strict=True)}


def _faded(
    there: Shaped[np.ndarray, "h w c"],
    tile: Shaped[np.ndarray, "h w c"],
    down: Shaped[np.ndarray, "th"],
    across: Shaped[np.ndarray, "tw"],
) -> Shaped[np.ndarray, "h w c"]:
    """The tile over what the tiles before it left; where none was, nothing is read."""
    h, w = tile.shape[:2]
    share = np.outer(down[:h], across[:w])[..., None]
    mixed = share * tile + np.where(share < 1.0, (1.0 - share) * there, 0.0)
    return np.rint(mixed) if np.issubdtype(tile.dtype, np.integer) else mixed
