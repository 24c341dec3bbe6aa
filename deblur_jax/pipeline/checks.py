"""Checks of pictures: a quick one of files before they are prepared, a thorough one of any dataset.

The quick one (`survey`) reads each file's header and its end, which tells what is missing, cut off or of another
size at a small part of the cost of decoding. The thorough one (`examine`) decodes.
"""

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from deblur_jax.errors import UserError
from deblur_jax.pipeline import trees
from deblur_jax.pipeline.headers import Header, read_header
from deblur_jax.pipeline.pictures import decode, to_npy
from deblur_jax.pipeline.sources import Clips, Records, frames_of
from deblur_jax.pipeline.trees import Example
from deblur_jax.restore.images import read_bytes

__all__ = ["Entry", "Report", "Survey", "Tick", "complete", "examine", "first_ten", "open_folder", "survey"]

Tick = Callable[[int, int], None]  # told how many are done, of how many
_T = TypeVar("_T")
_R = TypeVar("_R")

_THREADS = 8


def first_ten(summary: str, lines: list[str]) -> str:
    """The summary, the first ten of the lines, and how many more there are."""
    rest = [f"... and {len(lines) - 10} more"] if len(lines) > 10 else []
    return "\n  ".join([summary, *lines[:10], *rest])


def _in_threads(function: Callable[[_T], _R], items: list[_T], tick: Tick | None) -> Iterator[_R]:
    """In order. A thousand at a time, so that Ctrl-C does not wait for all of them."""
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(items), 1000):
            chunk = items[start : start + 1000]
            for i, result in enumerate(pool.map(function, chunk)):
                yield result
                if tick:
                    tick(start + i + 1, len(items))


# The survey before preparing.


@dataclass
class Survey:
    """What was found wrong, and the headers of what was found right."""

    missing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    headers: dict[Path, Header] = field(default_factory=dict)

    def demand(self, folder: Path, *, allow_missing: bool = False) -> None:
        """Raises what stands in the way, the first ten of it."""
        wrong = self.damaged + ([] if allow_missing else self.missing)
        if wrong:
            advice = "--allow-partial goes on without the missing ones" if not self.damaged else "nothing was written"
            raise UserError(first_ten(f"{folder}: {_count(len(wrong), 'problem')}; {advice}", wrong))


def survey(
    splits: dict[str, list[Example]],
    root: Path,
    *,
    size: tuple[int, int] | None = None,
    counts: dict[str, int] | None = None,
    tick: Tick | None = None,
) -> Survey:
    """Looks at every file: there, whole, of the published `size`, and each split of the published count."""
    found = Survey()
    for split, published in (counts or {}).items():
        if (listed := sum(example.sequence != "*" for example in splits.get(split, []))) != published:
            found.missing.append(f"{split}: {listed} examples of the {published} that were published")
    for split, examples in splits.items():
        found.damaged += [f"{split}: {what}" for what in _out_of_order(examples)]
    examples = [example for examples in splits.values() for example in examples]
    if not examples:
        found.missing.append("no pictures at all")

    absent: Counter[Path] = Counter()
    tops: dict[Path, Path | None] = {}
    by_note: dict[str, list[Path]] = {}

    def look(path: Path) -> Header | UserError | None:
        try:
            return read_header(path) if path.exists() else None
        except UserError as error:
            return error

    paths = [path for example in examples for path in (example.blur, example.sharp) if path]
    unknown = {path for e in examples if e.sequence == "*" for path in (e.blur, e.sharp)}
    for path, header in zip(paths, _in_threads(look, paths, tick), strict=True):
        if header is None:
            if (parent := path.parent) not in tops:
                tops[parent] = _highest_missing(parent, root)
            absent[tops[parent] or path] += path not in unknown
        elif isinstance(header, UserError):
            found.damaged.append(str(header).replace(f"{root}/", "", 1))
        else:
            found.headers[path] = header
            if size and (header.width, header.height) != size:
                found.damaged.append(f"{_below(path, root)}: {header.size} pixels, published are {size[0]}x{size[1]}")
            for note in _notes(header):
                by_note.setdefault(note, []).append(path)
    files = set(paths)
    for path, many in absent.items():
        whole = f", with the {many} pictures in it" if many and path not in files else ""
        found.missing.append(f"{_below(path, root)}: missing{whole}")
    for example in examples:
        if example.blur is None:
            continue
        blur, sharp = found.headers.get(example.blur), found.headers.get(example.sharp)
        if blur and sharp and blur.size != sharp.size:
            other = f"{_below(example.sharp, root)} has {sharp.size}"
            found.damaged.append(f"{_below(example.blur, root)}: {blur.size} pixels, and {other}")
    found.notes += [f"{_count(len(p), 'picture')} {note}, first {_below(p[0], root)}" for note, p in by_note.items()]
    return found


