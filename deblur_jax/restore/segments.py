"""What is encoded so far: segments in a hidden folder beside the output, from which an interrupted job goes on.

Every segment is made by an encoder of its own from a fixed number of frames, and starts with a key frame. So a job
that was interrupted and taken up gives its encoder what one that was not would have given it.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from deblur_jax.errors import UserError
from deblur_jax.files import write_whole

__all__ = ["Segments", "Stored", "decode_times"]

LENGTH = 120  # frames


class Stored(NamedTuple):
    pts: int
    key: bool
    data: bytes


@dataclass
class Segments:
    """`job` says all on which the frames depend; segments of another job are thrown away."""

    folder: Path
    job: dict[str, Any]
    states: list[dict[str, Any]] = field(default_factory=list)  # what each one ends with

    @classmethod
    def open(cls, target: Path, job: dict[str, Any]) -> "Segments":
        found = cls(target.parent / f".{target.name}.deblur", json.loads(json.dumps(job)))
        said = found.folder / "job.json"
        try:
            same = json.loads(said.read_text()) == found.job
        except (OSError, ValueError):
            same = False
        try:
            if not same:
                shutil.rmtree(found.folder, ignore_errors=True)
                found.folder.mkdir(parents=True)
        except OSError as error:
            raise UserError(f"{found.folder}: cannot be made: {error.strerror}") from None
        if not same:
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
