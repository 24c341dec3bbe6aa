"""Train a network, or go on with a run that was stopped.

The config is a Python file; the project's are in configs/. --config.NAME=VALUE changes a field, such as
--config.optim.lr=1e-4. The same command goes on where an earlier one stopped. A run stopped by a signal exits with 75.
"""

import argparse
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="such as configs/photos_nano.py")
    parser.add_argument(
        "--workdir", required=True, metavar="DIR", help="checkpoints, logs and weights: a folder or gs://..."
    )
    parser.add_argument("--data", action="append", default=[], metavar="DIR", help="short for --config.data.train=DIR")
    parser.add_argument(
        "--on-nan",
        choices=("stop", "rollback"),
        default="stop",
        help="rollback passes over batches whose loss is not finite or diverges, from the last checkpoint if need be",
    )
    parser.add_argument("--profile", action="store_true", help="trace five steps into WORKDIR/profile")
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="of several processes, where nothing detects it")
    parser.add_argument("--processes", type=int, metavar="N", help="how many, with --coordinator")
    parser.add_argument("--process", type=int, metavar="I", help="which of them this is, with --coordinator")
    parser.add_argument("--distributed", action="store_true", help="several processes that SLURM, MPI or TPUs detect")


def run(options: argparse.Namespace) -> int:
    if threading.current_thread() is not threading.main_thread():
        return _run(options)
    before = signal.signal(signal.SIGTERM, _stopped_early)  # until the run itself listens
    try:
        return _run(options)
    finally:
        signal.signal(signal.SIGTERM, before)


def _stopped_early(*_: object) -> None:
    print("stopped by SIGTERM; the same command begins again, or goes on", file=sys.stderr, flush=True)
    os._exit(75)


def _run(options: argparse.Namespace) -> int:
    from deblur_jax.errors import UserError

    try:
        import grain  # noqa: F401
        import ml_collections  # noqa: F401
        import orbax.checkpoint  # noqa: F401
        import tensorboardX  # noqa: F401
    except ImportError as error:
        raise UserError(f"training needs its extra ({error}): pip install 'deblur-jax[train]'") from None

    # Orbax' own account of a save that fails, some hundred lines, hides the one that says it.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    import jax

    explicit = (options.coordinator, options.processes, options.process)
    if None in explicit and explicit != (None, None, None):
        raise UserError("--coordinator, --processes and --process belong together: give all three")
    if options.coordinator or options.distributed:
        # So that SIGTERM to one process stops and saves all.
        jax.config.update("jax_enable_preemption_service", True)
        if jax.config.jax_platforms == "cpu":  # pyright: ignore[reportAttributeAccessIssue]
            jax.config.update("jax_cpu_collectives_implementation", "gloo")
        try:
            jax.distributed.initialize(*(explicit if options.coordinator else ()))
        except (ValueError, RuntimeError) as error:
            why = str(error).splitlines()[0]
            raise UserError(
                f"no processes to train with: {why} (--coordinator, --processes, --process name them)"
            ) from None

    from deblur_jax.train import config, loop

    made = config.load(options.config, options.overrides)
    if options.data:
        made.data.train = tuple(options.data)
    try:
        code = loop.run(made, options.workdir, on_nan=options.on_nan, profile=options.profile)
    except UserError as error:
        if not _stuck():
            raise
        print(f"deblur train: {error}", file=sys.stderr)
        code = 2
    if _stuck():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _stuck() -> bool:
    """Whether threads of Orbax still run: those of a save that failed may wait for ever, and Python for them."""
    left = [t for t in threading.enumerate() if type(t).__module__.startswith("orbax.") and not t.daemon]
    until = time.monotonic() + 2.0
    while any(t.is_alive() for t in left) and time.monotonic() < until:  # their `join` raises what went wrong
        time.sleep(0.05)
    return any(t.is_alive() for t in left)
