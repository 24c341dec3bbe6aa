"""Measure speed on this machine: what is compared runs side by side."""

import argparse
import json
import os
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

from deblur_jax.cli import bench_engines

_MOST = 16384  # pixels of a side, which is also where H.264 ends


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    kind = kinds.add_parser("synthesis", help="making blur against a network's training step on the same batch")
    kind.add_argument("--network", default="small", help="default: small")
    kind.add_argument("--batch", type=int, default=8, help="pictures (8)")
    kind.add_argument("--side", type=int, default=256, help="of the pictures, in pixels (256)")
    kind.add_argument("--rounds", type=int, default=5, help="of which the median is given (5)")
    kind = kinds.add_parser("pipeline", help="pairs a second from files, against PyTorch's DataLoader")
    kind.add_argument("--workers", type=int, default=2, help="threads of ours, processes of theirs (2)")
    kind.add_argument("--rounds", type=int, default=5, help="of which the median is given (5)")
    kind = kinds.add_parser("restore", help="a folder, one picture against PyTorch, and the command's start")
    kind.add_argument("-m", "--model", default="nano", help="by name, a weights file or a training workdir (nano)")
    kind.add_argument("--size", default="1280x720", metavar="WxH", help="of the pictures (1280x720)")
    kind.add_argument("--pictures", type=int, default=12, metavar="N", help="in the folder (12)")
    kind.add_argument("--rounds", type=int, default=5, help="of which the median is given (5)")
    kind = kinds.add_parser("video", help="a clip from file to file, against its parts, and memory against length")
    kind.add_argument("-m", "--model", default="nano", help="by name, a weights file or a training workdir (nano)")
    kind.add_argument("--size", default="1280x720", metavar="WxH", help="of the clip (1280x720)")
    kind.add_argument("--frames", type=int, default=60, metavar="N", help="of the clip (60)")
    kind.add_argument("--rounds", type=int, default=3, help="of which the median is given (3)")
    kind = kinds.add_parser("train", help="the whole training step against PyTorch's, eager and compiled")
    kind.add_argument("--networks", nargs="+", metavar="NAME", help="of nano small medium large (all)")
    kind.add_argument("--batch", type=int, help="pictures (32; on a CPU 2)")
    kind.add_argument("--side", type=int, help="of the crops, in pixels (256; on a CPU 128)")
    kind.add_argument("--rounds", type=int, default=5, help="of which the median is given (5)")
    kind.add_argument("--record", action="store_true", help="keep it in export/benchmarks/; not of a CPU")
    kind = kinds.add_parser("original", help="a network against the published graph it was written after")
    kind.add_argument("package", type=Path, metavar="DIR", help="with a TensorFlow.js graph model: an unpacked package")
    kind.add_argument("-m", "--model", default="maxim-gopro", help="the same of ours (maxim-gopro)")
    kind.add_argument("--sizes", nargs="+", default=["256x256", "512x512"], metavar="WxH", help="(256x256 512x512)")
    kind.add_argument("--rounds", type=int, default=5, help="of which the median is given (5)")
    kind.add_argument("--no-memory", action="store_true", help="do not measure memory, which starts each once more")
    bench_engines.add_arguments(kinds)


def run(options: argparse.Namespace) -> int:
    from deblur_jax.errors import UserError

    for name in ("batch", "side", "rounds", "workers", "pictures", "frames"):
        given = getattr(options, name, None)
        if given is not None and given < (2 if name == "rounds" else 1):
            raise UserError(f"--{name} must be larger, not {given}")
    kinds = {"synthesis": _synthesis, "pipeline": _pipeline, "restore": _restore, "video": _video, "train": _train}
    kinds |= {"original": _original, "engines": bench_engines.run, "compare": bench_engines.compare}
    return kinds[options.kind](options)


def _synthesis(options: argparse.Namespace) -> int:
    import jax

    from deblur_jax.bench import synthesis

    device = jax.devices()[0]
    print(f"{options.batch} x {options.side}x{options.side}, {device.device_kind}, median and quartiles", flush=True)
    timings = synthesis.compare(network=options.network, batch=options.batch, side=options.side, rounds=options.rounds)
    step = next(iter(timings.values())).median
    for name, timing in timings.items():
        print(f"{name:28} {timing!s:34} {timing.median / step:6.3f} of the step")
    return 0


def _pipeline(options: argparse.Namespace) -> int:
    from deblur_jax.bench import pipeline

    with tempfile.TemporaryDirectory() as folder:
        seconds = pipeline.compare(Path(folder), workers=options.workers, rounds=options.rounds)
    print(f"pairs a second, crops of 256x256 from 1280x720, {options.workers} workers, medians")
    print(f"{'':6} {'deblur_jax':>12} {'torch':>12} {'ratio':>8}")
    for kind in pipeline.FORMATS:
        ours, theirs = (1.0 / seconds[kind, reader] for reader in ("deblur_jax", "torch"))
        print(f"{kind:6} {ours:12.1f} {theirs:12.1f} {ours / theirs:8.2f}")
    return 0


