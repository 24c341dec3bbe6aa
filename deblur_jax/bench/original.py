"""A network of ours beside the published graph that it was written after, which TensorFlow runs: time and memory.

Both get a picture as an array of NumPy and give one back, in turns in one process; their memory is taken in processes
of their own. First they must compute the same.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from deblur_jax.bench.runners import Engine, Given, Ready
from deblur_jax.errors import UserError

if TYPE_CHECKING:
    from deblur_jax.bench.measure import Timing

__all__ = ["ENGINES", "ORIGINAL", "OURS", "Row", "compare"]

OURS, ORIGINAL = "deblur_jax", "original graph"
_TOLERANCE = 1e-3  # of pictures in [0, 1]; the two add in another order
_REST = 0.05  # seconds, in which the threads of the one fall asleep before the other begins


@dataclass(frozen=True)
class Pair(Given):
    """What both get: our weights, and the graph with the names of its ends."""

    graph: Path | None = None
    ends: tuple[str, str] = ("", "")


class Row(NamedTuple):
    engine: str
    size: str
    difference: float  # the greatest, to ours
    ready: float  # seconds of loading, compiling and the first call
    timing: "Timing"
    memory: int | None  # bytes at most


def compare(
    model: str, package: Path, *, sizes: Sequence[tuple[int, int]], rounds: int, memory: bool = True
) -> Iterator[list[Row]]:
    """The rows of one size (width, height) after the other, ours first."""
    from deblur_jax import weights
    from deblur_jax.bench import machine, tfjs_graph
    from deblur_jax.bench.restore import sample

    loaded = weights.resolve(model)
    multiple = loaded.entry.config.multiple_of
    graph = tfjs_graph.read(package)
    with tempfile.TemporaryDirectory() as temporary:
        ours, theirs = Path(temporary, "ours.safetensors"), Path(temporary, "graph.pb")
        about = {"network": loaded.network, "merged": loaded.merged, "variant": loaded.variant}
        weights.save(ours, params=loaded.params, card={}, **about)
        theirs.write_bytes(graph.definition)
        for size in sizes:
            width, height = (side + -side % multiple for side in size)
            pictures = sample(height, width)[None].astype(np.float32) / 255
            given = Pair(ours, None, pictures, "fp32", "cpu", machine.threads(), theirs, (graph.given, graph.result))
            yield _rows(given, f"{width}x{height}", rounds, Path(temporary) if memory else None)


def _rows(given: Pair, size: str, rounds: int, folder: Path | None) -> list[Row]:
    """With a folder, memory is measured too."""
    from deblur_jax.bench import alone
    from deblur_jax.bench.measure import timing_of, turns

    ready, seconds, restored = {}, {}, {}
    for name, engine in ENGINES.items():
        begun = time.perf_counter()
        ready[name] = engine.make(given)
        restored[name] = ready[name].copied()
        seconds[name] = time.perf_counter() - begun
    difference = {name: float(np.abs(restored[name] - restored[OURS]).max()) for name in ENGINES}
    if not difference[ORIGINAL] <= _TOLERANCE:
        raise UserError(f"the graph gives another picture than ours, by {difference[ORIGINAL]:.2g}: another network?")
    most = {name: folder and alone.most_memory(name, given, folder, table=__name__) for name in ENGINES}
    taken = turns({name: each.copied for name, each in ready.items()}, rounds, rest=_REST)
    return [Row(n, size, difference[n], seconds[n], timing_of(taken[n]), most[n]) for n in ENGINES]


def _ours(given: Given) -> Ready:
    import jax

    from deblur_jax.restore.engines import JaxEngine
    from deblur_jax.weights import load

    engine = JaxEngine(load(given.weights), devices=jax.devices()[:1])
    return Ready(lambda: engine(given.pictures), lambda: engine(given.pictures))


def _original(given: Given) -> Ready:
    import tensorflow as tf  # pyright: ignore[reportMissingModuleSource]

    from deblur_jax.bench import tfjs_graph

    assert isinstance(given, Pair)
    assert given.graph is not None
    run = tfjs_graph.runnable(tfjs_graph.Graph(given.graph.read_bytes(), *given.ends))
    there = tf.constant(given.pictures)
    return Ready(lambda: run(there), lambda: run(given.pictures).numpy())


ENGINES: dict[str, Engine] = {
    OURS: Engine(_ours, "jax", ("fp32",), imports=("deblur_jax.weights", "deblur_jax.restore.engines")),
    ORIGINAL: Engine(_original, "tensorflow", ("fp32",)),
}