def complete(splits: dict[str, list[Example]]) -> dict[str, list[Example]]:
    """Without the examples of which a file is missing, and without splits that have none."""
    kept = {
        split: [e for e in examples if e.sharp.exists() and (e.blur is None or e.blur.exists())]
        for split, examples in splits.items()
    }
    return {split: examples for split, examples in kept.items() if examples}


def _out_of_order(examples: list[Example]) -> Iterator[str]:
    """Neighbouring frames must be neighbouring records, or video training would take strangers for neighbours."""
    seen: set[str] = set()
    last: Example | None = None
    for example in examples:
        if example.sequence == "*":
            continue
        if last and example.sequence == last.sequence:
            if example.frame <= last.frame:
                yield f"frame {example.frame} of sequence {example.sequence} follows frame {last.frame}"
        elif example.sequence in seen:
            yield f"sequence {example.sequence} is there twice"
        seen.add(example.sequence)
        last = example


def _highest_missing(folder: Path, root: Path) -> Path | None:
    """The highest folder that is missing, from this one upwards: one line for it, not one for each file."""
    missing = None
    while folder != root and root in folder.parents and not folder.exists():
        missing, folder = folder, folder.parent
    return missing


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _notes(header: Header) -> Iterator[str]:
    if header.depth > 8:
        yield f"of {header.depth} bits a channel (kept as they are)"
    if header.grey:
        yield "in grey (read as RGB)"
    if header.alpha:
        yield "with an alpha channel (kept in the file, left out when read)"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


# Any folder, to look into.


@dataclass(frozen=True)
class Entry:
    """One example of a prepared or plain folder; `read` gives the encoded pictures (blur or None, sharp)."""

    name: str
    sequence: str
    frame: int
    read: Callable[[], tuple[bytes | None, bytes]]


def open_folder(folder: Path) -> tuple[str, dict[str, list[Entry]]]:
    """The kind of the folder and what is in it."""
    kind = trees.kind_of(folder)
    if kind == "prepared":
        return kind, _open_prepared(folder)
    if kind == "clips":
        listed = trees.clips(folder)
        return kind, {
            split: [e for path in paths for e in _clip_entries(path, folder)] for split, paths in listed.items()
        }
    listed = trees.pairs(folder) if kind == "pairs" else trees.photos(folder)
    return kind, {split: [_entry(example) for example in examples] for split, examples in listed.items()}


def _entry(example: Example) -> Entry:
    def read() -> tuple[bytes | None, bytes]:
        return read_bytes(example.blur) if example.blur else None, read_bytes(example.sharp)

    return Entry(example.name, example.sequence, example.frame, read)


_FRAMES_OF_A_CLIP = 8  # are looked at: the first, the last, and between them


def _clip_entries(path: Path, folder: Path) -> list[Entry]:
    name = path.relative_to(folder).as_posix()
    try:
        clip = Clips([path])
    except UserError as error:
        # Said when it is looked at, beside what is wrong with others.
        reason = error

        def fail() -> tuple[bytes | None, bytes]:
            raise reason

        return [Entry(name, name, 0, fail)]

    def read(frame: int) -> tuple[bytes | None, bytes]:
        picture = clip[frame].sharp[0]
        assert isinstance(picture, np.ndarray)
        return None, to_npy(picture)

    frames = sorted({round(at) for at in np.linspace(0, len(clip) - 1, _FRAMES_OF_A_CLIP)})
    return [Entry(f"{name}, frame {frame}", name, frame, functools.partial(read, frame)) for frame in frames]


def _open_prepared(folder: Path) -> dict[str, list[Entry]]:
    splits = {}
    for split, places in frames_of(folder).items():
        records = Records(folder, split, places)
        splits[split] = [_prepared_entry(records, i, sequence, frame) for i, (sequence, frame) in enumerate(places)]
    return splits


def _prepared_entry(records: Records, index: int, sequence: str, frame: int) -> Entry:
    def read() -> tuple[bytes | None, bytes]:
        record = records[index]
        return record.get("blur"), record["sharp"]

    return Entry(f"{sequence}/{frame:08d}", sequence, frame, read)


# The thorough check.


@dataclass
class Report:
    """Of each split: counts and means. `problems` are what makes the check fail; notes do not."""

    kind: str
    splits: dict[str, dict] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Look:
    size: str = ""
    sharpness: tuple[float, float] = (np.nan, np.nan)  # blur, sharp
    psnr: float = np.nan
    fingerprint: int = 0
    thumbnail: np.ndarray | None = None
    problem: str = ""


