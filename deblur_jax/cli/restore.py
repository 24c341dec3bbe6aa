"""Make blurred pictures and clips sharp: files, folders, patterns, or - for standard input.

Everything else stays: of a picture EXIF, colour profile, depth, alpha, size; of a clip sound, subtitles, chapters,
times, rotation, colour, depth, codec. Pictures larger than the memory go through the network in tiles that cannot be
seen; a clip that was interrupted goes on with the same command. Without -o results stand beside their inputs as
NAME-sharp.SUFFIX.
"""

import argparse
import json
import math
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from deblur_jax.cli import restore_clips, signals

_LONG_JOB = 20e6  # pixels through Nano, from which on the time is estimated before; of others as much work
_NANO = 10.4  # its thousands of multiply-accumulates for a pixel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs", nargs="+", metavar="IN", help="pictures, clips, folders, patterns such as 'in/**/*.jpg', or -"
    )
    parser.add_argument(
        "-o", "--out", metavar="OUT", help="a file for one input, a folder for several, out/%%05d.png, - for output"
    )
    parser.add_argument(
        "-m",
        "--model",
        default="nano",
        help="a name of deblur weights list, a weights file, a training workdir, several of these with a plus between, "
        "or an exported network (nano)",
    )
    files = parser.add_argument_group("files")
    files.add_argument("--format", metavar="SUFFIX", help="write png, jpg ...; clips mp4, mkv ... (the input's own)")
    files.add_argument("--quality", type=int, metavar="Q", help="of JPEG, WebP and AVIF, 1 to 100 (at least 95)")
    files.add_argument("--strip-metadata", action="store_true", help="leave out all but the colour profile")
    files.add_argument("--name", metavar="TEMPLATE", help="of outputs: {stem}, {suffix} and {n} are filled in")
    files.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    files.add_argument("--skip-existing", action="store_true", help="pass over pictures whose output exists")
    files.add_argument("--dry-run", action="store_true", help="only say what would be written where")
    files.add_argument(
        "--max-pixels", type=float, metavar="MILLIONS", help="refuse larger pictures (250); 0 lifts the limit"
    )
    what = parser.add_argument_group("what is restored, and how much")
    what.add_argument(
        "--selective",
        nargs="?",
        const="auto",
        type=_threshold,
        metavar="THRESHOLD",
        help="copy pictures that surely are sharp (a score of 0.86: see `deblur sharpness`); a clip's sharp frames are "
        "encoded as they are",
    )
    what.add_argument("--strength", type=float, default=1.0, metavar="S", help="how much of the change, 0 to 1 (1)")
    what.add_argument("--tta", action="store_true", help="average over the 8 flips and turns: better, 8 times slower")
    what.add_argument("--denoise", choices=("bilateral",), help="reduce noise before the network")
    what.add_argument(
        "--linear",
        action=argparse.BooleanOptionalAction,
        help="values are proportional to light: they go through as sRGB (what the file's colour profile says)",
    )
    what.add_argument("--mask", metavar="FILE", help="restore where this grey picture is white")
    what.add_argument("--region", metavar="X,Y,W,H", help="restore this rectangle alone; its border is feathered")
    restore_clips.add_arguments(parser)
    run_ = parser.add_argument_group("how it is run and shown")
    run_.add_argument("--compare", type=Path, metavar="FOLDER", help="write before and after side by side, and a page")
    run_.add_argument("--json", action="store_true", help="progress and results as lines of JSON on standard output")
    run_.add_argument("--memory", metavar="SIZE", help="what the process may take, such as 2G (half of the machine's)")
    run_.add_argument("--device", metavar="NAME", help="cpu, gpu, tpu, gpu:1 ... (all of the best kind)")
    run_.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="(float32)")
    run_.add_argument("--engine", choices=("auto", "jax", "onnx"), default="auto", help="what runs the network (auto)")


