"""What `deblur restore` has for clips alone."""

import argparse
import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deblur_jax.errors import UserError

_OWN = ("codec", "crf", "pixel_format", "start", "end", "every", "fps", "hook")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    clips = parser.add_argument_group("clips")
    clips.add_argument("--codec", metavar="NAME", help="h264, hevc, vp9, av1, prores, ffv1 ... (the input's own)")
    clips.add_argument("--crf", type=int, metavar="N", help="quality on the codec's own scale, 0 the best (17 to 22)")
    clips.add_argument("--pixel-format", metavar="NAME", help="such as yuv420p10le (the input's own)")
    clips.add_argument("--start", metavar="TIME", help="in seconds or as H:MM:SS (the beginning)")
    clips.add_argument("--end", metavar="TIME", help="(the end)")
    clips.add_argument("--every", type=int, default=1, metavar="N", help="keep one of N frames; the sound stays (1)")
    clips.add_argument("--fps", type=float, metavar="N", help="of numbered pictures that are read: in/%%05d.png")
    clips.add_argument("--hook", metavar="MODULE:FUNCTION", help="is called with each restored frame and its time")


def check(options: argparse.Namespace, clips: int, pictures: int) -> None:
    """Options for one kind where there are only files of the other are mistakes."""
    if not clips:
        for name in _OWN:
            if getattr(options, name) != (1 if name == "every" else None):
                raise UserError(f"--{name.replace('_', '-')} is for clips, and there are none")
    if clips and not pictures and options.quality is not None and not _to_pictures(options):
        raise UserError("--quality is for pictures; of clips it is --crf, 0 the best")


def _to_pictures(options: argparse.Namespace) -> bool:
    from deblur_jax.restore.inputs import is_pattern

    return bool(options.out) and is_pattern(options.out)


def chosen(options: argparse.Namespace) -> Any:
    from deblur_jax.restore.options import ClipOptions

    start, end = _seconds("--start", options.start), _seconds("--end", options.end)
    if start is not None and end is not None and start >= end:
        raise UserError(f"--end {options.end} must be later than --start {options.start}")
    if not 1 <= options.every <= 1_000_000:
        raise UserError(f"--every must be from 1 to a million, not {options.every}")
    if options.fps is not None and not 0.01 <= options.fps <= 1000:
        raise UserError(f"--fps must be from 0.01 to 1000, not {options.fps:g}")
    if options.crf is not None and options.crf < 0:
        raise UserError(f"--crf must be at least 0, not {options.crf}")
    return ClipOptions(
        codec=options.codec,
        crf=options.crf,
        pixel_format=options.pixel_format,
        start=start,
        end=end,
        every=options.every,
        fps=options.fps,
        compare=options.compare,
        overwrite=options.overwrite,
        skip_existing=options.skip_existing,
        hook=hook(options.hook),
    )


def _seconds(option: str, text: str | None) -> float | None:
    if text is None:
        return None
    match = re.fullmatch(r"(?:(?:(\d+):)?([0-5]?\d):)?(\d+(?:\.\d*)?)", text)
    if not match:
        raise UserError(f"{option} must be seconds or H:MM:SS, not {text!r}")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    if not (total := 3600 * hours + 60 * minutes + seconds) < 1e9:
        raise UserError(f"{option} must be below a thousand million seconds, not {text[:20]}")
    return total


def hook(name: str | None) -> Callable[[Any, float], object] | None:
    """The function that is meant; modules of the current folder are found."""
    if name is None:
        return None
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise UserError(f"--hook must be MODULE:FUNCTION, not {name!r}")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), function)
    except Exception as error:  # whatever a module does when it is imported
        said = (str(error).splitlines() or [""])[0]
        raise UserError(f"--hook {name}: {type(error).__name__}: {said}") from None
    if not callable(found):
        raise UserError(f"--hook {name}: is no function")

    def called(picture: Any, seconds: float) -> None:
        try:
            found(picture, seconds)
        except UserError:
            raise
        except Exception as error:
            said = (str(error).splitlines() or [""])[0]
            raise UserError(f"--hook {name} failed at {seconds:.3f} s: {type(error).__name__}: {said}") from error

    return called


def row(report: Any) -> str:
    """Behind the pixels in the table."""
    parts = f"decode {report.decode:.1f}, network {report.network:.1f}, encode {report.encode:.1f}"
    said = f"{report.frames} frames, {report.rate:.3g} a second ({report.seconds:.1f} s; {parts})"
    if report.resumed:
        said += f"; {report.resumed} were there already"
    return said + (f"; {report.skipped} sharp ones passed by the network" if report.skipped else "")


def say_what_goes_on(planned: list[Any]) -> None:
    """Of a command that was stopped."""
    for job in planned:
        if not (job.clip and job.target) or job.wrong or job.exists:
            continue
        if (job.target.parent / f".{job.target.name}.deblur").is_dir():
            print(f"deblur restore: {job.target}: the same command goes on where it stopped", file=sys.stderr)
