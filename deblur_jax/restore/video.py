"""Clips through a Restorer, frame by frame in constant memory: decoding, the network and encoding overlap."""

import collections
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deblur_jax.errors import UserError
from deblur_jax.restore import encoders, numbered, pictures, video_io
from deblur_jax.restore.inputs import is_pattern
from deblur_jax.restore.options import Options, Report, mask_of
from deblur_jax.restore.restorer import Restorer, ahead
from deblur_jax.restore.segments import LENGTH
from deblur_jax.restore.selective import Judge, weighed
from deblur_jax.restore.sinks import ClipSink, PictureSink, Sink
from deblur_jax.restore.video_io import Clip, Decoded, Loss

__all__ = ["restore"]

_DECODED_AHEAD = 2
_ENCODED_BEHIND = 3  # frames that may wait for the encoder


@dataclass(frozen=True)
class _Work:
    """One frame on its way through."""

    decoded: Decoded
    before: np.ndarray | None  # RGB; None if the network is not needed
    weight: float
    state: dict[str, Any]


def restore(
    path: Path,
    target: Path,
    restorer: Callable[[], Restorer],
    options: Options,
    *,
    compared: str = "",
    tick: Callable[[float], None] | None = None,
) -> Report:
    """`target` and `path` are files, or patterns of numbered pictures such as `out/%05d.png`. `compared` is the name
    of the clip of before and after in the folder for those, if not the target's.

    Interrupted, it leaves nothing under the target's name, but beside it what is done; the same call goes on there.
    """
    started = time.perf_counter()
    settings = options.clip
    clip = numbered.probe(path, settings.fps) if is_pattern(path) else video_io.probe(path)
    if settings.fps and not is_pattern(path):
        raise UserError(f"{path}: --fps is for numbered pictures; a clip has its own times")
    if options.max_pixels is not None and not is_pattern(path):
        pictures.check_size(path, clip.width, clip.height, options.max_pixels)
    mask = _mask(clip, options)
    report = Report(width=clip.seen_size()[0], height=clip.seen_size()[1], notes=list(clip.notes))
    if is_pattern(target):
        sink: Sink = PictureSink(target, clip, options)
        pixel_format = clip.pixel_format.replace("yuvj", "yuv")
        if is_pattern(path):  # from pictures to pictures nothing is converted
            pixel_format = "gbrp16le" if clip.depth > 8 else "gbrp"
    else:
        choice = {"codec": settings.codec, "crf": settings.crf, "pixel_format": settings.pixel_format}
        encoding, notes = encoders.choose(clip, target, every=settings.every, key_frames=LENGTH, **choice)
        report.notes += notes
        pixel_format = encoding.pixel_format
        sink = ClipSink(clip, encoding, target, restorer(), options, compared or target.name)
    loss = Loss(**sink.state.get("lost", {}))
    report.resumed = report.frames = sink.state.get("frames", 0)
    report.skipped = sink.state.get("skipped", 0)
    total = max(1, _expected(clip, settings.start, settings.end, settings.every))
    with contextlib.closing(sink):
        if not sink.state.get("finished"):
            source = _source(clip, pixel_format, loss, options, sink.state)
            judge = _judge(options, sink.state)
            works: Any = ahead(_looked(_timed(source, report, "decode"), judge, clip, options, report), _DECODED_AHEAD)
            with ThreadPoolExecutor(1) as writer:
                waiting: collections.deque[Future[None]] = collections.deque()
                with contextlib.closing(works):
                    for work, after in _through(works, restorer, options, mask, sink, report):
                        if settings.hook and not sink.has(work.state["frames"]):
                            seen = after if after is not None else video_io.to_rgb(work.decoded.picture, clip.colours)
                            # A copy: what the function draws on it is not written.
                            settings.hook(clip.as_seen(seen).copy(), float(work.decoded.pts * clip.time_base))
                        waiting.append(writer.submit(_written, sink, work, after, clip, report))
                        while len(waiting) > _ENCODED_BEHIND:
                            waiting.popleft().result()
                        report.frames, report.skipped = work.state["frames"], work.state["skipped"]
                        if tick:
                            tick(min(1.0, report.frames / total))
                while waiting:
                    waiting.popleft().result()
            if not report.frames:
                raise UserError(f"{path}: there is no frame in it{_between(settings.start, settings.end)}")
        begun = time.perf_counter()
        report.notes += sink.finish()
        report.encode += time.perf_counter() - begun
    report.notes += loss.notes()
    report.notes += _missing(clip, report, settings, loss)
    report.seconds = time.perf_counter() - started
    return report


def _between(start: float | None, end: float | None) -> str:
    said = f" from {start:g} s on" if start is not None else ""
    return said + (f" before {end:g} s" if end is not None else "")


