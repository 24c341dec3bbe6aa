"""Clips in: what a file says of itself, and its frames with their exact times."""

import functools
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.stream import Disposition
from av.video.reformatter import ColorRange, Interpolation

from deblur_jax.errors import UserError
from deblur_jax.restore import hdr
from deblur_jax.restore.hdr import Hdr

__all__ = ["Clip", "Colours", "Decoded", "Loss", "frames", "probe", "read_frames"]

FAILURES = (FFmpegError, OSError, ValueError)  # what FFmpeg may raise on any file

_UNSPECIFIED = 2  # of the tables of H.273: primaries, transfer and matrix
_RGB_MATRIX = 0
_RESTART = Fraction(1, 10)  # of a second: where times run back by more, a clock begins again
_RESTARTING = (".ts", ".mts", ".m2ts", ".mpg", ".mpeg")  # may be recordings, one behind the other
_HD = 720  # rows from which on a clip without a tag is taken for BT.709, as players do
_FINE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


@dataclass(frozen=True)
class Colours:
    """The numbers of H.273 as the file has them, 2 where it says nothing (of the range: 0)."""

    range: int = 0
    primaries: int = _UNSPECIFIED
    transfer: int = _UNSPECIFIED
    matrix: int = _UNSPECIFIED

    def swscale(self, height: int) -> tuple[int, ColorRange]:
        """The matrix and the range to convert with."""
        matrices = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
        matrix = matrices.get(self.matrix, 1 if height >= _HD else 5)
        return matrix, ColorRange.JPEG if self.range == ColorRange.JPEG else ColorRange.MPEG


@dataclass(frozen=True)
class Clip:
    """What is known before any frame is restored."""

    path: Path
    codec: str
    codec_tag: str
    width: int  # as stored, before turning
    height: int
    pixel_format: str
    colours: Colours
    rate: Fraction  # on average
    time_base: Fraction
    frames: int  # about so many
    aspect: Fraction | None = None  # of a pixel
    matrix: tuple[int, ...] | None = None  # how players turn and mirror it
    interlaced: str = ""  # "tff" or "bff": which field comes first
    hdr: Hdr | None = None
    notes: tuple[str, ...] = ()
    counted: bool = False  # the file itself says how many frames there are

    @property
    def depth(self) -> int:
        return depth_of(self.pixel_format)

    def turning(self) -> tuple[bool, int]:
        """Whether players mirror it, and by how many quarters they turn it then, against the clock."""
        if self.matrix is None:
            return False, 0
        a, b, c, d = (int(np.sign(self.matrix[i])) for i in (0, 1, 3, 4))
        ways = {
            (1, 0, 0, 1): (False, 0),
            (0, -1, 1, 0): (False, 1),
            (-1, 0, 0, -1): (False, 2),
            (0, 1, -1, 0): (False, 3),
            (-1, 0, 0, 1): (True, 0),
            (0, 1, 1, 0): (True, 1),
            (1, 0, 0, -1): (True, 2),
            (0, -1, -1, 0): (True, 3),
        }
        if (a, b, c, d) not in ways:
            raise UserError(f"{self.path}: is turned by an odd angle, which pictures and masks cannot be")
        return ways[a, b, c, d]

    def as_seen(self, stored: np.ndarray) -> np.ndarray:
        mirrored, turns = self.turning()
        return np.ascontiguousarray(np.rot90(stored[:, ::-1] if mirrored else stored, turns))

    def as_stored(self, seen: np.ndarray) -> np.ndarray:
        mirrored, turns = self.turning()
        stored = np.rot90(seen, -turns)
        return np.ascontiguousarray(stored[:, ::-1] if mirrored else stored)

    def seen_size(self) -> tuple[int, int]:
        """Width and height; as stored where it is turned by an odd angle."""
        try:
            turned = self.turning()[1] % 2
        except UserError:
            turned = False
        return (self.height, self.width) if turned else (self.width, self.height)


