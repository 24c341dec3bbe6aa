"""What people watch: one JSON line per report, TensorBoard events, a line on the terminal."""

import contextlib
import errno
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]

from deblur_jax.files import write_whole


class Log:
    """`log.jsonl` and `tensorboard/` in the workdir; lines of a run that is taken up again are cut off at its step."""

    def __init__(self, workdir: Path, start: int, steps: int, *, writes: bool = True):
        self._writes, self._steps, self._start = writes, steps, start
        self._began = time.perf_counter()
        self._live = sys.stderr.isatty()
        if not writes:
            return
        self._path = workdir / "log.jsonl"
        (workdir / "tensorboard").mkdir(exist_ok=True)
        # Written here and now: the usual writer's thread dies of a full disk, and training would wait for it for ever.
        self._events = EventsWriter(str(workdir / "tensorboard" / "events"))
        self.back(start)

    def back(self, step: int) -> None:
        """What came after this step is dropped."""
        if not self._writes:
            return
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        write_whole(self._path, "".join(f"{line}\n" for line in lines if _step(line) <= step).encode())
        if lines:
            self._event(step + 1, session_log=SessionLog(status=SessionLog.START))

    def report(self, step: int, numbers: dict[str, float], *, loud: bool = False) -> None:
        """`loud` is a line of its own, on any terminal or none."""
        if not self._writes:
            return
        try:
            self._line(json.dumps({"step": step, **{k: _short(v) for k, v in numbers.items()}}) + "\n")
            for name, value in numbers.items():
                self._event(step, summary=summary.scalar(name, value))
            self._events.flush()
        except OSError as error:
            self.say(f"deblur train: step {step} was NOT logged: {error}")
        words = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        line = f"step {step}/{self._steps}  {self._left(step)}  {words}"
        if loud:
            print(f"\r\033[K{line}" if self._live else line, file=sys.stderr, flush=True)
        elif self._live:
            # A line that wraps could not be written over.
            line = line[: shutil.get_terminal_size().columns - 1]
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        if self._writes:
            self._event(step, summary=summary.image(name, pixels, dataformats="HWC"))
            self._events.flush()

    def _line(self, line: str) -> None:
        with self._path.open("ab", buffering=0) as file:
            before = file.tell()
            if file.write(line.encode()) < len(line):
                file.truncate(before)  # of a disk that became full in the middle
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _event(self, step: int, **what: Any) -> None:
        self._events.write_event(Event(wall_time=time.time(), step=step, **what))

    def say(self, words: str) -> None:
        if self._writes:
            print(("\r\033[K" if self._live else "") + words, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._writes:
            with contextlib.suppress(OSError):  # a full disk, which was complained of
                self._events.close()

    def _left(self, step: int) -> str:
        done = step - self._start
        seconds = (time.perf_counter() - self._began) / max(1, done) * (self._steps - step)
        hours, minutes = divmod(int(seconds) // 60, 60)
        return f"{hours} h {minutes:02} min left" if hours else f"{minutes} min {int(seconds) % 60:02} s left"


def _step(line: str) -> int | float:
    """Infinite for a line that a crash cut off."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):
        return float("inf")


def _short(value: Any) -> float:
    return float(f"{float(value):.6g}")
