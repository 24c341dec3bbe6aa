"""A network's speed in each engine and precision, interleaved in one run; each is first checked to compute the same.

What is timed is one call for one batch: with pictures that are where the engine computes, and with pictures that come
from and go to NumPy. Loading, compiling and the first call are apart.
"""

import dataclasses
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax import weights as store
from deblur_jax.bench import alone, machine, runners
from deblur_jax.bench.measure import turns
from deblur_jax.bench.restore import sample
from deblur_jax.errors import UserError
from deblur_jax.models import zoo
from deblur_jax.models.facts import count_macs
from deblur_jax.weights import Weights
from deblur_jax.weights.store import bundled

PRECISIONS = ("fp32", "fp16", "int8")
_REST = 0.01  # seconds; threads that wait for more work keep the cores busy for some milliseconds
_WIDTH = {"fp32": 4, "fp16": 2, "int8": 1}


@dataclass(frozen=True)
class Row:
    """Times are in seconds."""

    model: str
    engine: str
    precision: str
    size: str
    batch: int
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    copies_p50: float | None = None  # from and to arrays of NumPy
    images_per_s: float | None = None
    ready: float | None = None  # loading, compiling and the first call
    memory: int | None = None  # bytes at most, in a process of its own; None where nobody counts them
    of_peak: float | None = None  # of the machine's matrix products in this precision
    of_roofline: float | None = None  # of what the peak and the memory's bandwidth allow, layer by layer
    greatest_error: float | None = None  # against JAX in float32
    psnr: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Plan:
    models: Sequence[str]
    engines: Sequence[str]
    precisions: Sequence[str]
    sizes: Sequence[tuple[int, int]]  # width, height
    batches: Sequence[int]
    rounds: int
    memory: bool = True


def measure(plan: Plan, say: Callable[[str], None] = lambda line: None) -> Generator[list[Row]]:
    """The rows of one model, size and batch after the other."""
    works = [(e, p) for p in plan.precisions for e in plan.engines if p in runners.ENGINES[e].precisions]
    if not works:
        raise UserError(f"none of {', '.join(plan.engines)} computes in {', '.join(plan.precisions)}")
    # Mistakes are found before any time is spent.
    return _groups(plan, works, [(name, *network(name)) for name in plan.models], say)


def _groups(plan: Plan, works: Any, networks: Any, say: Callable[[str], None]) -> Generator[list[Row]]:
    for name, loaded, note in networks:
        with tempfile.TemporaryDirectory() as folder:
            if note:
                say(f"{name}: {note}")
            files = _files(loaded, works, Path(folder), trained=not note, say=say)
            for size in plan.sizes:
                for batch in plan.batches:
                    yield _rows(name, loaded, files, works, size, batch, plan)


def network(name: str) -> tuple[Weights, str]:
    """Weights by name or path. Of a network that has none, initial ones: they compute as fast as any."""
    if name not in zoo.NETWORKS or name in bundled() or Path(name).exists():
        found = store.resolve(name)
        return dataclasses.replace(found, params=found.deployed(), merged=True), ""
    entry = zoo.get(name)
    module, key = entry.deployed(), jax.random.key(0, impl="rbg")
    params: Any = jax.jit(module.init)(key, jnp.zeros((1, 64, 64, 3)))["params"]
    # The last layers start so small that a wrong result would hardly show.
    params = {n: jax.tree.map(lambda x: 10 * x, p) if n.endswith("tail") else p for n, p in params.items()}
    return Weights(name, params, {}, merged=True), "no weights come with the package; timed with initial ones"


def _files(
    loaded: Weights, works: Sequence[tuple[str, str]], folder: Path, *, trained: bool, say: Callable[[str], None]
) -> dict[str, Path]:
    """The network as each kind of engine reads it: weights, and ONNX by precision."""
    files = {"weights": folder / "network.safetensors"}
    store.save(
        files["weights"],
        network=loaded.network,
        params=loaded.params,
        card={},
        merged=True,
        variant=loaded.variant,
    )
    for precision in dict.fromkeys(p for e, p in works if runners.ENGINES[e].exported):
        files[precision] = folder / f"{precision}.onnx"
        files[precision].write_bytes(_onnx(loaded, precision, trained, say).SerializeToString())
    return files