@dataclass
class Loss:
    """What could not be read."""

    packets: int = 0
    damaged: int = 0
    resized: int = 0
    restarts: int = 0  # of the clock
    ends: str = ""  # why the file ended early

    def counts(self) -> dict[str, int]:
        return {key: getattr(self, key) for key in ("packets", "damaged", "resized", "restarts")}

    def set(self, counts: dict[str, int]) -> None:
        for key, count in counts.items():
            setattr(self, key, count)

    def notes(self) -> list[str]:
        said = [f"{self.packets} frames cannot be decoded and are missing"] if self.packets else []
        said += [f"{self.damaged} frames are damaged in the input"] if self.damaged else []
        said += [f"{self.resized} frames of another size were scaled to the first one's"] if self.resized else []
        if self.restarts:
            often = "again" if self.restarts == 1 else f"{self.restarts} times again"
            said.append(f"its clock begins {often}: from there on frames follow at once, and sound may be missing")
        return said + ([self.ends] if self.ends else [])


@dataclass(frozen=True)
class Decoded:
    """One frame that is kept, in the working pixel format. Its time is in the clip's time base."""

    index: int  # among all frames from the start on
    pts: int
    duration: int
    picture: av.VideoFrame
    lost: dict[str, int]  # so far
    interlaced: bool = False


@functools.cache
def depth_of(pixel_format: str) -> int:
    return max(component.bits for component in av.VideoFormat(pixel_format).components)


def url(path: Path) -> str:
    """So that no colon in a name is taken for a protocol."""
    return f"file:{os.fspath(path)}"


def reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error).splitlines()[0]


def open_clip(path: Path) -> Any:
    try:
        return av.open(url(path), metadata_errors="replace")
    except FAILURES as error:
        raise UserError(f"{path}: not a readable clip: {reason(error)}") from None


def main_stream(container: Any, path: Path) -> Any:
    """The first moving picture, not a cover."""
    moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not moving:
        raise UserError(f"{path}: has no video in it")
    if moving[0].codec_context is None:
        raise UserError(f"{path}: its video is in a codec that cannot be decoded here")
    return moving[0]


def probe(path: Path) -> Clip:
    """From the headers and the first frame that can be decoded."""
    with open_clip(path) as container:
        stream = main_stream(container, path)
        first = next(_decoded(container, stream, Loss()), None)
        if first is None:
            raise UserError(f"{path}: no frame in it can be decoded")
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        seconds = (stream.duration or 0) * (stream.time_base or 0) or (container.duration or 0) / Fraction(10**6)
        side: Any = {item.type.name: item for item in first.side_data}  # pyright: ignore[reportAttributeAccessIssue]
        matrix = None
        if "DISPLAYMATRIX" in side:
            matrix = tuple(int(n) for n in np.frombuffer(side["DISPLAYMATRIX"], np.int32))
        notes = []
        if first.interlaced_frame:
            notes.append("it is interlaced: the two fields of a frame were restored each by itself")
        if left := hdr.left_behind(side):
            notes.append(f"not copied: {', '.join(left)}")
        return Clip(
            path,
            stream.codec_context.codec.canonical_name,
            stream.codec_context.codec_tag,
            first.width,
            first.height,
            first.format.name,
            Colours(*(int(n) for n in _colours(first))),
            Fraction(rate),
            stream.time_base or Fraction(1, 1000),
            stream.frames or max(1, round(seconds * rate)),
            stream.codec_context.sample_aspect_ratio or None,
            matrix,
            _first_field(first, stream),
            hdr.described(side),
            tuple(notes),
            stream.frames > 0 and container.format.name.startswith("mov"),
        )


def _first_field(frame: av.VideoFrame, stream: Any) -> str:
    if not frame.interlaced_frame:
        return ""
    return "bff" if stream.codec_context.field_order in (3, 5) else "tff"  # AV_FIELD_BB and AV_FIELD_BT


