"""Live video: the newest frame through the network within a budget of time; what comes too late is dropped."""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deblur_jax.errors import UserError

__all__ = ["Achieved", "Live", "Recording", "open_source"]

_WAITS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # seconds before a source is opened again, the last one for ever


@dataclass
class Achieved:
    """What became of the frames so far."""

    arrived: int = 0
    shown: int = 0
    dropped: int = 0  # a newer one was there, or it was older than the budget allows
    reopened: int = 0
    latencies: list[float] = field(default_factory=list)  # seconds from arriving to being shown, of the last 300
    since: float = field(default_factory=time.monotonic)

    @property
    def rate(self) -> float:
        return self.shown / max(1e-9, time.monotonic() - self.since)

    def late(self, seconds: float) -> None:
        self.latencies = [*self.latencies[-299:], seconds]

    def as_dict(self) -> dict[str, Any]:
        numbers = self.latencies or [0.0]
        return {
            "arrived": self.arrived,
            "shown": self.shown,
            "dropped": self.dropped,
            "reopened": self.reopened,
            "frames_per_second": round(self.rate, 2),
            "latency_median": round(float(np.median(numbers)), 4),
            "latency_worst": round(max(numbers), 4),
        }


@dataclass(frozen=True)
class _Arrived:
    picture: np.ndarray  # RGB, 8 bits
    at: float  # time.monotonic()


class Live:
    """Frames arrive in a thread and are kept one at a time: the network always gets the newest one.

    `opened` gives an object with OpenCV's `read()` and `release()`, or None if the source is not there. A source that
    dies is opened again with a growing wait, unless it ends for good (`ends`: a file); `lost` hears when one is waited
    for. After `seconds` it is over, whether frames come or not.
    """

    def __init__(
        self,
        opened: Callable[[], Any | None],
        restore: Callable[[np.ndarray], np.ndarray],
        *,
        budget: float,
        ends: bool = False,
        waits: tuple[float, ...] = _WAITS,
        seconds: float | None = None,
        lost: Callable[[], None] = lambda: None,
    ) -> None:
        self.achieved = Achieved()
        self.over = threading.Event()  # stop, or nothing more comes
        self._opened, self._restore, self._lost, self._seconds = opened, restore, lost, seconds
        self._budget, self._ends, self._waits = budget, ends, waits
        self._newest: _Arrived | None = None
        self._failed: Exception | None = None  # in the thread
        self._there = threading.Condition()
        self._takes = 0.0  # seconds for a frame, of late
        self._compiled: tuple[int, ...] = ()  # the size of which the network is compiled
        self._reader = threading.Thread(target=self._read, daemon=True)

    def run(self, show: Callable[[np.ndarray, np.ndarray, float], None]) -> Achieved:
        """`show` gets before, after and the time of arriving, until the source ends or `over` is set."""
        until = None if self._seconds is None else time.monotonic() + self._seconds
        self._reader.start()
        try:
            while (frame := self._next(until)) is not None:
                begun = time.monotonic()
                # A fresh frame is never late, however slow the network: then nothing at all would be shown.
                if begun - frame.at > self._budget - min(self._takes, self._budget / 2):
                    self.achieved.dropped += 1
                    continue
                after = self._restore(frame.picture)
                if frame.picture.shape != self._compiled:
                    self._compiled = frame.picture.shape
                    if self._newer():  # while it was compiled
                        self.achieved.dropped += 1
                        continue
                else:
                    taken = time.monotonic() - begun
                    self._takes = 0.8 * self._takes + 0.2 * taken if self._takes else taken
                show(frame.picture, after, frame.at)
                self.achieved.shown += 1
                self.achieved.late(time.monotonic() - frame.at)
                if until is not None and time.monotonic() >= until:
                    break
        finally:
            self.over.set()
            self._reader.join(timeout=5)
        if isinstance(self._failed, UserError):
            raise self._failed
        if self._failed is not None:
            said = (str(self._failed).splitlines() or [""])[0]
            raise UserError(f"the source cannot be read: {type(self._failed).__name__}: {said}") from self._failed
        return self.achieved

    def _newer(self) -> bool:
        with self._there:
            return self._newest is not None

    def _next(self, until: float | None) -> _Arrived | None:
        with self._there:
            while self._newest is None:
                if self.over.is_set() or (until is not None and time.monotonic() >= until):
                    return None
                self._there.wait(0.1)
            frame, self._newest = self._newest, None
            return frame

    def _read(self) -> None:
        try:
            self._keep_reading()
        except Exception as error:
            self._failed = error
        finally:
            self.over.set()

    def _keep_reading(self) -> None:
        failures, waiting = 0, False
        while not self.over.is_set():
            source = self._opened()
            came = False
            if source is not None:
                with contextlib.suppress(cv2.error):
                    came = self._drain(source)
                with contextlib.suppress(cv2.error):
                    source.release()
            if self._ends:
                break
            failures = 0 if came else failures + 1
            if came or not waiting:
                self._lost()
            waiting = True
            self.over.wait(self._waits[min(failures, len(self._waits) - 1)])
            self.achieved.reopened += not self.over.is_set()

    def _drain(self, source: Any) -> bool:
        """Until it gives no more; whether any frame came."""
        came = False
        while not self.over.is_set():
            there, frame = source.read()
            if not there or frame is None:
                break
            came = True
            picture = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            with self._there:
                self.achieved.arrived += 1
                self.achieved.dropped += self._newest is not None
                self._newest = _Arrived(picture, time.monotonic())
                self._there.notify()
        return came


