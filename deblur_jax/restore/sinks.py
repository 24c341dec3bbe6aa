"""Where restored frames go: encoded into a clip, or numbered pictures."""

import contextlib
import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import av
import numpy as np

from deblur_jax import __version__
from deblur_jax.errors import UserError
from deblur_jax.files import make_folder
from deblur_jax.restore import encoders, numbered, video_io
from deblur_jax.restore.encoders import Encoding
from deblur_jax.restore.inputs import is_pattern
from deblur_jax.restore.join import Cut, join
from deblur_jax.restore.options import Options
from deblur_jax.restore.restorer import Restorer
from deblur_jax.restore.segments import LENGTH, Segments, Stored
from deblur_jax.restore.video_io import Clip, Decoded

__all__ = ["ClipSink", "PictureSink", "Sink"]


class _Encoder:
    """Frames into segments, each by an encoder of its own."""

    def __init__(self, encoding: Encoding, segments: Segments) -> None:
        self._encoding, self.segments = encoding, segments
        self._context: Any = None
        self._times: list[int] = []
        self._packets: list[Stored] = []

    def add(self, picture: av.VideoFrame, pts: int, state: dict[str, Any]) -> None:
        if self._context is None:
            self._context = encoders.opened(self._encoding)
        picture.pts, picture.time_base = len(self._times), 1 / self._encoding.rate
        picture.pict_type = 0  # the encoder decides anew which frames are key frames
        self._times.append(pts)
        self._keep(self._context.encode(picture))
        if len(self._times) == LENGTH:
            self.close_segment(state)

    def _keep(self, packets: list[Any]) -> None:
        for packet in packets:
            self._packets.append(Stored(self._times[packet.pts], packet.is_keyframe, bytes(packet)))

    def close_segment(self, state: dict[str, Any]) -> None:
        if self._context is not None:
            self._keep(self._context.encode(None))
        self._context = None
        self.segments.add(self._packets, state)
        self._packets, self._times = [], []


class ClipSink:
    """Writes the restored clip, and beside it the comparison if there shall be one."""

    def __init__(
        self, clip: Clip, encoding: Encoding, target: Path, restorer: Restorer, options: Options, compared: str
    ) -> None:
        self._clip, self._options, self._last = clip, options, {}
        self._outputs = [(encoding, target)]
        if folder := options.clip.compare:
            both, wide = folder / compared, dataclasses.replace(encoding, width=2 * encoding.width, interlaced=False)
            if both.exists() and not options.clip.overwrite:
                raise UserError(f"{both}: exists already, so there is no comparison; --overwrite replaces it")
            self._outputs.append((wide, both))
        for _, path in self._outputs:
            make_folder(path.parent)
        identity = _identity(clip, encoding, restorer, options)
        with contextlib.ExitStack() as opened:
            self._encoders = []
            for each, path in self._outputs:
                self._encoders.append(_Encoder(each, Segments.open(path, identity)))
                opened.callback(self._encoders[-1].segments.close)
            opened.pop_all()
        done = min(len(e.segments.states) for e in self._encoders)
        for encoder in self._encoders:
            encoder.segments.keep(done)
        self.state: dict[str, Any] = self._encoders[0].segments.states[-1] if done else {}

    def has(self, number: int) -> bool:
        """Whether this frame is there already and need not be restored."""
        return False

    def add(self, decoded: Decoded, before: np.ndarray | None, after: np.ndarray | None, state: dict[str, Any]) -> None:
        picture, compares = decoded.picture, len(self._encoders) > 1
        given = [rows.copy() for rows in video_io.samples(picture)] if compares else []
        if after is not None and before is not None:
            video_io.change(picture, before, after, self._clip.colours)
        self._last = state
        if compares:
            self._encoders[1].add(video_io.beside(given, picture), decoded.pts, state)
        self._encoders[0].add(picture, decoded.pts, state)

    def finish(self) -> list[str]:
        if not self.state.get("finished"):
            for encoder in self._encoders:
                encoder.close_segment(self._last | {"finished": True})
            self.state = self._last
        settings, notes = self._options.clip, []
        for encoder, (encoding, path) in zip(self._encoders, self._outputs, strict=True):
            first = int(encoder.segments.times().min())
            start = None if settings.start is None else first * self._clip.time_base
            step = max(1, round(1 / self._clip.rate / self._clip.time_base)) * settings.every
            notes = join(
                encoder.segments,
                self._clip,
                encoding,
                path,
                cut=Cut(start, settings.end),
                last_duration=self.state.get("duration") or step,
                source=None if is_pattern(self._clip.path) else self._clip.path,
                strip_metadata=self._options.strip_metadata,
            )
        for encoder in self._encoders:
            encoder.segments.remove()
        return notes

    def close(self) -> None:
        for encoder in self._encoders:
            encoder.segments.close()


class PictureSink:
    """Writes the restored frames as numbered pictures, upright."""

    def __init__(self, pattern: Path, clip: Clip, options: Options) -> None:
        settings = options.clip
        if settings.compare or settings.codec or settings.crf is not None or settings.pixel_format:
            raise UserError(f"{pattern}: --compare, --codec, --crf and --pixel-format are for clips, not for pictures")
        self._sink = numbered.Numbered(
            pattern,
            clip.path,
            quality=options.quality,
            overwrite=settings.overwrite,
            skip_existing=settings.skip_existing,
        )
        make_folder(pattern.parent)
        self._clip = clip
        self.state: dict[str, Any] = {}

    def has(self, number: int) -> bool:
        return self._sink.has(number)

    def add(self, decoded: Decoded, before: np.ndarray | None, after: np.ndarray | None, state: dict[str, Any]) -> None:
        if not self.has(state["frames"]):
            pixels = after if after is not None else video_io.to_rgb(decoded.picture, self._clip.colours)
            self._sink.write(state["frames"], self._clip.as_seen(pixels))

    def finish(self) -> list[str]:
        return []

    def close(self) -> None:
        pass


Sink = ClipSink | PictureSink


def _identity(clip: Clip, encoding: Encoding, restorer: Restorer, options: Options) -> dict[str, Any]:
    """All on which the encoded frames depend."""
    digest = hashlib.sha256(restorer.fingerprint())
    if options.mask is not None:
        digest.update(options.mask.tobytes())
    settings = options.clip
    return {
        "version": __version__,
        "libraries": str(av.library_versions),
        "input": numbered.stamp(clip) if is_pattern(clip.path) else _stamp(clip.path),
        "network": digest.hexdigest(),
        "precision": restorer.precision,
        "encoding": encoding.as_dict(),
        "header": hashlib.sha256(encoders.opened(encoding).extradata or b"").hexdigest(),
        "frames": [settings.start, settings.end, settings.every, settings.fps, LENGTH],
        "change": [options.strength, options.tta, options.denoise, bool(options.linear), options.region],
        "selective": options.threshold if options.selective else None,
        "compare": str(settings.compare or ""),
    }


def _stamp(path: Path) -> list[Any]:
    said = path.stat()
    return [str(path.resolve()), said.st_size, said.st_mtime_ns]
