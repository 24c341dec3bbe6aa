"""What is encoded so far: segments in a hidden folder beside the output, from which an interrupted job goes on.

Every segment is made by an encoder of its own from a fixed number of frames, and starts with a key frame. So a job
that was interrupted and taken up gives its encoder what one that was not would have given it.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from jaxtyping import Int

from deblur_jax.errors import UserError
from deblur_jax.files import make_folder, write_whole

try:
    import fcntl
except ImportError:  # Windows: nothing keeps two commands apart there
    fcntl = None

__all__ = ["Segments", "Stored", "decode_times"]

LENGTH = 120  # frames
_LOCK = "lock"


class Stored(NamedTuple):
    pts: int
    key: bool
    data: bytes


@dataclass
class Segments:
    """`job` says all on which the frames depend; segments of another job are thrown away. As long as they are open no
    other process can open those of the same target."""

    folder: Path
    job: dict[str, Any]
    states: list[dict[str, Any]] = field(default_factory=list)  # what each one ends with
    lock: IO[bytes] | None = None

    @classmethod
    def open(cls, target: Path, job: dict[str, Any]) -> "Segments":
        found = cls(target.parent / f".{target.name}.deblur", json.loads(json.dumps(job)))
        found.lock = _locked(found.folder, target)
        said = found.folder / "job.json"
        try:
            same = json.loads(said.read_text()) == found.job
        except (OSError, ValueError):
            same = False
        if not same:
            try:
                for old in found.folder.iterdir():
                    if old.name != _LOCK:
                        old.unlink()
            except OSError as error:
                raise UserError(f"{found.folder}: cannot be emptied: {error.strerror}") from None
            write_whole(said, json.dumps(found.job).encode())
        while (path := found._path(len(found.states))).exists():
            found.states.append(_header(path)["state"])
        return found

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06}.segment"

    def add(self, packets: list[Stored], state: dict[str, Any]) -> None:
        """`state` is what is needed to go on behind it."""
        times = [[p.pts, p.key, len(p.data)] for p in packets]
        head = json.dumps({"state": state, "packets": times}).encode() + b"\n"
        write_whole(self._path(len(self.states)), head + b"".join(p.data for p in packets))
        self.states.append(state)

    def keep(self, count: int) -> None:
        """Throws away those behind the first `count`."""
        while len(self.states) > count:
            self.states.pop()
            self._path(len(self.states)).unlink()

    def times(self) -> Int[np.ndarray, " n"]:
        """Of all packets, in the order in which they are decoded."""
        each = [[pts for pts, _, _ in _header(self._path(n))["packets"]] for n in range(len(self.states))]
        return np.concatenate([np.array(times, np.int64) for times in each] or [np.empty(0, np.int64)])

    def packets(self) -> Iterator[Stored]:
        for number in range(len(self.states)):
            with self._path(number).open("rb") as file:
                for pts, key, size in json.loads(file.readline())["packets"]:
                    yield Stored(pts, key, file.read(size))

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """What is finished stays; without a single segment the folder goes."""
        if not self.states:
            self.remove()
        if self.lock is not None:
            self.lock.close()


def _locked(folder: Path, target: Path) -> IO[bytes]:
    """The folder, made if need be, for this process alone until the file is closed."""
    while True:
        make_folder(folder)
        try:
            file = (folder / _LOCK).open("wb")
        except FileNotFoundError:
            continue  # another process has just finished and removed it
        except OSError as error:
            raise UserError(f"{folder}: cannot be written: {error.strerror}") from None
        if fcntl is None:
            return file
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise UserError(f"{target}: another command is writing it") from None
        except OSError:
            return file  # a file system without locks
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), (folder / _LOCK).stat()):
                return file
        file.close()


def _header(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return json.loads(file.readline())


def decode_times(shown: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """When each packet is decoded: the times of showing in order, as late as every packet allows."""
    if not len(shown):
        return shown
    ordered = np.sort(shown)
    # A packet that is shown at place p and decoded at place n would need a delay of n - p.
    delay = int((np.arange(len(shown)) - np.searchsorted(ordered, shown)).max())
    step = max(1, int(ordered[1] - ordered[0])) if len(ordered) > 1 else 1
    return np.concatenate([ordered[0] - step * np.arange(delay, 0, -1), ordered])[: len(shown)]
