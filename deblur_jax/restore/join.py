"""Encoded segments and all else that is in the input - sound, subtitles, chapters, tags - into one clip."""

import contextlib
import io
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import ArgumentError
from av.stream import Disposition

from deblur_jax.errors import UserError
from deblur_jax.restore.encoders import CODECS, Encoding
from deblur_jax.restore.images import silenced_stderr
from deblur_jax.restore.inputs import WRITABLE_CLIPS
from deblur_jax.restore.segments import Segments, decode_times
from deblur_jax.restore.video_io import FAILURES, Clip, main_stream, open_clip, reason, url

__all__ = ["Cut", "join"]

# What describes the file as it was, not the film.
_OF_THE_FILE = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "number_of_frames"}


@dataclass(frozen=True)
class Cut:
    """Which part of the input's time is kept, in seconds; what is kept begins at 0 if `start` is given."""

    start: Fraction | None = None
    end: float | None = None

    def shift(self, base: Fraction) -> int:
        return 0 if self.start is None else round(self.start / base)


@dataclass
class _Copied:
    """Streams of the input that are copied, and what was left out."""

    streams: dict[int, Any] = field(default_factory=dict)
    refused: dict[int, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def join(
    segments: Segments,
    clip: Clip,
    encoding: Encoding,
    target: Path,
    *,
    cut: Cut,
    last_duration: int,
    source: Path | None,
    strip_metadata: bool = False,
) -> list[str]:
    """Writes the clip whole or not at all. `source` is where all but the frames comes from, if from anywhere."""
    temporary = segments.folder / f"joined{target.suffix.lower()}"
    try:
        with contextlib.ExitStack() as stack:
            given = stack.enter_context(open_clip(source)) if source else None
            notes = _write(temporary, segments, clip, encoding, given, cut, last_duration, strip_metadata)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except FAILURES as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"{target}: cannot be written: {reason(error)}") from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return notes


def _write(
    path: Path,
    segments: Segments,
    clip: Clip,
    encoding: Encoding,
    source: Any,
    cut: Cut,
    last_duration: int,
    strip_metadata: bool,
) -> list[str]:
    container = WRITABLE_CLIPS[path.suffix]
    with av.open(url(path), "w", format=container, options=_options(container, clip, source)) as out:
        stream: Any = out.add_stream(CODECS[encoding.codec].encoder, rate=encoding.rate)
        encoding.set_up(stream.codec_context)
        stream.time_base = clip.time_base
        if encoding.codec == "hevc" and container in ("mp4", "mov"):
            # The other one, hev1, is not played by Apple's players; who has it keeps it.
            stream.codec_tag = clip.codec_tag if clip.codec_tag == "hev1" else "hvc1"
        if clip.matrix:
            stream.set_display_matrix(clip.matrix)
        copied = _Copied()
        if source:
            _copy_rest(out, stream, source, clip, container, copied, strip_metadata, cut)
        with silenced_stderr():  # SVT-AV1 talks
            out.start_encoding()
        others = _others(source, copied, cut)
        other = next(others, None)
        for packet, time in _video(segments, stream, clip, cut, last_duration):
            while other is not None and other[-1] <= time:
                _mux(out, *other[:2], copied)
                other = next(others, None)
            out.mux_one(packet)
        while other is not None:
            _mux(out, *other[:2], copied)
            other = next(others, None)
    notes = copied.notes
    for index, count in copied.refused.items():
        notes.append(f"{count} damaged packets of the {source.streams[index].type} were left out")
    base = stream.time_base
    if any((pts * clip.time_base / base).denominator != 1 for pts in segments.times()[:100].tolist()):
        notes.append(f"{path.suffix} keeps times to {base} s: those of the frames are rounded")
    return notes


def _options(container: str, clip: Clip, source: Any) -> dict[str, str]:
    if container in ("mp4", "mov"):
        track = clip.time_base.denominator
        # The file's own clock measures what comes before a stream's start: fine enough for each of them.
        clock = lcm(track, *(s.time_base.denominator for s in source.streams.audio)) if source else track
        options = {"video_track_timescale": str(track), "movie_timescale": str(clock if clock < 2**31 else track)}
        names = source.metadata if source else {}
        return options | ({"movflags": "use_metadata_tags"} if any(n.startswith("com.") for n in names) else {})
    return {"mpegts_copyts": "1"} if container == "mpegts" else {}