def run(options: argparse.Namespace) -> int:
    from deblur_jax.errors import UserError

    _check(options)
    memory = _bytes(options.memory) if options.memory else None
    from deblur_jax.restore import jobs, pictures
    from deblur_jax.restore.inputs import READABLE_CLIPS, WRITABLE_CLIPS, Found, collect, is_pattern

    piped = options.inputs == ["-"]
    if not piped and (options.out == "-" or "-" in options.inputs):
        raise UserError("standard input is one picture: deblur restore - -o -, or -o FILE")
    suffix = f".{options.format.removeprefix('.')}" if options.format else None
    if suffix and suffix.lower() not in WRITABLE_CLIPS:
        pictures.format_of(suffix)
    unread: list[str] = []
    if piped:
        planned, passed_over = [_piped(options, suffix)], 0
        _check_format(options, suffix, Path(options.out))
    else:
        patterns = [n for n in options.inputs if is_pattern(n) and not os.path.exists(n)]
        # A folder's .ts are TypeScript more often than clips.
        suffixes = (*pictures.READABLE_SUFFIXES, *(s for s in READABLE_CLIPS if s != ".ts"))
        found = collect([n for n in options.inputs if n not in patterns], suffixes)
        found += [Found(Path(n), Path(n).parent) for n in patterns]
        if not found:
            reason = "; ".join([f"{found.skipped} files of other kinds", *found.unread])
            raise UserError(f"no pictures in {' '.join(options.inputs)}: {reason}")
        out = Path(options.out) if options.out else None
        if out is not None and options.out.endswith(("/", os.sep)) and out.exists() and not out.is_dir():
            raise UserError(f"{out}: is a file, not a folder")
        planned = jobs.plan(
            found,
            out=out,
            into=bool(options.out) and options.out.endswith(("/", os.sep)),
            name=options.name,
            suffix=suffix,
            overwrite=options.overwrite,
            skip_existing=options.skip_existing,
        )
        if results := len(found) - len(planned):
            print(f"{results} of these are outputs of others and passed over", file=sys.stderr)
        if out is not None and len(planned) == 1 and planned[0].target == out:
            _check_format(options, suffix, out)
            if options.name:
                raise UserError(f"--name is for files in a folder, and -o {out} is a file")
        if suffix and not any(job.clip == (suffix.lower() in WRITABLE_CLIPS) for job in planned):
            raise UserError(f"--format {options.format}: none of these is a {'picture' if planned[0].clip else 'clip'}")
        passed_over, unread = found.skipped, found.unread
    clips = sum(job.clip for job in planned)
    restore_clips.check(options, clips, len(planned) - clips)
    if options.compare:
        _check_compared(options.compare, planned)
    planned = [_probed(job, options) for job in planned]
    planned += [jobs.Job(line.partition(": ")[0], None, "", wrong=line) for line in unread]
    if options.dry_run:
        return _dry_run(planned, passed_over, _Events(options.json))
    return _run(options, planned, passed_over, memory)


def _check(options: argparse.Namespace) -> None:
    from deblur_jax.errors import UserError

    if not 0 <= options.strength <= 1:
        raise UserError(f"--strength must be from 0 to 1, not {options.strength:g}")
    if options.quality is not None and not 1 <= options.quality <= 100:
        raise UserError(f"--quality must be from 1 to 100, not {options.quality}")
    if options.max_pixels is not None and not 0 <= options.max_pixels < 1e9:
        raise UserError(f"--max-pixels must be millions from 0 (no limit), not {options.max_pixels:g}")
    if options.mask and options.region:
        raise UserError("--mask and --region exclude each other")
    if options.overwrite and options.skip_existing:
        raise UserError("--overwrite and --skip-existing exclude each other")
    if options.json and options.out == "-":
        raise UserError("--json and -o - both want standard output")
    if options.out == "-" and options.inputs != ["-"]:
        raise UserError("-o - goes with standard input: deblur restore - -o -")


def _threshold(text: str) -> str | float:
    try:
        if text == "auto" or not math.isnan(float(text)):
            return text if text == "auto" else float(text)
        raise ValueError
    except ValueError:
        # Here, or all that is said would be that no IN is left, for this word was taken.
        raise argparse.ArgumentTypeError(f"a number or auto, not {text!r}; files go before it") from None