def _expected(clip: Clip, start: float | None, end: float | None, every: int) -> int:
    frames = clip.frames
    if end is not None:
        frames = min(frames, round(end * clip.rate))
    return -(-max(0, frames - round((start or 0) * clip.rate)) // every)


def _missing(clip: Clip, report: Report, settings: Any, loss: Loss) -> list[str]:
    """A file that was cut off ends without any complaint; its index says how many frames there should be."""
    whole = settings.start is None and settings.end is None and settings.every == 1
    if not (whole and clip.counted) or loss.ends or loss.packets:
        return []
    gone = clip.frames - report.frames
    return [f"{gone} of {clip.frames} frames are missing in the input"] if gone > 0 else []


def _source(clip: Clip, pixel_format: str, loss: Loss, options: Options, state: dict[str, Any]) -> Iterator[Decoded]:
    settings = options.clip
    if is_pattern(clip.path):
        return numbered.frames(clip, pixel_format, start=settings.start, end=settings.end, every=settings.every,
                               after=state.get("index", -1), max_pixels=options.max_pixels)  # fmt: skip
    after = (state["index"], state["pts"]) if state else None
    return video_io.frames(
        clip, pixel_format, loss, start=settings.start, end=settings.end, every=settings.every, after=after
    )


def _timed(items: Iterable[Any], report: Report, part: str) -> Iterator[Any]:
    following = iter(items)
    while True:
        begun = time.perf_counter()
        item = next(following, None)
        setattr(report, part, getattr(report, part) + time.perf_counter() - begun)
        if item is None:
            return
        yield item


def _judge(options: Options, state: dict[str, Any]) -> Judge | None:
    if not options.selective:
        return None
    return Judge(options.threshold, **state.get("judge", {}))


def _looked(
    frames: Iterator[Decoded], judge: Judge | None, clip: Clip, options: Options, report: Report
) -> Iterator[_Work]:
    """In the decoder's thread: RGB for the network, and which frames do not need it."""

    def coloured() -> Iterator[tuple[tuple[Decoded, np.ndarray], float]]:
        for frame in frames:
            begun = time.perf_counter()
            rgb = video_io.to_rgb(frame.picture, clip.colours)
            score = options.sharpness(rgb, linear=bool(options.linear)) if judge and options.sharpness else 0.0
            report.decode += time.perf_counter() - begun
            yield (frame, rgb), score

    count, skipped = report.frames, report.skipped
    if judge is None:
        for (frame, rgb), _ in coloured():
            count += 1
            yield _Work(frame, rgb, 1.0, _state(frame, count, 0, None))
        return
    for (frame, rgb), weight, sharp, since in weighed(coloured(), judge):
        count, skipped = count + 1, skipped + (weight == 0)
        said = {"sharp": sharp, "since_blurred": since}
        yield _Work(frame, rgb if weight else None, weight, _state(frame, count, skipped, said))


def _state(frame: Decoded, count: int, skipped: int, judge: dict[str, Any] | None) -> dict[str, Any]:
    """What must be known to go on behind this frame."""
    said = {"frames": count, "skipped": skipped, "index": frame.index, "pts": frame.pts, "duration": frame.duration}
    return said | {"lost": frame.lost} | ({"judge": judge} if judge else {})


def _through(
    works: Iterator[_Work],
    restorer: Callable[[], Restorer],
    options: Options,
    mask: np.ndarray | None,
    sink: Sink,
    report: Report,
) -> Iterator[tuple[_Work, np.ndarray | None]]:
    """Each with its restored picture; on several devices neighbours go together. None: the frame stays as it is."""
    plain = options.strength == 1 and not (options.tta or options.denoise or options.linear) and mask is None
    together = restorer().engine.batch if plain else 1

    def done(several: list[_Work]) -> Iterator[tuple[_Work, np.ndarray | None]]:
        begun = time.perf_counter()
        if len(several) > 1:
            after: list[Any] = restorer().restore_batch([w.before for w in several if w.before is not None])
        else:
            (work,) = several
            after = [None]
            if work.before is not None and not sink.has(work.state["frames"]):
                settings = {"tta": options.tta, "denoise": options.denoise, "linear": bool(options.linear)}
                strength = options.strength * work.weight
                after = [_restored(restorer(), work, mask, strength=strength, **settings)]
        report.network += time.perf_counter() - begun
        yield from zip(several, after, strict=True)

    group: list[_Work] = []
    for work in works:
        alone = work.before is None or work.weight < 1 or together == 1 or sink.has(work.state["frames"])
        alone = alone or work.decoded.interlaced
        if group and (alone or len(group) == together):
            yield from done(group)
            group = []
        if alone:
            yield from done([work])
        else:
            group.append(work)
    if group:
        yield from done(group)


def _restored(restorer: Restorer, work: _Work, mask: np.ndarray | None, **settings: Any) -> np.ndarray:
    """Interlaced, the lines of a frame are two pictures of two moments."""
    assert work.before is not None
    if not work.decoded.interlaced:
        return restorer.restore(work.before, mask=mask, **settings)
    after = np.empty_like(work.before)
    for field in (slice(0, None, 2), slice(1, None, 2)):
        lines = np.ascontiguousarray(work.before[field])
        after[field] = restorer.restore(lines, mask=None if mask is None else mask[field], **settings)
    return after


def _written(sink: Sink, work: _Work, after: np.ndarray | None, clip: Clip, report: Report) -> None:
    """In the writer's thread."""
    begun = time.perf_counter()
    sink.add(work.decoded, work.before, after, work.state)
    report.encode += time.perf_counter() - begun


def _mask(clip: Clip, options: Options) -> np.ndarray | None:
    if options.mask is None and options.region is None:
        return None
    width, height = clip.seen_size()
    mask = mask_of(options, height, width, str(clip.path))
    return None if mask is None else clip.as_stored(mask)