class _Paced:
    """A file in real time: each frame comes when its time has come."""

    def __init__(self, capture: Any, rate: float) -> None:
        self._capture, self._step = capture, 1 / rate
        self._next = time.monotonic()

    def read(self) -> tuple[bool, Any]:
        there, frame = self._capture.read()
        time.sleep(max(0.0, self._next - time.monotonic()))
        self._next += self._step
        return there, frame

    def release(self) -> None:
        self._capture.release()


def open_source(name: str) -> tuple[Callable[[], Any | None], bool]:
    """A camera's number, an address, or a file that is played in real time; and whether it ends for good."""
    from deblur_jax.restore.images import silenced_stderr

    camera = name.isascii() and name.isdigit()
    if camera and len(name) > 4:  # OpenCV's kinds of cameras are thousands and hundreds of the number
        raise UserError(f"{name}: no camera has a number above 9999")
    file = not camera and "://" not in name
    if file and not Path(name).is_file():
        raise UserError(f"{name}: no such file; a camera is a number, a stream an address such as rtsp://...")

    def opened() -> Any | None:
        with silenced_stderr():
            capture = cv2.VideoCapture(int(name) if camera else name)
        if not capture.isOpened():
            return None
        if not file:
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # old frames in a buffer are latency
            return capture
        rate = capture.get(cv2.CAP_PROP_FPS)
        return _Paced(capture, rate if 0 < rate < 1000 else 25.0)

    return opened, file


class Recording:
    """Writes what is shown, with the times of showing, playable up to wherever it is stopped."""

    def __init__(self, path: Path) -> None:
        import av
        from av.container import Flags

        from deblur_jax.restore.inputs import WRITABLE_CLIPS
        from deblur_jax.restore.video_io import FAILURES, reason, url

        if path.suffix.lower() not in WRITABLE_CLIPS:
            raise UserError(f"{path}: recordings are {' '.join(WRITABLE_CLIPS)}")
        container = WRITABLE_CLIPS[path.suffix.lower()]
        # Fragments: a file that is playable although nothing comes behind.
        options = {"movflags": "frag_keyframe+empty_moov"} if container in ("mp4", "mov") else {}
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise UserError(f"{path}: cannot be written")

        def opened() -> Any:
            try:
                out = av.open(url(path), "w", format=container, options=options)
            except FAILURES as error:
                raise UserError(f"{path}: cannot be written: {reason(error)}") from None
            out.flags |= Flags.flush_packets.value
            return out

        self._opened, self._out = opened, None  # what is there stays until a frame comes
        self._codec = "libvpx-vp9" if container == "webm" else "libx264"
        self._path, self._first, self._last = path, 0.0, -1
        self._size = (0, 0)

    def add(self, picture: np.ndarray, at: float) -> None:
        import av

        from deblur_jax.restore.video_io import FAILURES, Colours, from_rgb, reason

        height, width = picture.shape[:2]
        if self._out is None:
            if min(height, width) < 2:
                raise UserError(f"{self._path}: frames of {width}x{height} are too small to record; 2x2 is the least")
            self._out: Any = self._opened()
            speed = (
                {"preset": "veryfast", "tune": "zerolatency"} if self._codec == "libx264" else {"deadline": "realtime"}
            )
            self._stream: Any = self._out.add_stream(self._codec, rate=30, options={"crf": "20", "g": "30"} | speed)
            self._size = width - width % 2, height - height % 2
            self._stream.width, self._stream.height = self._size
            self._stream.pix_fmt, self._stream.codec_context.max_b_frames = "yuv420p", 0
            context = self._stream.codec_context
            context.color_range, context.color_primaries, context.color_trc, context.colorspace = 1, 1, 1, 1
            self._stream.time_base = context.time_base = Fraction(1, 1000)
            self._first = at
        if (width - width % 2, height - height % 2) != self._size:
            picture = cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA)
        cut = np.ascontiguousarray(picture[: self._size[1], : self._size[0]])
        frame: av.VideoFrame = from_rgb(cut, "yuv420p", Colours(1, 1, 1, 1))
        frame.pts = self._last = max(self._last + 1, round(1000 * (at - self._first)))
        frame.time_base = Fraction(1, 1000)  # the stream's own may have become another one with the header
        try:
            self._out.mux(self._stream.encode(frame))
        except FAILURES as error:
            raise UserError(f"{self._path}: cannot be written: {reason(error)}") from None

    def close(self) -> None:
        from deblur_jax.restore.video_io import FAILURES

        if self._out is None:
            return
        with contextlib.suppress(*FAILURES):
            self._out.mux(self._stream.encode(None))
        with contextlib.suppress(*FAILURES):
            self._out.close()
