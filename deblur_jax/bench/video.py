"""A clip from file to file, against decoding and encoding alone in the same run; and memory against length."""

import os
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deblur_jax.bench.measure import Timing, timing_of
from deblur_jax.errors import UserError
from deblur_jax.restore import encoders, video, video_io
from deblur_jax.restore.options import Options
from deblur_jax.restore.restorer import Restorer
from deblur_jax.weights import Weights


class Speeds(NamedTuple):
    """Seconds for all frames."""

    frames: int
    timings: dict[str, Timing]


def compare(weights: Weights, *, frames: int, height: int, width: int, rounds: int) -> Speeds:
    """In turns: the whole, decoding alone, the network alone, decoding and encoding without a network."""
    restorer = Restorer(weights)
    with tempfile.TemporaryDirectory() as folder:
        source, target = write(Path(folder, "in.mp4"), frames, height, width), Path(folder, "out.mp4")
        clip = video_io.probe(source)
        picture = video_io.to_rgb(next(_frames(clip)).picture, clip.colours)

        def whole() -> None:
            video.restore(source, target, lambda: restorer, Options())

        def decode() -> None:
            for frame in _frames(clip):
                video_io.to_rgb(frame.picture, clip.colours)

        def network() -> None:
            for _ in range(frames):
                restorer.restore(picture)

        works = {"file to file": whole, "decoding alone": decode, "network alone": network}
        works["decoding and encoding"] = lambda: _recode(clip, target)
        seconds: dict[str, list[float]] = {name: [] for name in works}
        restorer.restore(picture)  # compiles
        for _ in range(rounds):
            for name, work in works.items():
                begun = time.perf_counter()
                work()
                seconds[name].append(time.perf_counter() - begun)
    return Speeds(frames, {name: timing_of(taken) for name, taken in seconds.items()})


def memory(model: str, *, lengths: tuple[int, ...], height: int, width: int) -> dict[int, int]:
    """The most bytes that the whole command takes for clips of so many frames."""
    # A process counts as its own what its parent had when it was started: so a small one starts it, not this one.
    between = "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL); "
    between += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(done.returncode)"
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for length in lengths:
            source = write(Path(folder, f"{length}.mp4"), length, height, width)
            command = [sys.executable, "-m", "deblur_jax", "restore", str(source), "--model", model, "--overwrite"]
            done = subprocess.run([sys.executable, "-c", between, *command], capture_output=True, text=True)
            if done.returncode:
                raise UserError(f"the command failed: {done.stderr.strip()}")
            found[length] = int(done.stdout) * (1 if sys.platform == "darwin" else 1024)
            os.unlink(source)
    return found


def _frames(clip: video_io.Clip) -> Any:
    return video_io.frames(clip, "yuv420p", video_io.Loss())


def _recode(clip: video_io.Clip, target: Path) -> None:
    encoder = encoders.opened(encoders.choose(clip, target)[0])
    for number, frame in enumerate(_frames(clip)):
        frame.picture.pts, frame.picture.time_base, frame.picture.pict_type = number, 1 / clip.rate, 0
        encoder.encode(frame.picture)
    encoder.encode(None)


def write(path: Path, frames: int, height: int, width: int) -> Path:
    """A sample photograph that moves, in H.264."""
    import av

    from deblur_jax.bench.restore import sample

    photograph = sample(height + 60, width + 60)
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=30, options={"crf": "20", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for n in range(frames):
            at = 30 + round(25 * np.sin(n / 9))
            piece = np.ascontiguousarray(photograph[at : at + height, n % 60 : n % 60 + width])
            frame: Any = video_io.from_rgb(piece, "yuv420p", video_io.Colours())
            frame.pts, frame.time_base = n, Fraction(1, 30)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path
