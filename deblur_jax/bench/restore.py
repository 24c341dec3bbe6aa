"""Restoring: a folder against a plain loop, one picture against PyTorch, and how fast the command starts."""

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax import samples
from deblur_jax.bench.measure import Timing, interleaved, timing_of
from deblur_jax.errors import UserError
from deblur_jax.restore import jobs
from deblur_jax.restore.images import encode_image, read_image
from deblur_jax.restore.inputs import collect
from deblur_jax.restore.restorer import Restorer
from deblur_jax.weights import Weights

_TOLERANCE = 1e-4


def folder(weights: Weights, *, pictures: int, height: int, width: int, rounds: int) -> dict[str, Timing]:
    """Seconds for a folder of JPEGs, with reading and writing beside the network and one after the other."""
    restorer = Restorer(weights)
    with tempfile.TemporaryDirectory() as temporary:
        source, target = Path(temporary, "in"), Path(temporary, "out")
        source.mkdir()
        for n in range(pictures):
            (source / f"{n}.jpg").write_bytes(encode_image(sample(height, width), ".jpg", quality=95))
        planned = jobs.plan(collect([source]), out=target, overwrite=True)

        def work(overlap: bool) -> Callable[[], None]:
            def run() -> None:
                for outcome in jobs.run(planned, lambda: restorer, jobs.Options(overlap=overlap)):
                    if outcome.status != "restored":
                        raise UserError(outcome.message)

            return run

        return interleaved({"deblur restore": work(True), "one after the other": work(False)}, rounds=rounds)


def engines(weights: Weights, *, height: int, width: int, rounds: int) -> dict[str, Timing]:
    """Seconds for one picture that is in memory, through each engine and, if it is there, PyTorch."""
    restorer = Restorer(weights, devices=jax.devices()[:1])
    frames = jnp.asarray(sample(height, width)[None], jnp.float32) / 255.0
    frames = np.asarray(frames)
    works: dict[str, Callable[[], Any]] = {"jax": lambda: restorer.engine(frames)}
    if importlib.util.find_spec("torch") is None:
        print("PyTorch is not installed, and left out")
    else:
        works |= _torch(weights, frames, np.asarray(restorer.engine(frames)))
    return interleaved(works, rounds=rounds)


def _torch(weights: Weights, frames: np.ndarray, expected: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Eager and compiled, in channels_last. They must compute the same."""
    from deblur_jax.bench import torch_networks

    import torch  # pyright: ignore[reportMissingImports]  # isort: skip

    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    config: Any = weights.entry.merged().config
    if not isinstance(config, torch_networks.WRITTEN):
        print(f"torch: {weights.network} has not been written in PyTorch here, left out", file=sys.stderr)
        return {}
    network = torch_networks.build(config, weights.deployed(), device).eval()
    given = torch.from_numpy(np.array(frames)).permute(0, 3, 1, 2)

    def run(network: Any) -> np.ndarray:
        with torch.inference_mode():
            there = given.to(device, memory_format=torch.channels_last)
            return network(there)[0].permute(0, 2, 3, 1).cpu().numpy()

    worst = float(np.abs(run(network) - expected).max())
    if worst > _TOLERANCE:
        raise UserError(
            f"PyTorch's {weights.network} differs from ours by {worst:g}: the comparison would mean nothing"
        )
    works: dict[str, Callable[[], Any]] = {"torch eager": lambda: run(network)}
    compiled = torch.compile(network)
    try:
        run(compiled)
    except Exception as error:  # it needs a C++ compiler, and fails in its own ways
        print(f"torch compiled: {type(error).__name__}, left out", file=sys.stderr)
    else:
        works["torch compiled"] = lambda: run(compiled)
    return works


def starts(model: str, *, rounds: int) -> Iterator[tuple[str, Timing]]:
    """Seconds of the whole command for one small picture: with nothing compiled yet, and again."""
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary, "in.png")
        source.write_bytes(encode_image(sample(256, 256), ".png"))
        command = [sys.executable, "-m", "deblur_jax", "restore", str(source), "-o", str(Path(temporary, "out.png"))]
        command += ["--overwrite", "--model", model]
        seconds: dict[str, list[float]] = {"first start": [], "later start": []}
        for n in range(rounds):
            environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
            environment["XDG_CACHE_HOME"] = str(Path(temporary, f"cache{n}"))
            for taken in seconds.values():
                start = time.perf_counter()
                done = subprocess.run(command, env=environment, capture_output=True, text=True)
                if done.returncode:
                    raise UserError(f"the command failed: {done.stderr.strip()}")
                taken.append(time.perf_counter() - start)
        for name, taken in seconds.items():
            yield name, timing_of(taken)


def sample(height: int, width: int) -> np.ndarray:
    """A sample photograph, repeated until it is large enough."""
    pixels = np.rint(255 * read_image(samples.PICTURES[0])).astype(np.uint8)
    times = -(-height // pixels.shape[0]), -(-width // pixels.shape[1]), 1
    return np.tile(pixels, times)[:height, :width]
