"""Writes a dataset as sharded ArrayRecord that TFDS reads; the records hold the pictures' own bytes, or raw pixels.

Interrupted at any point it goes on with the next shard: a shard has its name only when it is whole, and what TFDS
and our readers look for (`dataset_info.json`) is written last. `plan.json` says what the shards are to be, so that
another dataset, or the same with other files, is never mixed in.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deblur_jax.errors import UserError
from deblur_jax.pipeline.checks import Tick
from deblur_jax.pipeline.extra import (
    ArrayRecordReader,
    ArrayRecordWriter,
    SplitDict,
    dataset_info,
    epath,
    tf_example_pb2,
    tfds,
)
from deblur_jax.pipeline.headers import Header
from deblur_jax.pipeline.pictures import decode, to_npy
from deblur_jax.pipeline.trees import Example
from deblur_jax.restore.images import read_bytes, write_whole

try:
    import fcntl
except ImportError:  # Windows: nothing keeps two commands apart there
    fcntl = None

__all__ = ["MakeBlur", "Source", "prepare", "shards_of"]

SHARD_BYTES = 256 * 2**20
# One record a chunk, for random access; not compressed, because the pictures are.
_WRITER = "group_size:1,uncompressed"

MakeBlur = Callable[[bytes, Example], bytes]


@dataclass(frozen=True)
class Source:
    """What to write: the examples in record order, the headers of their files, and what TFDS should say of them."""

    name: str
    splits: dict[str, list[Example]]
    headers: dict[Path, Header]
    make_blur: MakeBlur | None = None  # of the sharp picture, for examples without a blurred one
    raw: bool = False  # decoded pixels of 8 bits in NumPy's format, instead of the files' own bytes
    config: str = ""
    version: str = "1.0.0"
    description: str = ""
    citation: str = ""
    homepage: str = ""
    license: str = ""
    metadata: dict = field(default_factory=dict)

    @property
    def has_blur(self) -> bool:
        first = next(example for examples in self.splits.values() for example in examples)
        return first.blur is not None or self.make_blur is not None


def shards_of(source: Source, shards: int | None) -> dict[str, list[list[Example]]]:
    """Each split cut into shards of neighbours: as many as asked for, or of about 256 MiB."""
    cut = {}
    for split, examples in source.splits.items():
        wanted = shards or -(-sum(_size(source, example) for example in examples) // SHARD_BYTES)
        count = max(1, min(wanted, len(examples)))
        cut[split] = [examples[i * len(examples) // count : (i + 1) * len(examples) // count] for i in range(count)]
    return cut


def prepare(
    source: Source, out: Path, *, shards: int | None = None, overwrite: bool = False, tick: Tick | None = None
) -> Path:
    """Writes what is not there yet; `tick` hears how many bytes are done."""
    with _alone(out):
        return _prepare(source, out, shards, overwrite, tick)


def _prepare(source: Source, out: Path, shards: int | None, overwrite: bool, tick: Tick | None) -> Path:
    cut = shards_of(source, shards)
    files = {
        split: [_shard_path(source, out, split, i, len(shards)) for i in range(len(shards))]
        for split, shards in cut.items()
    }
    every = [(path, examples) for split in cut for path, examples in zip(files[split], cut[split], strict=True)]
    plan = {
        "dataset": source.name,
        "config": source.config,
        "pictures": "raw" if source.raw else "encoded",
        "examples": _digest([[s, e.sequence, e.frame, e.name] for s, found in source.splits.items() for e in found]),
        "shards": {path.name: _digest([[e.name, *_lengths(source, e)] for e in examples]) for path, examples in every},
    }
    _start(out, plan, overwrite=overwrite)
    total = sum(_size(source, example) for _, examples in every for example in examples)
    left = sum(_size(source, e) for path, examples in every if not path.exists() for e in examples)
    if left and (free := shutil.disk_usage(out).free) < 1.01 * left:
        raise UserError(f"{out}: {_gigabytes(free)} are free and {_gigabytes(left)} more are to be written")

    done = 0
    with ThreadPoolExecutor(4) as pool:
        for path, examples in every:
            size = sum(_size(source, example) for example in examples)
            if not path.exists():

                def tick_on(now: int, before: int = done) -> None:
                    if tick:
                        tick(before + now, total)

                _write_shard(path, examples, source, pool, tick_on)
            done += size
            if tick:
                tick(done, total)
    _write_metadata(source, out, cut, files, _features(source))
    return out


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """The directory, made if need be, for this process alone: two would write files of the same names."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        # The directory itself is locked, so that nothing is left in it.
        lock = os.open(out, os.O_RDONLY) if fcntl else None
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror}") from None
    try:
        if fcntl and lock is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"{out}: another command is writing it; wait, or name another directory") from None
            except OSError:
                pass  # a file system without locks
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _start(out: Path, plan: dict, *, overwrite: bool) -> None:
    """Makes sure that the directory is empty, or that what is in it belongs to this plan."""
    path = out / "plan.json"
    text = json.dumps(plan, indent=1)
    try:
        if not path.exists():
            if any(out.iterdir()):
                raise UserError(f"{out}: is not empty and holds no earlier `deblur data prepare`; name a new directory")
        elif overwrite:
            # First what makes it a dataset, so that half of it is none.
            for name in ("dataset_info.json", "frames.json", "features.json", "metadata.json"):
                (out / name).unlink(missing_ok=True)
            for old in out.glob("*.array_record-*"):
                old.unlink()
        else:
            _compare(out, json.loads(path.read_text()), plan)
            (out / "dataset_info.json").unlink(missing_ok=True)
        for part in out.glob(".*.part"):
            part.unlink()
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):  # no JSON, or none of ours
        raise UserError(f"{path}: damaged; --overwrite starts anew") from None
    write_whole(path, text.encode())