def _onnx(loaded: Weights, precision: str, trained: bool, say: Callable[[str], None]) -> Any:
    from deblur_jax.export import onnx, quantise
    from deblur_jax.export.formats import Options

    multiple, dtype = loaded.entry.config.multiple_of, jnp.float16 if precision == "fp16" else jnp.float32
    apply = loaded.entry.deployed(dtype=dtype).apply
    model, _ = onnx.convert(apply, {"params": loaded.params}, multiple=multiple)
    if precision != "int8":
        return model
    options = Options(precision="int8")
    if not trained:
        return quantise.whole(model, options, multiple=multiple)
    made, about = quantise.quantised(model, options, multiple=multiple)
    if kept := about["quantisation"]["layers_left_in_float"]:
        say(f"{loaded.network} in int8: {len(kept)} layers stay float")
    return made


def _rows(
    name: str,
    loaded: Weights,
    files: dict[str, Path],
    works: Sequence[tuple[str, str]],
    size: tuple[int, int],
    batch: int,
    plan: Plan,
) -> list[Row]:
    multiple = loaded.entry.config.multiple_of
    width, height = (side + -side % multiple for side in size)
    pictures = np.repeat(sample(height, width)[None].astype(np.float32) / 255, batch, 0)
    given = runners.Given(
        files["weights"], None, pictures, "fp32", "cpu" if jax.default_backend() == "cpu" else "cuda", machine.threads()
    )
    module: Any = loaded.entry.deployed()
    with jax.default_matmul_precision("highest"):
        expected = np.asarray(jax.jit(module.apply)({"params": loaded.params}, pictures))
    traced = jax.make_jaxpr(module.apply)({"params": loaded.params}, pictures)
    rows, ready = {}, {}
    for engine, precision in works:
        row = Row(name, engine, precision, f"{size[0]}x{size[1]}", batch)
        mine = dataclasses.replace(given, precision=precision, onnx=files.get(precision))
        try:
            began = time.perf_counter()
            ready[engine, precision] = runners.ENGINES[engine].make(mine)
            ready[engine, precision].resident()
            first = time.perf_counter() - began
            restored = ready[engine, precision].copied()
        except Exception as error:
            # Engines fail in as many ways as there are setups (no C++ compiler, no Triton, too little memory).
            ready.pop((engine, precision), None)
            reason = str(error).strip().splitlines()[:1] or [""]
            kind = "" if isinstance(error, runners.CannotRun) else f"{type(error).__name__}: "
            rows[engine, precision] = dataclasses.replace(row, note=f"does not run here: {kind}{reason[0]}")
            continue
        errors = _check(row, expected, restored)
        memory = None
        if plan.memory:
            with tempfile.TemporaryDirectory() as folder:
                memory = alone.most_memory(engine, mine, Path(folder))
        rows[engine, precision] = dataclasses.replace(row, ready=first, memory=memory, **errors)
    works_now = {(work, "resident"): r.resident for work, r in ready.items()}
    works_now |= {(work, "copied"): r.copied for work, r in ready.items()}
    taken = turns(works_now, plan.rounds, rest=_REST)
    macs, numbers = count_macs(traced), machine.traffic(traced)
    for work in ready:
        resident, copied = taken[work, "resident"], taken[work, "copied"]
        p50, p90, p99 = (percentile(resident, n) for n in (50, 90, 99))
        peak, needed = machine.matrix_peak(work[1]), numbers * _WIDTH[work[1]] / machine.bandwidth()
        rows[work] = dataclasses.replace(
            rows[work],
            p50=p50,
            p90=p90,
            p99=p99,
            copies_p50=percentile(copied, 50),
            images_per_s=batch / p50,
            of_peak=peak and 2 * macs / p50 / peak,
            of_roofline=peak and max(2 * macs / peak, needed) / p50,
        )
    return list(rows.values())


def _check(row: Row, expected: np.ndarray, restored: np.ndarray) -> dict[str, float]:
    """Fails where an engine does not give what it should."""
    from deblur_jax.export.parity import BOUNDS

    error = np.abs(restored.astype(np.float64) - expected)
    worst = float(error.max() / max(1.0, np.abs(expected).max())) if np.isfinite(restored).all() else math.inf
    psnr = float(-10 * np.log10(max((error**2).mean(), 1e-20)))
    bound = BOUNDS[row.precision]
    allowed = bound.get("greatest_error", math.inf)
    if jax.default_backend() != "cpu":
        allowed = max(allowed, 1e-2)  # engines of GPUs round to TensorFloat-32 or less
    if not worst <= allowed or psnr < bound.get("natural_psnr", 0.0):
        raise UserError(
            f"{row.model} in {row.engine} ({row.precision}) does not give what JAX gives: off by {worst:.2g}, "
            f"{psnr:.1f} dB; its time would mean nothing"
        )
    return {"greatest_error": worst, "psnr": psnr}


def percentile(seconds: Sequence[float], n: int) -> float:
    return statistics.quantiles(seconds, n=100, method="inclusive")[n - 1]
