"""Measure speed on this machine: what is compared runs side by side."""

import argparse
import tempfile
from pathlib import Path


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


def run(options: argparse.Namespace) -> int:
    from deblur_jax.errors import UserError

    for name in ("batch", "side", "rounds", "workers"):
        if getattr(options, name, 2) < (2 if name == "rounds" else 1):
            raise UserError(f"--{name} must be larger, not {getattr(options, name)}")
    return _synthesis(options) if options.kind == "synthesis" else _pipeline(options)


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