def _compare(out: Path, before: dict, plan: dict) -> None:
    """Unfinished shards may have changed (somebody repaired a file); finished ones and the list may not."""
    again = "name another directory, or start anew with --overwrite"
    for key, what in (("dataset", "dataset"), ("config", "config"), ("pictures", "pictures")):
        if before[key] != plan[key]:
            raise UserError(f"{out}: holds {what} {before[key] or '(none)'}, not {plan[key] or '(none)'}; {again}")
    if before["shards"].keys() != plan["shards"].keys():
        counts = f"{len(before['shards'])} shards, not {len(plan['shards'])}"
        raise UserError(f"{out}: was begun with {counts}; {again}")
    changed = [n for n, digest in plan["shards"].items() if (out / n).exists() and before["shards"][n] != digest]
    if before["examples"] != plan["examples"] or changed:
        raise UserError(f"{out}: was begun with other files than there are now; {again}")


def _write_shard(
    path: Path, examples: list[Example], source: Source, pool: ThreadPoolExecutor, tick: Callable[[int], None]
) -> None:
    part = path.with_name(f".{path.name}.part")
    writer = None
    try:
        writer = ArrayRecordWriter(str(part), _WRITER)
        written = 0
        # Sixteen examples read ahead: some ten megabytes each at the most.
        for start in range(0, len(examples), 16):
            ahead = examples[start : start + 16]
            for example, record in zip(ahead, pool.map(lambda e: _record(source, e), ahead), strict=True):
                writer.write(record)
                written += _size(source, example)
                tick(written)
        writer.close()
        writer = None
        reader = ArrayRecordReader(str(part))
        count = reader.num_records()
        reader.close()
        if count != len(examples):
            raise UserError(f"{path}: {count} of {len(examples)} records arrived; is the disk full?")
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except (RuntimeError, OSError) as error:
        # array_record raises RuntimeError with the system's words in it.
        reason = os.strerror(28) if os.strerror(28) in str(error) else str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be written: {reason}; what is finished stays, run again to go on") from None
    finally:
        if writer is not None:
            # Closing a writer whose file cannot be written raises once more.
            try:
                writer.close()
            except RuntimeError as error:
                del error
        part.unlink(missing_ok=True)


def _record(source: Source, example: Example) -> bytes:
    fields = {"sharp": _read(source, example.sharp)}
    if example.blur is not None:
        fields["blur"] = _read(source, example.blur)
    elif source.make_blur is not None:
        fields["blur"] = source.make_blur(fields["sharp"], example)
    if source.raw:
        fields = {name: to_npy(decode(data, example.name, silent=False)) for name, data in fields.items()}
    fields |= {"sequence": example.sequence.encode(), "name": example.name.encode()}
    proto = tf_example_pb2.Example()  # pyright: ignore[reportAttributeAccessIssue]
    for name, value in fields.items():
        proto.features.feature[name].bytes_list.value.append(value)
    proto.features.feature["frame"].int64_list.value.append(example.frame)
    # As TFDS would write it, but always in the same order: its own differs from process to process.
    return proto.SerializeToString(deterministic=True)


