"""How far a long command is, on standard error."""

import sys
import time


class Progress:
    """On a terminal one line that is rewritten, with the time left; otherwise a line every half minute."""

    def __init__(self, what: str, *, scale: float = 1, unit: str = ""):
        self._what, self._scale, self._unit = what, scale, unit
        self._start = self._last = time.monotonic()
        self._first = 0
        self._terminal = sys.stderr.isatty()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        # What was finished by an earlier run comes in one step, and says nothing of the speed.
        self._first = self._first or done
        if now - self._last < (0.2 if self._terminal else 30):
            return
        self._last = now
        rate = (done - self._first) / (now - self._start)
        left = f", {_duration((total - done) / rate)} left" if rate > 0 else ""
        amount = f"{_figure(done / self._scale)} of {_figure(total / self._scale)}{self._unit}"
        line = f"{self._what}: {amount}{left}"
        print(f"\r\033[K{line}" if self._terminal else line, end="" if self._terminal else "\n", file=sys.stderr)
        sys.stderr.flush()


def _figure(number: float) -> str:
    return f"{number:.4g}" if number < 1000 else f"{number:.0f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"