def _colours(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    full = ColorRange.JPEG if frame.format.name.startswith("yuvj") else frame.color_range
    return full, frame.color_primaries, frame.color_trc, frame.colorspace


def frames(
    clip: Clip,
    pixel_format: str,
    loss: Loss,
    *,
    start: float | None = None,
    end: float | None = None,
    every: int = 1,
    after: tuple[int, int] | None = None,
) -> Iterator[Decoded]:
    """The frames from `start` to before `end` (seconds), each `every`th of them.

    `after` is index and time of the last frame that an earlier run has done.
    """
    base = clip.time_base
    first = None if start is None else start / base
    # Where a clock may begin again, a time says too little: from the start, and by number.
    counted = after[0] if after and clip.path.suffix.lower() in _RESTARTING else -1
    sought = after if counted < 0 else None
    target = sought[1] if sought else None if first is None else int(first)
    index, last = sought or (-1, None)
    before, said, wanted = loss.counts(), None, False
    for frame, pts in _sought(clip, loss, target):
        loss.restarts += said is not None and (pts - said) * base < -_RESTART
        said = pts
        if not wanted and ((first is not None and pts < first) or (sought and pts <= sought[1])):
            loss.set(before)  # counted then, or not wanted
            continue
        wanted = True
        if end is not None and pts * base >= end:
            return
        if last is not None and pts <= last:
            pts = last + 1  # two frames at one time: both are kept
        index, last = index + 1, pts
        if index <= counted:
            loss.set(before)
            continue
        if index % every:
            continue
        loss.resized += (frame.width, frame.height) != (clip.width, clip.height)
        picture, interlaced = _working(frame, clip, pixel_format), frame.interlaced_frame
        yield Decoded(index, pts, (frame.duration or 0) * every, picture, loss.counts(), interlaced)


def read_frames(path: Path, *, count: int, start: float = 0.0) -> np.ndarray:
    """`count` consecutive frames from `start` seconds on, as RGB `(n h w 3)` in [0, 1], as players show them."""
    clip = probe(path)
    found = [
        clip.as_seen(to_rgb(frame.picture, clip.colours))
        for frame in itertools.islice(frames(clip, clip.pixel_format, Loss(), start=start or None), count)
    ]
    if len(found) < count:
        raise UserError(f"{path}: {count} frames are needed from {start:g} s on, there are {len(found)}")
    return np.stack(found).astype(np.float32) / np.iinfo(found[0].dtype).max


def _sought(clip: Clip, loss: Loss, target: int | None) -> Iterator[tuple[av.VideoFrame, int]]:
    """Frames with their times, from a key frame before `target` on. Where seeking lands too late: from the start."""
    if target is not None:
        with open_clip(clip.path) as container:
            stream = main_stream(container, clip.path)
            timed = _timed(_decoded(container, stream, loss), clip)
            try:
                container.seek(target, stream=stream)
                first = next(timed, None)
            except (*FAILURES, OverflowError):
                first = None
            if first is not None and first[1] <= target:
                yield first
                yield from timed
                return
    with open_clip(clip.path) as container:
        yield from _timed(_decoded(container, main_stream(container, clip.path), loss), clip)


def _timed(decoded: Iterator[av.VideoFrame], clip: Clip) -> Iterator[tuple[av.VideoFrame, int]]:
    step, last = max(1, round(1 / clip.rate / clip.time_base)), None
    for frame in decoded:
        # Streams without times count frames.
        pts = frame.pts if frame.pts is not None else 0 if last is None else last + step
        last = pts
        yield frame, pts


def _decoded(container: Any, stream: Any, loss: Loss) -> Iterator[av.VideoFrame]:
    """What can be decoded of the stream; the rest is counted."""
    stream.thread_type = "AUTO"
    # Frames come out in the order of their times: what was sent for an earlier time and has not come is lost. (VP8 has
    # packets that are not shown.)
    counts = stream.codec_context.codec.canonical_name != "vp8"
    sent: set[int] = set()
    damaged: set[int] = set()
    packets = container.demux(stream)
    seen, clock = 0, None
    while True:
        try:
            packet = next(packets, None)
        except FAILURES as error:
            loss.ends = f"the input cannot be read behind packet {seen} of its video: {reason(error)}"
            packet = None
        try:
            several = stream.decode(None) if packet is None else packet.decode()
        except FAILURES:
            several = []
        if packet is not None and packet.size and packet.pts is not None and not packet.is_discard:
            seen += 1
            if clock is not None and packet.dts is not None and (packet.dts - clock) * stream.time_base < -_RESTART:
                counts = False  # earlier times are no sign of a loss from here on
                sent.clear()
                damaged.clear()
            clock = packet.dts
            if counts:
                sent.add(packet.pts)
            if packet.is_corrupt:
                damaged.add(packet.pts)
        for frame in several:
            if frame.pts is not None:
                lost = {pts for pts in sent if pts < frame.pts}
                loss.packets += len(lost)
                loss.damaged += frame.is_corrupt or frame.pts in damaged
                sent -= lost | {frame.pts}
                damaged.discard(frame.pts)
            yield frame
        if packet is None:
            loss.packets += len(sent)
            return


def _working(frame: av.VideoFrame, clip: Clip, pixel_format: str) -> av.VideoFrame:
    if (frame.width, frame.height, frame.format.name) == (clip.width, clip.height, pixel_format):
        return frame
    matrix, limits = clip.colours.swscale(clip.height)
    same_size = (frame.width, frame.height) == (clip.width, clip.height)
    if same_size and frame.format.name.replace("yuvj", "yuv") == pixel_format:  # the same, by an old name
        same = av.VideoFrame(clip.width, clip.height, pixel_format)
        for target, source in zip(samples(same), samples(frame), strict=True):
            np.copyto(target, source)
        return same
    source_rgb = frame.format.is_rgb
    return frame.reformat(
        clip.width,
        clip.height,
        pixel_format,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=ColorRange.JPEG if source_rgb else limits,
        dst_color_range=limits,
        interpolation=_FINE,
    )


def samples(frame: av.VideoFrame) -> list[np.ndarray]:
    """Each plane's own memory as rows, without the filling at their ends."""
    wide = depth_of(frame.format.name) > 8
    rows = []
    planes: Any = frame.planes
    for index, plane in enumerate(planes):
        whole = np.frombuffer(plane, np.uint8)[: plane.line_size * plane.height].reshape(plane.height, plane.line_size)
        used = whole[:, : _bytes_in_row(frame, index)]
        rows.append(used.view("<u2") if wide else used)
    return rows


def _bytes_in_row(frame: av.VideoFrame, index: int) -> int:
    """Planes of a planar format hold one sample a pixel of theirs; packed ones several."""
    sample = 2 if depth_of(frame.format.name) > 8 else 1
    components = [c for c in frame.format.components if c.plane == index]
    if frame.format.name in ("bgr0", "rgb0", "0rgb", "0bgr"):
        return 4 * frame.width
    return frame.planes[index].width * sample * len(components)


def to_rgb(frame: av.VideoFrame, colours: Colours) -> np.ndarray:
    """8 bits `(h w 3)`, or 16 if the frame has more than 8."""
    matrix, limits = colours.swscale(frame.height)
    deep = depth_of(frame.format.name) > 8
    turned = frame.reformat(
        format="rgb48le" if deep else "rgb24",
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=ColorRange.JPEG if frame.format.is_rgb else limits,
        dst_color_range=ColorRange.JPEG,
        interpolation=_FINE,
    )
    return np.ascontiguousarray(turned.to_ndarray())


def from_rgb(pixels: np.ndarray, pixel_format: str, colours: Colours) -> av.VideoFrame:
    matrix, limits = colours.swscale(len(pixels))
    given = av.VideoFrame.from_ndarray(pixels, format="rgb24" if pixels.dtype == np.uint8 else "rgb48le")
    return given.reformat(
        format=pixel_format,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.JPEG if av.VideoFormat(pixel_format).is_rgb else limits,
        interpolation=_FINE,
    )


def change(frame: av.VideoFrame, before: np.ndarray, after: np.ndarray, colours: Colours) -> None:
    """Makes the change from one RGB picture to the other to the frame, and alters nothing else of it.

    Not simply `after` converted: converting there and back blurs colours and cuts off what lies outside the range.
    """
    name = frame.format.name
    top = 2 ** depth_of(name) - 1
    pair = [samples(from_rgb(pixels, name, colours)) for pixels in (before, after)]
    frame.make_writable()
    for target, old, new in zip(samples(frame), *pair, strict=True):
        changed = new.astype(np.int32)
        changed -= old
        changed += target
        np.clip(changed, 0, top, out=changed)
        target[:] = changed


def beside(left: list[np.ndarray], right: av.VideoFrame) -> av.VideoFrame:
    """A frame's samples and another frame in one, nothing converted."""
    out = av.VideoFrame(2 * right.width, right.height, right.format.name)
    for target, one, other in zip(samples(out), left, samples(right), strict=True):
        half = one.shape[1]
        # Where a side is odd, the column of colour in the middle belongs to both.
        target[:, target.shape[1] - half :], target[:, :half] = other, one
    return out
