"""Where pictures come from: prepared datasets, plain folders, clips. Random access; nothing is decoded here but video.

A source has a length and gives an `Item` for each index, from any thread or process: of one picture, or of
`frames` neighbouring ones of a sequence.
"""

import bisect
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from deblur_jax.errors import UserError
from deblur_jax.files import local
from deblur_jax.pipeline import trees
from deblur_jax.restore.images import read_bytes

if TYPE_CHECKING:
    from deblur_jax.restore.video_io import Colours

Picture = bytes | np.ndarray  # encoded, or decoded uint8 RGB


class Item(NamedTuple):
    """Neighbouring frames, the middle one being what the item is about."""

    name: str
    sharp: tuple[Picture, ...]
    blur: tuple[Picture, ...] | None  # None: made later, from the sharp ones


@runtime_checkable
class Source(Protocol):
    paired: bool

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Item: ...


def open_source(folder: str | Path, *, split: str = "train", frames: int = 1) -> Source:
    """Whatever the folder holds: a prepared dataset, `blur/` and `sharp/`, photographs or clips."""
    folder = local(folder)
    kind, splits = _listed(folder)
    listed = _of_split(splits, split, folder)
    match kind:
        case "prepared":
            return Prepared(folder, split=split, frames=frames)
        case "clips":
            return Clips(listed, frames=frames)
        case _:
            return Folder(listed, frames=frames)


def splits_of(folder: Path) -> list[str]:
    """The splits of whatever the folder holds, but for empty ones."""
    _, splits = _listed(folder)
    return [split for split, listed in splits.items() if listed]


def _listed(folder: Path) -> tuple[str, dict[str, list]]:
    """The kind of the folder, and what each split has."""
    kind = trees.kind_of(folder)
    listing: dict[str, Callable[[Path], dict[str, list]]] = {
        "prepared": frames_of,
        "pairs": trees.pairs,
        "photos": trees.photos,
        "clips": trees.clips,
    }
    return kind, listing[kind](folder)


def _of_split(splits: dict[str, list], split: str, folder: Path) -> list:
    if not splits.get(split):
        raise UserError(f"{folder}: no split {split}; there are {', '.join(name for name in splits if splits[name])}")
    return splits[split]


def windows(sequences: Sequence[tuple[str, int]], frames: int, name: str | Path) -> list[range]:
    """The runs of `frames` consecutive frames of one sequence; `sequences` has the place of each record in order."""
    if frames < 1 or frames % 2 == 0:
        raise UserError(f"frames must be odd, so that there is a middle one, not {frames}")
    found = []
    for start in range(len(sequences) - frames + 1):
        (first, at), (last, end) = sequences[start], sequences[start + frames - 1]
        if first == last and end - at == frames - 1:
            found.append(range(start, start + frames))
    if not found:
        raise UserError(f"{name}: no {frames} consecutive frames of one sequence")
    return found