def _copy_rest(
    out: Any, stream: Any, source: Any, clip: Clip, container: str, copied: _Copied, strip_metadata: bool, cut: Cut
) -> None:
    main = main_stream(source, clip.path)
    chapters = source.chapters()
    for one in source.streams:
        if one.index == main.index or (one.type == "data" and one.name == "bin_data" and chapters):
            continue  # MP4's chapters are a track beside, which is written anew
        if one.type == "data" and "timecode" in one.metadata:
            continue  # a track that is made anew from what the picture's says
        if one.type == "attachment":
            if container == "matroska":
                out.add_attachment(one.metadata.get("filename", "file"), one.mimetype or "", one.data)
            continue
        if not _holds(container, one):
            name = one.codec_context.name if one.codec_context else one.name or "unknown"
            where = "a file of its kind holds it" if container == "matroska" else ".mkv may hold it"
            copied.notes.append(f"the {one.type} ({name}) is left out: {path_kind(container)} cannot hold it, {where}")
            continue
        copied.streams[one.index] = twin = out.add_stream_from_template(one)
        twin.time_base = one.time_base
        _describe(one, twin, strip_metadata)
    _describe(main, stream, strip_metadata)
    if not strip_metadata:
        out.metadata.update({k: v for k, v in source.metadata.items() if k.lower() not in _OF_THE_FILE})
    if chapters:
        out.set_chapters([c for c in (_moved(chapter, cut) for chapter in chapters) if c])


def path_kind(container: str) -> str:
    return next(suffix for suffix, name in WRITABLE_CLIPS.items() if name == container)


def _describe(one: Any, twin: Any, strip_metadata: bool) -> None:
    kept = {"language"} if strip_metadata else set(one.metadata)
    twin.metadata.update(
        {
            k: v
            for k, v in one.metadata.items()
            if k in kept and k.lower() not in _OF_THE_FILE and not k.startswith(("_STATISTICS", "BPS", "DURATION"))
        }
    )
    twin.disposition = one.disposition


def _moved(chapter: Any, cut: Cut) -> Any:
    base = chapter["time_base"]
    shift, end = cut.shift(base), None if cut.end is None else int(cut.end / base)
    start, stop = max(0, chapter["start"] - shift), chapter["end"] - shift
    stop = stop if end is None else min(stop, end - shift)
    return chapter | {"start": start, "end": stop} if stop > start else None


def _holds(container: str, stream: Any) -> bool:
    """Tried out: with this stream alone a header can be written."""
    if stream.type not in ("audio", "subtitle", "video", "data"):
        return False
    try:
        with av.open(io.BytesIO(), "w", format=container) as trial:
            twin = trial.add_stream_from_template(stream)
            twin.time_base = stream.time_base
            trial.start_encoding()
    except FAILURES:
        return False
    return True


def _video(
    segments: Segments, stream: Any, clip: Clip, cut: Cut, last_duration: int
) -> Iterator[tuple[av.Packet, Fraction]]:
    shown = segments.times()
    decoded, ordered = decode_times(shown), np.sort(shown)
    following: dict[int, int] = {}
    shift, base = cut.shift(clip.time_base), clip.time_base
    # What comes next in showing says how long a frame stays; only a few packets apart, so a window is enough.
    for n, stored in enumerate(segments.packets()):
        if not following.get(stored.pts):
            near = ordered[max(0, n - 64) : n + 66].tolist()
            following = dict(zip(near, [b - a for a, b in itertools.pairwise(near)], strict=False))
        packet: Any = av.Packet(stored.data)
        packet.stream, packet.time_base = stream, base
        packet.pts, packet.dts = stored.pts - shift, int(decoded[n]) - shift
        packet.duration = following.get(stored.pts) or last_duration
        packet.is_keyframe = stored.key
        yield packet, packet.dts * base


def _others(source: Any, copied: _Copied, cut: Cut) -> Iterator[tuple[Any, int, Fraction]]:
    """Packets as they are, with the numbers of their streams in the input, and their times."""
    if not copied.streams:
        return
    wanted = [source.streams[index] for index in copied.streams]
    packets = source.demux(wanted)
    while True:
        try:
            packet = next(packets, None)
        except FAILURES as error:
            copied.notes.append(f"sound and subtitles end where the input cannot be read further: {reason(error)}")
            return
        if packet is None:
            return
        if not packet.size:
            continue  # the end of a stream
        base, index = packet.time_base, packet.stream.index
        cover = packet.stream.disposition & Disposition.attached_pic
        if packet.dts is None and packet.pts is None:
            if not cover:  # without a time it cannot be placed
                copied.refused[index] = copied.refused.get(index, 0) + 1
                continue
            packet.pts = packet.dts = 0
        time = (packet.pts if packet.pts is not None else packet.dts) * base
        if not cover and ((cut.start is not None and time < cut.start) or (cut.end is not None and time >= cut.end)):
            continue
        shift = cut.shift(base)
        packet.pts = None if packet.pts is None else packet.pts - (0 if cover else shift)
        packet.dts = None if packet.dts is None else packet.dts - (0 if cover else shift)
        decoded = (packet.dts if packet.dts is not None else packet.pts) * base
        packet.stream = copied.streams[index]
        yield packet, index, decoded


def _mux(out: Any, packet: Any, index: int, copied: _Copied) -> None:
    try:
        out.mux_one(packet)
    except ArgumentError:  # times that run backwards: this packet alone is lost
        copied.refused[index] = copied.refused.get(index, 0) + 1
