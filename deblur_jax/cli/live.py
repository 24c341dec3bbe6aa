"""Make live video sharp: a camera, a stream, or a file played in real time; frames that come too late are dropped."""

import argparse
import contextlib
import json
import os
import sys
import time
from pathlib import Path

from deblur_jax.cli import signals


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SRC", help="a camera's number, an address (rtsp://, http://), or a file")
    parser.add_argument("-m", "--model", default="nano", help="as of deblur restore (nano)")
    parser.add_argument("--budget", type=float, default=100.0, metavar="MS", help="from arriving to shown (100)")
    parser.add_argument("--port", type=int, default=8000, help="of the page on this machine (8000); 0 takes a free one")
    parser.add_argument("--no-page", action="store_true", help="show no page")
    parser.add_argument("--record", type=Path, metavar="FILE", help="write what is shown: .mp4, .mkv, .webm ...")
    parser.add_argument("--overwrite", action="store_true", help="replace the recording if it exists")
    parser.add_argument("--seconds", type=float, metavar="S", help="stop after so many")
    parser.add_argument("--strength", type=float, default=1.0, metavar="S", help="how much of the change, 0 to 1 (1)")
    parser.add_argument("--hook", metavar="MODULE:FUNCTION", help="is called with each restored frame and its time")
    parser.add_argument("--device", metavar="NAME", help="cpu, gpu, gpu:1 ... (the first of the best kind)")
    parser.add_argument("--json", action="store_true", help="what is achieved as lines of JSON")


def run(options: argparse.Namespace) -> int:
    from deblur_jax.errors import UserError

    if not options.budget > 0:
        raise UserError(f"--budget must be above 0 milliseconds, not {options.budget:g}")
    if not 0 <= options.strength <= 1:
        raise UserError(f"--strength must be from 0 to 1, not {options.strength:g}")
    if not 0 <= options.port <= 65535:
        raise UserError(f"--port must be from 0 to 65535, not {options.port}")
    if options.seconds is not None and not options.seconds > 0:
        raise UserError(f"--seconds must be above 0, not {options.seconds:g}")
    if options.record and options.record.exists():
        if not options.overwrite:
            raise UserError(f"{options.record}: exists already; --overwrite replaces it")
        source = options.source.removeprefix("file:")  # as FFmpeg takes it
        if os.path.exists(source) and os.path.samefile(options.record, source):
            raise UserError(f"{options.record}: is the source; record into another file")

    from deblur_jax import weights
    from deblur_jax.cli.cache import use_compile_cache
    from deblur_jax.cli.restore_clips import hook
    from deblur_jax.restore.engines import devices_named
    from deblur_jax.restore.live import Live, Recording, open_source
    from deblur_jax.restore.preview import Preview
    from deblur_jax.restore.restorer import Restorer

    called = hook(options.hook)
    opened, ends = open_source(options.source)
    loaded = weights.find(options.model)
    use_compile_cache()
    if isinstance(loaded, weights.Artifact):
        restorer = Restorer(loaded, device=options.device)
    else:
        restorer = Restorer(loaded, devices=devices_named(options.device)[:1])
    live = Live(
        opened,
        lambda picture: restorer.restore(picture, strength=options.strength),
        budget=options.budget / 1000,
        ends=ends,
        seconds=options.seconds,
        lost=lambda: print(f"{options.source}: gives nothing; waiting for it", file=sys.stderr, flush=True),
    )
    with signals.heeded(), contextlib.ExitStack() as stack:
        preview = recording = None
        if options.record:
            recording = Recording(options.record)
        if not options.no_page:
            preview = Preview(options.port, lambda: live.achieved.as_dict())
            stack.callback(preview.close)
            print(preview.address, file=sys.stderr, flush=True)
        stack.callback(live.over.set)
        started = said = time.monotonic()

        def show(before, after, at: float) -> None:
            nonlocal said
            if called:
                called(after.copy(), at - started)
            if recording:
                recording.add(after, at)
            if preview:
                preview.show(before, after)
            now = time.monotonic()
            if now - said >= 1:
                said = now
                _say(live, options.json)

        try:
            live.run(show)
        finally:  # Ctrl-C is how a camera is stopped
            if recording:
                recording.close()
            _say(live, options.json, last=True)
    if not live.achieved.arrived:
        raise UserError(f"{options.source}: no frame came")
    if not live.achieved.shown:
        raise UserError(f"{options.source}: nothing was shown: all frames that came were late; see --budget")
    return 0


def _say(live, as_json: bool, *, last: bool = False) -> None:
    said = live.achieved.as_dict()
    if as_json:
        print(json.dumps({"event": "done" if last else "achieved", **said}), flush=True)
        return
    line = (
        f"{said['frames_per_second']:.1f} frames a second, {1000 * said['latency_median']:.0f} ms behind (worst "
        f"{1000 * said['latency_worst']:.0f}), {said['dropped']} of {said['arrived']} dropped"
    )
    if said["reopened"]:
        line += f", opened again {said['reopened']} times"
    if last:
        print(f"{chr(13) if sys.stderr.isatty() else ''}{line}")
    elif sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