def _train(options: argparse.Namespace) -> int:
    # Or JAX takes three quarters of a GPU's memory before PyTorch comes.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    # PyTorch's threads would otherwise spin while they wait, ten times as long where other programs use the cores too.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import jax

    from deblur_jax.bench import train
    from deblur_jax.errors import UserError

    device, cpu = jax.devices()[0].device_kind, jax.default_backend() == "cpu"
    folder = Path("export")
    if options.record and cpu:
        raise UserError("--record: records are kept of GPUs and TPUs only, this is a CPU")
    if options.record and not folder.is_dir():
        raise UserError("--record writes into export/ of the repository, which is not here")
    batch, side = options.batch or (2 if cpu else 32), options.side or (128 if cpu else 256)
    if side % 16 or side < 48:
        raise UserError(f"--side must be a multiple of 16 and at least 48, not {side}")
    print(
        f"{batch} x {side}x{side}, {train.dtype_here()}, {device}, which multiplies matrices at "
        f"{train.peak_here() / 1e12:.3g} TFLOP/s; a step is forward, backward and update; median and quartiles"
    )
    print(f"{'':7} {'':16} {'step':32} {'ratio':>6} {'images/s':>9} {'of peak':>8} {'memory':>10}", flush=True)
    found, ours = [], 1.0
    for row in train.compare(options.networks or train.NETWORKS, batch=batch, side=side, rounds=options.rounds):
        found.append(row)
        if row.timing is None:
            print(f"{row.network:7} {row.work:16} {row.note}", flush=True)
            continue
        ours = row.timing.median if row.work == train.OURS else ours
        memory = "-" if row.memory is None else f"{row.memory / 1e6:.0f} MB"
        print(
            f"{row.network:7} {row.work:16} {row.timing!s:32} {row.timing.median / ours:6.2f} {row.images_per_s:9.2f} "
            f"{row.utilisation:8.1%} {memory:>10}",
            flush=True,
        )
    if options.record:
        from deblur_jax.files import write_whole

        path = folder / "benchmarks" / f"train-{device.replace(' ', '-')}.json"
        path.parent.mkdir(exist_ok=True)
        command = shlex.join(["deblur", *sys.argv[1:]])
        kept = train.record(found, command=command, batch=batch, side=side, rounds=options.rounds)
        write_whole(path, (json.dumps(kept, indent=1) + "\n").encode())
        print(f"kept in {path}")
    return 0


def _restore(options: argparse.Namespace) -> int:
    # PyTorch's threads would otherwise spin while they wait.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import jax

    from deblur_jax import weights
    from deblur_jax.bench import restore

    width, height = size_of(options.size)
    loaded = weights.resolve(options.model)
    size = {"height": height, "width": width, "rounds": options.rounds}
    print(f"{options.model}, {width}x{height}, {jax.devices()[0].device_kind}, median and quartiles", flush=True)
    _ratios("one picture, in memory", restore.engines(loaded, **size))
    _ratios(f"a folder of {options.pictures} JPEG", restore.folder(loaded, pictures=options.pictures, **size))
    _ratios("the whole command, 256x256", dict(restore.starts(options.model, rounds=options.rounds)))
    return 0


def _video(options: argparse.Namespace) -> int:
    import jax

    from deblur_jax import weights
    from deblur_jax.bench import video
    from deblur_jax.errors import UserError

    width, height = size_of(options.size)
    if width % 2 or height % 2:
        raise UserError(f"--size {options.size}: the clip is H.264, whose sides must be even")
    loaded = weights.resolve(options.model)
    print(f"{options.model}, {width}x{height}, H.264, {jax.devices()[0].device_kind}, median and quartiles", flush=True)
    said = video.compare(loaded, frames=options.frames, height=height, width=width, rounds=options.rounds)
    for name, timing in said.timings.items():
        print(f"  {name:22} {said.frames / timing.median:7.2f} frames a second   {timing}", flush=True)
    print("the most memory that the command takes")
    lengths = (options.frames, 4 * options.frames)
    for length, most in video.memory(options.model, lengths=lengths, height=height, width=width).items():
        print(f"  {length:5} frames {most / 1e6:8.0f} MB", flush=True)
    return 0


def _original(options: argparse.Namespace) -> int:
    # Its many lines of greeting are nobody's concern here.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from deblur_jax.bench import machine, original

    sizes = [size_of(text, "--sizes") for text in options.sizes]
    rows = original.compare(
        options.model, options.package, sizes=sizes, rounds=options.rounds, memory=not options.no_memory
    )
    print(f"{options.model}, {machine.device()}, {machine.threads()} threads, float32, median and quartiles")
    print(f"{'':11} {'':16} {'one picture':34} {'ratio':>6} {'memory':>9} {'ready after':>12} {'difference':>11}")
    for found in rows:
        for row in found:
            memory = "-" if row.memory is None else f"{row.memory / 1e6:.0f} MB"
            ratio = row.timing.median / found[0].timing.median
            print(
                f"{row.size:11} {row.engine:16} {row.timing!s:34} {ratio:6.2f} {memory:>9} {row.ready:10.1f} s "
                f"{row.difference:11.1e}",
                flush=True,
            )
    return 0


def size_of(text: str, option: str = "--size") -> tuple[int, int]:
    from deblur_jax.errors import UserError

    try:
        width, height = (int(n) for n in text.split("x"))
    except ValueError:
        width = height = 0
    if min(width, height) < 1:
        raise UserError(f"{option} must be a width and a height such as 1280x720, not {text}")
    if max(width, height) > _MOST:
        raise UserError(f"{option} {text}: a side may have {_MOST} pixels at most")
    return width, height


def _ratios(title: str, timings: dict[str, Any]) -> None:
    first = next(iter(timings.values())).median
    print(title)
    for name, timing in timings.items():
        print(f"  {name:22} {timing!s:38} {timing.median / first:5.2f}", flush=True)
