"""Picture files through a Restorer: reading, the network and writing overlap; what fails is named, the rest is done."""

import collections
import dataclasses
import os
import re
import string
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deblur_jax.errors import UserError
from deblur_jax.files import make_folder, write_whole
from deblur_jax.restore import colour, pictures
from deblur_jax.restore.images import read_bytes
from deblur_jax.restore.inputs import WRITABLE_CLIPS, Found, is_clip, is_pattern
from deblur_jax.restore.options import Options, Report, mask_of
from deblur_jax.restore.pictures import Picture
from deblur_jax.restore.restorer import Restorer, ahead

__all__ = ["Job", "Options", "Outcome", "laplacian_score", "plan", "run"]


@dataclass(frozen=True)
class Job:
    """One file. Standard input or output is `data` or `target` None; `wrong` says why nothing can be done."""

    name: str
    target: Path | None
    format: str  # of the target: a key of pictures.SUFFIXES; "" is the source's own
    path: Path | None = None
    data: bytes | None = None
    wrong: str = ""
    exists: bool = False  # the target does, and shall be kept
    pixels: int = 0  # of all frames
    sample: int = 1  # bytes of a value
    frames: int = 1
    clip: bool = False
    alone: str = ""  # the target's name, or one like it where another target has the same in another folder

    def read(self) -> bytes:
        if self.data is not None:
            return self.data
        assert self.path is not None
        return read_bytes(self.path)


@dataclass
class Outcome:
    job: Job
    status: str  # restored, copied (sharp already), kept (the target exists), failed
    message: str = ""  # why it failed
    width: int = 0
    height: int = 0
    seconds: float = 0.0  # of the network
    before: float | None = None  # Laplacian scores
    after: float | None = None
    sharpness: float | None = None
    notes: list[str] = field(default_factory=list)
    clip: Report | None = None  # what else is to be said of a clip

    def as_dict(self) -> dict[str, Any]:
        said = dataclasses.asdict(self)
        del said["job"]
        if self.clip:
            said["clip"] = self.clip.as_dict()
        return {"input": self.job.name, "output": str(self.job.target or "-"), **said}


def plan(
    found: Sequence[Found],
    *,
    out: Path | None,
    into: bool = False,
    name: str | None = None,
    suffix: str | None = None,
    overwrite: bool = False,
    skip_existing: bool = False,
) -> list[Job]:
    """What is written where. `out` is a folder if it is one, `into` says so, or it has no suffix or must hold several;
    without it results stand beside the inputs. `suffix` is for pictures or clips, whichever it belongs to; `name` is a
    template with {stem}, {suffix} and {n}. Another one's target is the result of an earlier run, and passed over; but
    not where numbers make the names, as 1.png may be just another picture then."""
    into = out is not None and (into or out.is_dir() or len(found) != 1 or not out.suffix)
    template = name or ("{stem}-sharp" if out is None else "{stem}")

    def target_of(one: Found, n: int) -> Path:
        if out is not None and not into:
            return out
        folder = one.path.parent if out is None else out / _below(one)
        clip = is_clip(one.path)
        kind = suffix if suffix and clip == (suffix.lower() in WRITABLE_CLIPS) else _suffix_for(one.path)
        return folder / (_filled(template, one.path, n) + kind)

    # Not Path's own resolve(), exists() and is_dir(), which raise for links to themselves and for names that are too
    # long: those are found wrong when their turn comes.
    real_of = os.path.realpath
    if "n" not in _fields(template):
        pairs = [(real_of(one.path), real_of(target_of(one, 0))) for one in found]
        results = {target for path, target in pairs if target != path}
        found = [
            one for one, (path, target) in zip(found, pairs, strict=True) if path not in results or path == target
        ] or found
    jobs, names, taken, inputs = [], set(), {}, {real_of(one.path) for one in found}
    for n, one in enumerate(found, 1):
        wrong = ""
        clip, target = is_clip(one.path), target_of(one, n)
        exists, real = False, real_of(target)
        there = os.path.exists(target)
        framed = clip and is_pattern(target)
        if clip and not framed and target.suffix.lower() not in WRITABLE_CLIPS:
            wrong = (
                f"{one.path}: clips cannot be written as {target.suffix}; {' '.join(WRITABLE_CLIPS)} can, and %05d.png"
            )
        elif real in taken:
            wrong = f"{one.path}: its output {target} is that of {taken[real]} already; see --name"
        elif real in inputs and real != real_of(one.path):
            wrong = f"{one.path}: its output {target} is another input; see --name"
        elif real in inputs and not overwrite:
            wrong = f"{one.path}: its output {target} is an input; --overwrite replaces it"
        elif os.path.isdir(target):
            wrong = f"{one.path}: its output {target} is a directory"
        elif there and skip_existing:
            exists = True
        elif there and not overwrite:
            wrong = f"{target}: exists already; --overwrite replaces it, --skip-existing passes over it"
        taken.setdefault(real, one.path)
        format = "" if clip else pictures.format_of(target.suffix)
        alone, number = target.name, 2
        while alone in names:
            alone, number = f"{target.stem}-{number}{target.suffix}", number + 1
        names.add(alone)
        path = one.path
        jobs.append(Job(str(path), target, format, path=path, wrong=wrong, exists=exists, clip=clip, alone=alone))
    return jobs


