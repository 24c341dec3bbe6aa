"""Scores models side by side on pairs of pictures."""

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from deblur_jax.errors import UserError
from deblur_jax.evaluate import scores
from deblur_jax.evaluate.baselines import Method
from deblur_jax.pipeline import trees
from deblur_jax.pipeline.checks import Entry, open_folder
from deblur_jax.pipeline.pictures import as_8bit, decode

__all__ = ["BLURRY", "SHARP", "Evaluation", "Picture", "Read", "choose", "decoded", "evaluate", "open_pairs",
           "read_pair"]  # fmt: skip

_T = TypeVar("_T")
_Pair = tuple[np.ndarray, np.ndarray]
Read = tuple[Entry, _Pair | UserError]

BLURRY, SHARP = "blurry", "sharp"  # rows of every table, beside the models
_AHEAD = 4  # pictures that are decoded while others are restored


@dataclass(frozen=True)
class Picture:
    """One pair's scores: `scores[row][score]`; of the sharp picture the Laplacian alone."""

    name: str
    sequence: str
    frame: int
    width: int
    height: int
    scores: dict[str, dict[str, float]]


@dataclass
class Evaluation:
    """All pictures in the order of the data, and those that could not be scored, with the reason."""

    models: list[str]
    pictures: list[Picture] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)  # of the same pictures, to read them again
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> list[str]:
        return [BLURRY, *self.models]

    @property
    def sequences(self) -> list[str]:
        return [picture.sequence for picture in self.pictures]

    def whole_sequences(self) -> "Evaluation":
        """Of clips alone: without the frames of those that failed later on."""
        kept = [i for i, picture in enumerate(self.pictures) if picture.sequence not in self.failed]
        return replace(self, pictures=[self.pictures[i] for i in kept], entries=[self.entries[i] for i in kept])

    def values(self, row: str, score: str) -> list[float]:
        """As they count in means."""
        found = [picture.scores[row][score] for picture in self.pictures]
        return [min(value, scores.SAME) for value in found] if score == "psnr" else found

    def gains(self, row: str, score: str) -> np.ndarray:
        """Over the blurry picture, of each picture."""
        return np.subtract(self.values(row, score), self.values(BLURRY, score))


def open_pairs(folder: Path, split: str | None = None) -> tuple[str, list[Entry]]:
    """The pairs of a prepared dataset or plain folder: of the split, else of `val`, of `test`, of the only one."""
    kind = trees.kind_of(folder)
    if kind in ("photos", "clips"):
        raise UserError(f"{folder}: holds {kind} without blurred ones beside them; scores need pairs: blur/ and sharp/")
    splits = {name: entries for name, entries in open_folder(folder)[1].items() if entries}
    names = [split] if split else [name for name in ("val", "test") if name in splits] or list(splits)
    if split and split not in splits:
        raise UserError(f"{folder}: no split {split}; there are {', '.join(splits)}")
    if not split and len(splits) > 1 and names[0] not in ("val", "test"):
        raise UserError(f"{folder}: name one of its splits with --split: {', '.join(splits)}")
    entries = splits[names[0]]
    if kind == "prepared" and entries[0].read()[0] is None:
        raise UserError(f"{folder}: a dataset of sharp pictures alone; scores need pairs of blurred and sharp ones")
    return names[0], entries


