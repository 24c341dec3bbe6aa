"""How a time is taken here."""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Timing(NamedTuple):
    median: float  # seconds
    low: float  # the quartiles
    high: float

    def __str__(self) -> str:
        return f"{1000 * self.median:.1f} ms ({1000 * self.low:.1f} to {1000 * self.high:.1f})"


def interleaved(works: dict[str, Callable[[], Any]], *, rounds: int = 7) -> dict[str, Timing]:
    """Each work in turn, `rounds` times, after one turn for compiling that does not count."""
    for work in works.values():
        jax.block_until_ready(work())
    return {name: timing_of(taken) for name, taken in turns(works, rounds).items()}


def turns(works: dict[Any, Callable[[], Any]], rounds: int, *, rest: float = 0.0) -> dict[Any, list[float]]:
    """Seconds of each work in turn, `rounds` times. A `rest` before each lets threads of the last one fall asleep."""
    seconds: dict[Any, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            time.sleep(rest)
            start = time.perf_counter()
            jax.block_until_ready(work())
            seconds[name].append(time.perf_counter() - start)
    return seconds


def timing_of(seconds: list[float]) -> Timing:
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return Timing(median, low, high)