def _suffix_for(path: Path) -> str:
    """The file's own, if such a file can be written."""
    if is_clip(path):
        return path.suffix if path.suffix.lower() in WRITABLE_CLIPS else ".mkv"
    if path.suffix.lower() in pictures.WRITABLE_SUFFIXES:
        return path.suffix
    return ".jpg" if path.suffix.lower() in pictures.SUFFIXES["heic"] else ".png"


def _below(one: Found) -> Path:
    parent = one.path.parent
    return parent.relative_to(one.root) if parent.is_relative_to(one.root) else Path()


def _fields(template: str) -> set[str]:
    """What a template is filled with, each by its name alone, a number as wide as is wanted: {n:03}."""
    wrong = UserError(f"--name {template!r}: only {{stem}}, {{suffix}} and {{n}} can be filled in")
    try:
        parts = [part for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError:
        raise wrong from None
    for _, name, form, conversion in parts:
        if name not in ("stem", "suffix", "n") or conversion or (form and not (name == "n" and _WIDTH.fullmatch(form))):
            raise wrong
    return {name for _, name, _, _ in parts if name}


_WIDTH = re.compile(r"0?\d{1,2}d?|d")


def _filled(template: str, path: Path, n: int) -> str:
    name = template.format(stem=path.stem, suffix=path.suffix, n=n)
    if not name or "/" in name or "\\" in name:
        raise UserError(f"--name {template!r} must be a file's name without a folder")
    return name


@dataclass
class _Loaded:
    job: Job
    data: bytes = b""
    picture: Picture | None = None
    linear: bool = False
    sharpness: float | None = None
    before: float | None = None
    outcome: Outcome | None = None  # there is nothing left to do


def run(
    jobs: Iterable[Job],
    restorer: Callable[[], Restorer],
    options: Options,
    *,
    tick: Callable[[float], None] | None = None,
) -> Iterator[Outcome]:
    """Outcomes in the order of the jobs. `tick` hears which part of the current picture is done.

    The restorer is asked for when the first picture needs it.
    """

    def load(job: Job) -> _Loaded:
        try:
            return _load(job, options)
        except UserError as error:
            return _Loaded(job, outcome=Outcome(job, "failed", str(error)))

    loaded = ahead(map(load, jobs), 1) if options.overlap else map(load, jobs)
    with ThreadPoolExecutor(1) as writer:
        writing: collections.deque[Future[Outcome]] = collections.deque()
        try:
            for one in loaded:
                writing.append(_restored(one, restorer, options, writer, tick))
                one.picture = None
                while len(writing) > (1 if options.overlap else 0) or (writing and writing[0].done()):
                    yield writing.popleft().result()
            while writing:
                yield writing.popleft().result()
        finally:
            for future in writing:
                future.cancel()


def _load(job: Job, options: Options) -> _Loaded:
    if job.wrong:
        raise UserError(job.wrong)
    if job.exists:
        return _Loaded(job, outcome=Outcome(job, "kept"))
    if job.clip:
        return _Loaded(job)
    data = job.read()
    picture = pictures.read(data, job.name, max_pixels=options.max_pixels)
    linear = colour.is_linear(picture) if options.linear is None else options.linear
    sharpness = options.sharpness(picture.pixels, linear=linear) if options.sharpness else None
    kept = data if sharpness is not None and sharpness >= options.threshold else b""  # to be copied
    return _Loaded(job, kept, picture, linear, sharpness, laplacian_score(picture.pixels))


def _restored(
    one: _Loaded,
    restorer: Callable[[], Restorer],
    options: Options,
    writer: ThreadPoolExecutor,
    tick: Callable[[float], None] | None,
) -> Future[Outcome]:
    """The network now, the writing in the writer's thread."""
    done: Future[Outcome] = Future()
    if one.outcome:
        done.set_result(one.outcome)
        return done
    if one.job.clip:
        done.set_result(_clip(one.job, restorer, options, tick))
        return done
    job, picture = one.job, one.picture
    assert picture is not None
    height, width = picture.pixels.shape[:2]
    outcome = Outcome(job, "restored", "", width, height, before=one.before, sharpness=one.sharpness)
    if one.sharpness is not None and one.sharpness >= options.threshold:
        outcome.status, outcome.after = "copied", one.before
        if job.format in ("", picture.format) and not options.strip_metadata:
            return writer.submit(_write, outcome, lambda: one.data)
        return writer.submit(_write, outcome, lambda: _encoded(picture, outcome, options))
    try:
        mask = mask_of(options, height, width, job.name)
        start = time.perf_counter()
        pixels = restorer().restore(
            picture.pixels,
            strength=options.strength,
            tta=options.tta,
            denoise=options.denoise,
            linear=one.linear,
            mask=mask,
            tick=tick and (lambda parts, total: tick(parts / total)),
        )
        outcome.seconds = time.perf_counter() - start
    except UserError as error:
        done.set_result(Outcome(job, "failed", f"{job.name}: {error}"))
        return done
    if one.linear and options.linear is None:
        outcome.notes.append("its values are linear, it says: the network saw them as sRGB")
    if one.sharpness is not None and one.sharpness < options.too_blurred:
        outcome.notes.append("so blurred that the network cannot help much")
    after = dataclasses.replace(picture, pixels=pixels)  # shares its notes with `picture`
    before = picture if options.show else after  # one picture less to hold

    def encoded() -> bytes:
        outcome.after = laplacian_score(pixels)
        return _encoded(after, outcome, options)

    def finish() -> Outcome:
        written = _write(outcome, encoded)
        if options.show and written.status == "restored":
            try:
                options.show(job.name, before, after)
            except UserError as error:
                written.notes.append(str(error))
        return written

    return writer.submit(finish)


def _clip(
    job: Job, restorer: Callable[[], Restorer], options: Options, tick: Callable[[float], None] | None
) -> Outcome:
    assert job.path is not None
    assert job.target is not None
    from deblur_jax.restore import video  # pictures do not wait for FFmpeg

    try:
        said = video.restore(job.path, job.target, restorer, options, compared=job.alone, tick=tick)
    except UserError as error:
        begins = str(error).startswith((job.name, str(job.target.parent)))
        return Outcome(job, "failed", str(error) if begins else f"{job.name}: {error}")
    notes, said.notes = said.notes, []
    return Outcome(job, "restored", "", said.width, said.height, said.network, notes=notes, clip=said)


def _encoded(picture: Picture, outcome: Outcome, options: Options) -> bytes:
    format = outcome.job.format or (picture.format if picture.format not in ("heic", "gif") else "png")
    data = pictures.encode(picture, format, quality=options.quality, strip_metadata=options.strip_metadata)
    outcome.notes = [*picture.notes, *outcome.notes]
    return data


def _write(outcome: Outcome, data: Callable[[], bytes]) -> Outcome:
    target = outcome.job.target
    try:
        content = data()
        if target is None:
            import sys

            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
        else:
            make_folder(target.parent)
            write_whole(target, content)
    except UserError as error:
        message = str(error) if target and str(error).startswith(str(target)) else f"{outcome.job.name}: {error}"
        return dataclasses.replace(outcome, status="failed", message=message)
    return outcome


def laplacian_score(pixels: np.ndarray) -> float:
    """`metrics.laplacian_score` of one picture `(h w c)` of any depth, in strips and without the network's device."""
    total = squares = 0
    for top in range(0, len(pixels), 512):
        first, last = max(0, top - 1), min(len(pixels), top + 513)
        strip = pictures.to_8bit(pixels[first:last])
        grey = cv2.cvtColor(strip, cv2.COLOR_RGB2GRAY) if strip.shape[2] == 3 else strip[..., 0]
        response = cv2.Laplacian(np.ascontiguousarray(grey), cv2.CV_16S).astype(np.int64)
        kept = response[top - first : top - first + min(512, len(pixels) - top)]
        total, squares = total + int(kept.sum()), squares + int((kept * kept).sum())
    count = pixels.shape[0] * pixels.shape[1]
    return (squares - total * total / count) / count