class Folder:
    """Listed files, each read when it is asked for."""

    def __init__(self, examples: Sequence[trees.Example], *, frames: int = 1):
        if not examples:
            raise UserError("no pictures to read")
        self._examples = list(examples)
        self.paired = self._examples[0].blur is not None
        places = [(example.sequence, example.frame) for example in examples]
        self._windows = windows(places, frames, self._examples[0].sharp.parent)

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> Item:
        window = [self._examples[i] for i in self._windows[index]]
        sharp = tuple(read_bytes(example.sharp) for example in window)
        blur = tuple(read_bytes(example.blur) for example in window if example.blur is not None)
        return Item(str(window[len(window) // 2].sharp), sharp, blur if self.paired else None)


def frames_of(folder: Path) -> dict[str, list[tuple[str, int]]]:
    """The sequence and the frame of each record of a prepared dataset, by split."""
    try:
        found = json.loads((folder / "frames.json").read_text())
        return {split: [(str(sequence), int(frame)) for sequence, frame in listed] for split, listed in found.items()}
    except OSError as error:
        raise UserError(f"{folder}: not a prepared dataset: frames.json: {error.strerror}") from None
    except (ValueError, TypeError, AttributeError):
        raise UserError(f"{folder}: frames.json is damaged; prepare the dataset again") from None


class Records:
    """The records of one split of a prepared dataset, their pictures encoded; `places` has what `frames_of` says."""

    def __init__(self, folder: Path, split: str, places: Sequence[tuple[str, int]]):
        from deblur_jax.pipeline.extra import tfds, undecoded

        try:
            builder: Any = tfds.builder_from_directory(str(folder))
        except Exception as error:  # TFDS, protobuf and JSON have each their own
            what = "dataset_info.json or features.json is damaged"
            raise UserError(f"{folder}: {what}; prepare the dataset again ({_reason(error)})") from None
        info = builder.info.splits.get(split)
        if info is None or info.num_examples != len(places):
            there = info.num_examples if info else "no"
            raise UserError(f"{folder}: {split} has {there} records, frames.json names {len(places)}; prepare it again")
        self.paired = "blur" in builder.info.features
        self._split, self._places = split, places
        self._shards, self._ends = list(map(str, info.filepaths)), list(itertools.accumulate(info.shard_lengths))
        for path in self._shards:
            if not Path(path).is_file():
                raise UserError(f"{path}: missing; prepare the dataset again")
        self._source = builder.as_data_source(split, decoders=undecoded(builder))

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        where = f"{self._shards[bisect.bisect_right(self._ends, index)]}: record {index} of {self._split}"
        try:
            record = self._source[index]
        except Exception as error:  # array_record and protobuf have each their own
            raise UserError(f"{where}: cannot be read; prepare the dataset again ({_reason(error)})") from None
        if (_text(record["sequence"]), record["frame"]) != self._places[index]:
            raise UserError(f"{where}: is not the frame that frames.json names; prepare the dataset again")
        return record


class Prepared:
    """What `deblur data prepare` wrote."""

    def __init__(self, folder: str | Path, *, split: str = "train", frames: int = 1):
        self._folder, self._split = Path(folder), split
        places = _of_split(frames_of(self._folder), split, self._folder)
        self._records = Records(self._folder, split, places)
        self.paired = self._records.paired
        self._windows = windows(places, frames, folder)

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> Item:
        records = [self._records[i] for i in self._windows[index]]
        name = f"{self._folder}, {self._split}, {_text(records[len(records) // 2]['name'])}"
        sharp = tuple(record["sharp"] for record in records)
        return Item(name, sharp, tuple(record["blur"] for record in records) if self.paired else None)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class Clips:
    """Frames of video files, decoded from the key frame before.

    A key frame may be hundreds of frames back: for long training take the frames out first.
    """

    paired = False

    def __init__(self, paths: Sequence[Path], *, frames: int = 1):
        self._paths = list(paths)
        self._times, self._colours = zip(*map(_frame_times, self._paths), strict=True)
        counts = [max(0, len(times) - frames + 1) for times in self._times]
        windows([("", i) for i in range(max(map(len, self._times), default=0))], frames, self._paths[0].parent)
        self._ends = list(itertools.accumulate(counts))
        self._frames = frames

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(index)
        clip = bisect.bisect_right(self._ends, index)
        start = index - (self._ends[clip - 1] if clip else 0)
        times = self._times[clip][start : start + self._frames]
        name = f"{self._paths[clip]}, frame {start + self._frames // 2}"
        return Item(name, tuple(_frames_at(self._paths[clip], times, self._colours[clip], name)), None)


def _frame_times(path: Path) -> tuple[list[int], "Colours"]:
    """The presentation times of all frames, without decoding them, and the clip's colours."""
    import av

    from deblur_jax.restore import video_io

    try:
        with av.open(video_io.url(path)) as container:
            packets = container.demux(video_io.main_stream(container, path))
            times = sorted(packet.pts for packet in packets if packet.pts is not None and not packet.is_discard)
    except video_io.FAILURES as error:
        raise UserError(f"{path}: not a readable video: {_reason(error)}") from None
    return times, video_io.probe(path).colours


def _frames_at(path: Path, times: Sequence[int], colours: "Colours", name: str) -> list[np.ndarray]:
    import av

    from deblur_jax.restore import video_io

    wanted, found = set(times), {}
    try:
        with av.open(video_io.url(path)) as container:
            stream = video_io.main_stream(container, path)
            stream.thread_type = "SLICE"  # the loader has threads of its own
            container.seek(times[0], stream=stream)
            for frame in container.decode(stream):
                if frame.pts in wanted:
                    # The colours that `deblur restore` will see.
                    pixels = video_io.to_rgb(frame, colours)
                    deep = pixels.dtype == np.uint16
                    found[frame.pts] = np.rint(pixels / np.float32(257)).astype(np.uint8) if deep else pixels
                if len(found) == len(wanted) or (frame.pts is not None and frame.pts > times[-1]):
                    break
    except video_io.FAILURES as error:
        raise UserError(f"{name}: cannot be decoded: {_reason(error)}") from None
    if len(found) < len(wanted):
        raise UserError(f"{name}: the video has a gap or is damaged there")
    return [found[time] for time in times]


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or (str(error) or type(error).__name__).splitlines()[0]