def _bytes(text: str) -> int:
    from deblur_jax.errors import UserError

    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text, re.IGNORECASE)
    if not match:
        raise UserError(f"--memory must be a size such as 2G or 800M, not {text!r}")
    size = float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ")
    if size < 512 * 1024**2:
        raise UserError(f"--memory {text}: the network needs at least 512M")
    return int(size)


def _region(text: str | None) -> tuple[int, int, int, int] | None:
    from deblur_jax.errors import UserError

    if text is None:
        return None
    match = re.fullmatch(r"(\d+),(\d+),(\d+),(\d+)", text.replace(" ", ""))
    if not match or not int(match[3]) or not int(match[4]):
        raise UserError(f"--region must be X,Y,WIDTH,HEIGHT in pixels, not {text!r}")
    x, y, w, h = (int(n) for n in match.groups())
    return x, y, w, h


def _piped(options: argparse.Namespace, suffix: str | None) -> Any:
    from deblur_jax.errors import UserError
    from deblur_jax.restore import jobs, pictures
    from deblur_jax.restore.images import check_output

    if options.out is None:
        raise UserError("where shall the picture from standard input go? -o FILE, or -o - for standard output")
    target = None if options.out == "-" else Path(options.out)
    if target is not None and not (options.skip_existing and target.exists()):
        check_output(target, overwrite=options.overwrite, suffixes=pictures.WRITABLE_SUFFIXES)
    format = pictures.format_of(suffix or target.suffix) if suffix or target else ""  # pyright: ignore
    exists = target is not None and options.skip_existing and target.exists()
    if sys.stdin is None:
        raise UserError("standard input is closed")
    return jobs.Job("standard input", target, format, data=sys.stdin.buffer.read(), exists=exists)


def _check_compared(folder: Path, planned: list[Any]) -> None:
    """Comparisons have names like those of their pictures."""
    from deblur_jax.errors import UserError

    for path in [path for job in planned for path in (job.path, job.target) if path]:
        if os.path.realpath(path.parent) == os.path.realpath(folder):
            raise UserError(f"--compare {folder}: needs a folder of its own, and {path} is in this one")


def _check_format(options: argparse.Namespace, suffix: str | None, out: Path) -> None:
    from deblur_jax.errors import UserError
    from deblur_jax.restore import pictures
    from deblur_jax.restore.inputs import WRITABLE_CLIPS

    def kind(suffix: str) -> str:
        return WRITABLE_CLIPS.get(suffix.lower()) or pictures.format_of(suffix)

    if suffix and options.out != "-" and kind(suffix) != kind(out.suffix):
        raise UserError(f"--format {options.format} and -o {out} are two formats")


def _probed(job: Any, options: argparse.Namespace) -> Any:
    """With the number of pixels; what is wrong with a file is said when its turn comes."""
    import dataclasses

    from deblur_jax.errors import UserError
    from deblur_jax.restore import pictures
    from deblur_jax.restore.inputs import is_pattern

    if job.wrong or job.exists:
        return job
    try:
        if job.clip:
            from deblur_jax.restore import numbered, video_io

            clip = numbered.probe(job.path, options.fps) if is_pattern(job.path) else video_io.probe(job.path)
            return dataclasses.replace(job, pixels=clip.width * clip.height * clip.frames, frames=clip.frames)
        header = pictures.probe(job.data if job.data is not None else job.path, job.name)
    except UserError:
        return job
    return dataclasses.replace(job, pixels=header.width * header.height, sample=header.sample)


def _dry_run(planned: list[Any], passed_over: int, emit: "_Events") -> int:
    for job in planned:
        what = job.wrong or f"{job.name} -> {job.target or '-'}"
        emit(event="planned", input=job.name, output=str(job.target or "-"), exists=job.exists, wrong=job.wrong)
        if not emit.wanted:
            print(f"{what}{' (exists, passed over)' if job.exists else ''}")
    if passed_over:
        print(f"{passed_over} files of other kinds are passed over", file=sys.stderr)
    return 1 if any(job.wrong for job in planned) else 0