def examine(folder: Path, *, sample: int | None = None, seed: int = 0, tick: Tick | None = None) -> Report:
    """Decodes everything (or `sample` examples of each split) and measures it."""
    kind, splits = open_folder(folder)
    report = Report(kind)
    generator = np.random.default_rng(seed)
    chosen = {}
    for split, entries in splits.items():
        keep = range(len(entries))
        if sample is not None and sample < len(entries):
            keep = np.sort(generator.choice(len(entries), sample, replace=False))
        chosen[split] = [entries[i] for i in keep]
        if not entries:
            report.problems.append(f"{split}: is empty")
    total, done = sum(len(entries) for entries in chosen.values()), 0
    looks: dict[str, list[tuple[Entry, _Look]]] = {}
    for split, entries in chosen.items():

        def tick_on(now: int, _: int, before: int = done) -> None:
            if tick:
                tick(before + now, total)

        looks[split] = list(zip(entries, _in_threads(_look, entries, tick_on), strict=True))
        done += len(entries)
        report.problems += [f"{split}: {look.problem}" for _, look in looks[split] if look.problem]
        report.splits[split] = _summary(splits[split], [look for _, look in looks[split]])
    for split, figures in report.splits.items():
        if "sharpness_blur" in figures and figures["sharpness_blur"] > figures["sharpness_sharp"]:
            report.problems.append(f"{split}: the blurred pictures are sharper than the sharp ones; are they swapped?")
        if len(figures["sizes"]) > 1 and kind != "photos":
            report.notes.append(f"{split}: {len(figures['sizes'])} sizes, most often {next(iter(figures['sizes']))}")
    report.problems += _leaks(looks)
    return report


def _summary(entries: list[Entry], looks: list[_Look]) -> dict:
    good = [look for look in looks if not look.problem]
    figures: dict = {
        "examples": len(entries),
        "sequences": len({entry.sequence for entry in entries}),
        "decoded": sum(not look.problem for look in looks),
        "sizes": dict(Counter(look.size for look in good).most_common()),
    }
    if good:
        figures["sharpness_sharp"] = float(np.mean([look.sharpness[1] for look in good]))
    if any(np.isfinite(look.sharpness[0]) for look in good):
        figures["sharpness_blur"] = float(np.mean([look.sharpness[0] for look in good]))
        # Of the mean squared errors' decibels; equal pictures are infinite and would be the mean alone.
        finite = [look.psnr for look in good if np.isfinite(look.psnr)]
        figures["psnr"] = float(np.mean(finite)) if finite else None
        figures["unblurred"] = int(np.isinf([look.psnr for look in good]).sum())
    return figures


def _look(entry: Entry) -> _Look:
    try:
        blur, sharp = entry.read()
        after = decode(sharp, f"{entry.name} (sharp)")
        before = decode(blur, f"{entry.name} (blur)") if blur is not None else None
    except UserError as error:
        return _Look(problem=str(error))
    if before is not None and before.shape != after.shape:
        sizes = (f"{pixels.shape[1]}x{pixels.shape[0]}" for pixels in (before, after))
        return _Look(problem=f"{entry.name}: blur and sharp differ in size: {' and '.join(sizes)}")
    grey, psnr, blurred = _grey(after), np.nan, np.nan
    if before is not None:
        full = [pixels / np.float32(np.iinfo(pixels.dtype).max) for pixels in (before, after)]
        error = float(np.mean((full[0] - full[1]) ** 2))
        psnr, blurred = (-10 * float(np.log10(error)) if error else np.inf), _sharpness(_grey(before))
    small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    bits = np.packbits(small[:, 1:] > small[:, :-1])
    return _Look(
        f"{grey.shape[1]}x{grey.shape[0]}",
        (blurred, _sharpness(grey)),
        psnr,
        int.from_bytes(bits.tobytes()),
        cv2.resize(grey, (16, 16), interpolation=cv2.INTER_AREA),
    )


def _grey(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint16:
        pixels = np.rint(pixels / 257).astype(np.uint8)
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)


def _sharpness(grey: np.ndarray) -> float:
    """What `metrics.laplacian_score` computes, without JAX, whose start and compiling cost more than the work."""
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())


_BITS, _GREY_LEVELS = 6, 3.0


def _leaks(looks: dict[str, list[tuple[Entry, _Look]]]) -> Iterable[str]:
    """Pictures that two splits share, nearly: difference hashes of at most 6 bits apart, confirmed on thumbnails.

    All against all, but a block at a time in numpy: 24000 against 3000 takes half a second.
    """
    usable = {s: [(e, k) for e, k in found if k.thumbnail is not None] for s, found in looks.items()}
    names = [split for split, found in usable.items() if found]
    hashes = {split: np.array([look.fingerprint for _, look in usable[split]], np.uint64) for split in names}
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            for start in range(0, len(hashes[one]), 512):
                block = hashes[one][start : start + 512, None] ^ hashes[other][None]
                for a, b in np.argwhere(np.bitwise_count(block) <= _BITS):
                    (first, look), (second, twin) = usable[one][start + a], usable[other][b]
                    difference = np.abs(np.subtract(look.thumbnail, twin.thumbnail, dtype=np.int16)).mean()
                    if difference <= _GREY_LEVELS:
                        yield f"{first.name} in {one} is nearly {second.name} in {other}"