def _read(source: Source, path: Path) -> bytes:
    """The file's bytes, as many as were there when the files were looked at. PNG's own checksums cost little."""
    data = read_bytes(path)
    if len(data) != source.headers[path].length:
        raise UserError(f"{path}: has changed since it was checked; run again")
    if data.startswith(b"\x89PNG"):
        at = 8
        while at + 12 <= len(data):
            end = at + 8 + int.from_bytes(data[at : at + 4])
            if zlib.crc32(memoryview(data)[at + 4 : end]) != int.from_bytes(data[end : end + 4]):
                raise UserError(f"{path}: the picture is damaged (its checksum is wrong); replace it and run again")
            if data[at + 4 : at + 8] == b"IEND":
                break
            at = end + 4
    return data


def _features(source: Source):
    image: dict[str, Any] = {}
    for name in ("blur", "sharp") if source.has_blur else ("sharp",):
        if source.raw:
            image[name] = tfds.features.Text()  # bytes, that is, to TFDS without TensorFlow
            continue
        headers = [
            source.headers[path]
            for examples in source.splits.values()
            for example in examples
            if (path := getattr(example, name)) is not None
        ]
        formats = {header.format for header in headers} or {"jpeg"}
        depth = np.uint16 if any(header.depth > 8 for header in headers) else np.uint8
        # TFDS knows these two; of others, and of mixtures, it asks the bytes.
        encoding = formats.pop() if formats in ({"png"}, {"jpeg"}) else None
        if depth is np.uint16 and encoding == "jpeg":
            encoding = None
        image[name] = tfds.features.Image(shape=(None, None, 3), dtype=depth, encoding_format=encoding)
    text = {"sequence": tfds.features.Text(), "frame": np.int32, "name": tfds.features.Text()}
    return tfds.features.FeaturesDict({**image, **text})


def _write_metadata(source: Source, out: Path, cut, files, features) -> None:
    template = tfds.core.ShardedFileTemplate(
        data_dir=epath.Path(out), dataset_name=source.name, filetype_suffix="array_record"
    )
    infos = [
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=[len(examples) for examples in shards],
            num_bytes=sum(path.stat().st_size for path in files[split]),
            filename_template=template.replace(split=split),
        )
        for split, shards in cut.items()
    ]
    identity = dataset_info.DatasetIdentity(
        name=source.name,
        version=tfds.core.Version(source.version),
        data_dir=str(out),
        module_name="",
        config_name=source.config or None,
    )
    info = tfds.core.DatasetInfo(
        builder=identity,
        features=features,
        description=source.description,
        citation=source.citation,
        homepage=source.homepage,
        license=source.license,
        disable_shuffling=True,
        metadata=tfds.core.MetadataDict(source.metadata),
    )
    info.set_file_format("array_record")
    info.set_splits(SplitDict(infos))
    frames = {split: [[e.sequence, e.frame] for e in examples] for split, examples in source.splits.items()}
    write_whole(out / "frames.json", json.dumps(frames).encode())
    with tempfile.TemporaryDirectory() as folder:
        info.write_to_directory(folder)
        # dataset_info.json last: it is what says that all the rest is there.
        for path in sorted(Path(folder).iterdir(), key=lambda path: path.name == "dataset_info.json"):
            write_whole(out / path.name, path.read_bytes())


def _shard_path(source: Source, out: Path, split: str, index: int, count: int) -> Path:
    return out / f"{source.name}-{split}.array_record-{index:05d}-of-{count:05d}"


def _headers(source: Source, example: Example) -> list[Header]:
    return [source.headers[path] for path in (example.blur, example.sharp) if path]


def _lengths(source: Source, example: Example) -> list[int]:
    """Of the files themselves: decoded, other pictures of the same size would count as the same."""
    return [header.length for header in _headers(source, example)]


def _size(source: Source, example: Example) -> int:
    """What the record takes; a blur that is made here is as large as the sharp picture, at the most."""
    sizes = [3 * h.width * h.height + 128 if source.raw else h.length for h in _headers(source, example)]
    return sum(sizes) * (2 if example.blur is None and source.make_blur else 1) + 200


def _digest(value) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.3g} GB"