def _run(options: argparse.Namespace, planned: list[Any], passed_over: int, memory: int | None) -> int:
    import functools

    from deblur_jax import weights
    from deblur_jax.cli.cache import use_compile_cache
    from deblur_jax.cli.progress import Progress
    from deblur_jax.restore import jobs, sharpness
    from deblur_jax.restore.compare import Comparisons

    use_compile_cache()
    loaded = weights.find(options.model)  # before any picture is touched
    largest = max(job.sample * job.pixels // job.frames for job in planned)
    overlap, network_memory = _shared_out(memory, largest)

    @functools.cache
    def restorer() -> Any:
        from deblur_jax.restore.restorer import Restorer

        return Restorer(
            loaded,
            engine=options.engine,
            device=options.device,
            precision=options.precision,
            memory=network_memory,
        )

    restorer()  # a device that is not there is found before any picture is read
    comparisons = None
    if options.compare:
        comparisons = Comparisons(options.compare, overwrite=options.overwrite, beside=options.skip_existing)
    selective: dict[str, Any] = {}
    if options.selective is not None:
        threshold = sharpness.SURELY_SHARP if options.selective == "auto" else options.selective
        selective = {"threshold": threshold, "too_blurred": sharpness.TOO_BLURRED}
    settings = jobs.Options(
        quality=options.quality,
        strip_metadata=options.strip_metadata,
        max_pixels=jobs.pictures.MAX_PIXELS if options.max_pixels is None else int(options.max_pixels * 1e6) or None,
        strength=options.strength,
        tta=options.tta,
        denoise=options.denoise,
        linear=options.linear,
        mask=_mask(options.mask),
        region=_region(options.region),
        overlap=overlap,
        sharpness=lambda pixels, **how: sharpness.sharpness(pixels, **how).score,
        show=comparisons.add if comparisons else None,
        clip=restore_clips.chosen(options),
        **selective,
    )
    total = sum(job.pixels for job in planned if not (job.wrong or job.exists)) or 1
    emit = _Events(options.json)
    emit(event="start", pictures=len(planned), megapixels=round(total / 1e6, 2))
    passes = 8 if options.tta else 1
    # Asking how long it takes makes the network, for which there may be no need: where all pictures are sharp.
    may_be_long = total * passes > _LONG_JOB or options.model != "nano"
    if may_be_long and not options.json and total * passes * restorer().facts.kmac_per_pixel > _NANO * _LONG_JOB:
        seconds = _estimate(restorer(), total * passes)
        many = f"{len(planned)} pictures" if len(planned) > 1 else "1 picture"
        print(f"{many}, {total / 1e6:.3g} megapixels: about {_about(seconds)}", file=sys.stderr)
    outcomes: list[Any] = []
    done = 0.0
    with Progress("restoring", scale=1e6, unit=" megapixels") as progress:
        current = 0

        def tick(part: float) -> None:
            progress(int(done + part * current), total)
            emit(event="progress", done=round((done + part * current) / total, 4))

        sizes = iter(job.pixels for job in planned if not (job.wrong or job.exists))
        try:
            with signals.heeded():
                current = next(sizes, 0)
                for outcome in jobs.run(planned, restorer, settings, tick=tick):
                    outcomes.append(outcome)
                    emit(event="picture", **outcome.as_dict())
                    if not (outcome.job.wrong or outcome.job.exists):
                        done += outcome.job.pixels
                        current = next(sizes, 0)
                        progress(int(done), total)
        finally:
            progress.__exit__()
            if comparisons:
                comparisons.finish()
            _conclude(options, outcomes, len(planned), passed_over, emit)
            if isinstance(sys.exception(), KeyboardInterrupt):
                restore_clips.say_what_goes_on(planned)
    failed = sum(outcome.status == "failed" for outcome in outcomes)
    return 0 if not failed else 1 if failed < len(outcomes) else 2


def _shared_out(memory: int | None, largest: int) -> tuple[bool, int | None]:
    """Whether pictures are read and written beside the network, and what is left for the network.

    Of 8 bits a picture takes 3 bytes a pixel, the restored one as much, and decoding or encoding 7 more at its peak;
    of 16 bits twice, as floats four times as many: `largest` is a picture's pixels times the bytes of a value.
    """
    if memory is None:
        return True, None
    import resource

    from deblur_jax.restore.engines import COMPILING

    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + COMPILING
    overlap = (memory - base) // 2 > 20 * largest
    return overlap, max(memory - base - (20 if overlap else 7) * largest, 128 * 1024**2)


def _mask(name: str | None) -> Any:
    if name is None:
        return None
    import numpy as np

    from deblur_jax.restore import pictures
    from deblur_jax.restore.images import read_bytes

    pixels = pictures.to_8bit(pictures.read(read_bytes(name), name).pixels)
    return (pixels.mean(-1) / 255.0).astype(np.float32)


def _estimate(restorer: Any, pixels: float) -> float:
    """From two runs on a small picture, of which the first one compiles.

    Where these would take a good part of the time themselves, from how fast the machine multiplies matrices: compiled
    networks reach a quarter of that on CPUs, within a factor of two.
    """
    import numpy as np

    if pixels < 20 * 512**2:
        return 4 * 2e3 * restorer.facts.kmac_per_pixel * pixels / _operations_per_second()

    picture = np.zeros((512, 512, 3), np.uint8)
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        restorer.restore(picture)
        seconds = time.perf_counter() - start
    return seconds * pixels / 512**2


def _operations_per_second() -> float:
    import numpy as np

    matrix = np.ones((1024, 1024), np.float32)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        np.dot(matrix, matrix)
        best = min(best, time.perf_counter() - start)
    return 2 * 1024**3 / best


def _about(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class _Events:
    """Lines of JSON for programs."""

    def __init__(self, wanted: bool):
        self.wanted = wanted

    def __call__(self, **event: Any) -> None:
        if self.wanted:
            print(json.dumps(event, ensure_ascii=False), flush=True)


def _conclude(options: argparse.Namespace, outcomes: list[Any], planned: int, passed_over: int, emit: Any) -> None:
    """The table, and what failed at the end, where it is seen."""
    restored = [o for o in outcomes if o.status == "restored"]
    copied = [o for o in outcomes if o.status == "copied"]
    failed = [o for o in outcomes if o.status == "failed"]
    emit(event="done", restored=len(restored), copied=len(copied), failed=len(failed), of=planned)
    for outcome in failed:
        print(f"deblur restore: {outcome.message}", file=sys.stderr)
    if options.json or options.out == "-":
        return
    rows = [o for o in outcomes if o.status != "failed"]
    if rows:
        names = [str(o.job.target or "-") for o in rows]
        wide = min(60, max(map(len, names)))
        print(f"{'':{wide}}  {'pixels':>11} {'seconds':>8} {'Laplacian':>16}")
        for outcome, name in zip(rows, names, strict=True):
            print(f"{name if len(name) <= wide else '…' + name[-wide + 1 :]:{wide}}  {_row(outcome)}")
            for note in outcome.notes:
                print(f"{'':{wide}}  {note}")
    if copied:
        pictures = [o for o in restored if not o.clip]
        speed = sum(o.seconds for o in pictures) / max(1, sum(o.width * o.height for o in pictures))
        saved = speed * sum(o.width * o.height for o in copied)
        time_saved = f", which saved about {_about(saved)}" if pictures else ""
        print(f"{len(copied)} of {len(outcomes)} were sharp already and copied{time_saved}")
    if passed_over:
        print(f"{passed_over} files of other kinds were passed over", file=sys.stderr)


def _row(outcome: Any) -> str:
    if outcome.status == "kept":
        return "exists, passed over"
    size = f"{outcome.width}x{outcome.height}"
    if outcome.clip:
        return f"{size:>11} {restore_clips.row(outcome.clip)}"
    if outcome.status == "copied":
        return f"{size:>11} {'sharp':>8} {outcome.before:>7.0f}"
    return f"{size:>11} {outcome.seconds:8.2f} {outcome.before:>7.0f} -> {outcome.after:<5.0f}"