def choose(entries: Sequence[_T], limit: int | None) -> list[_T]:
    """At most `limit` of them, evenly spaced."""
    if limit is None or limit >= len(entries):
        return list(entries)
    return [entries[(2 * i + 1) * len(entries) // (2 * limit)] for i in range(limit)]


def read_pair(entry: Entry) -> tuple[np.ndarray, np.ndarray]:
    """The blurred and the sharp picture as 8-bit RGB."""
    pair = []
    for data, what in zip(entry.read(), ("blurred", "sharp"), strict=True):
        if data is None:
            raise UserError(f"{entry.name}: there is no {what} picture")
        pair.append(as_8bit(decode(data, f"{entry.name} ({what})")))
    blurred, sharp = pair
    if blurred.shape != sharp.shape:
        sizes = " and ".join(f"{pixels.shape[1]}x{pixels.shape[0]}" for pixels in pair)
        raise UserError(f"{entry.name}: the blurred and the sharp picture differ in size: {sizes}")
    return blurred, sharp


def evaluate(
    methods: Mapping[str, Method],
    pairs: Iterable[Read],
    *,
    clips: bool = False,
    devices: Sequence[Any] | None = None,
    tick: Callable[[int], None] | None = None,
) -> Evaluation:
    """Every score of every picture and model. A picture that fails is named and left out; the others are done.

    With `clips` an error about an entry of its sequence's name is about the whole clip: all its frames are left out.
    """
    devices = list(devices or jax.devices())
    mesh = Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))
    place = NamedSharding(mesh, P("data"))
    found = Evaluation(list(methods))
    for group in _groups(pairs, len(devices), found):
        blurred, sharp = (_filled([pair[side] for _, pair in group], len(devices)) for side in (0, 1))
        rows: dict[str, list[dict[str, float]]] = {}
        try:
            rows[BLURRY] = scores.score(blurred, sharp, place=place)
            rows[SHARP] = [{"laplacian": value} for value in scores.laplacian_of(sharp, place=place)]
            names = [entry.name for entry, _ in group]
            for label, restore in methods.items():
                try:
                    restored = _filled(restore(blurred[: len(group)], names), len(devices))
                except UserError as error:
                    raise UserError(f"{label}: {error}") from None
                rows[label] = scores.score(restored, sharp, place=place)
        except UserError as error:
            found.failed |= {entry.name: f"{entry.name}: {error}" for entry, _ in group}
        else:
            for i, (entry, _) in enumerate(group):
                height, width = sharp.shape[1:3]
                values = {row: several[i] for row, several in rows.items()}
                found.pictures.append(Picture(entry.name, entry.sequence, entry.frame, width, height, values))
                found.entries.append(entry)
        if tick:
            tick(len(found.pictures) + len(found.failed))
    # A picture may be called as its folder is (1/1.png), and is not the whole of it.
    return found.whole_sequences() if clips else found


def _filled(pictures: list[np.ndarray], many: int) -> np.ndarray:
    """A stack of always so many, the last one repeated, so that few shapes are compiled."""
    return np.stack(pictures + [pictures[-1]] * (many - len(pictures)))


def _groups(pairs: Iterable[Read], many: int, found: Evaluation) -> Iterator[list[tuple[Entry, _Pair]]]:
    """Neighbours of one size, at most `many` together."""

    def readable() -> Iterator[tuple[Entry, _Pair]]:
        for entry, pair in pairs:
            if isinstance(pair, UserError):
                found.failed[entry.name] = str(pair)
            else:
                yield entry, pair

    def group_size(at: tuple[Entry, _Pair]) -> Any:
        return at[1][0].shape

    for _, same in itertools.groupby(readable(), group_size):
        while group := list(itertools.islice(same, many)):
            yield group


def decoded(entries: Sequence[Entry], ahead: int = _AHEAD) -> Iterator[Read]:
    """The pictures of each, or why there are none, read while others are restored."""

    def tried(entry: Entry) -> _Pair | UserError:
        try:
            return read_pair(entry)
        except UserError as error:
            return error

    with ThreadPoolExecutor(4) as pool:
        waiting: collections.deque[tuple[Entry, Future[_Pair | UserError]]] = collections.deque()
        following = iter(entries)
        for entry in itertools.islice(following, ahead):
            waiting.append((entry, pool.submit(tried, entry)))
        try:
            while waiting:
                entry, pair = waiting.popleft()
                for later in itertools.islice(following, 1):
                    waiting.append((later, pool.submit(tried, later)))
                yield entry, pair.result()
        finally:
            for _, pair in waiting:
                pair.cancel()
