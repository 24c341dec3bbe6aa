"""Which frames of a clip need the network, and how much of its change each one gets, so that nothing flickers."""

import collections
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["FADE", "Judge", "Weighed", "weighed"]

FADE = 6  # frames over which the change comes and goes, on the sharp side of a border
_MARGIN = 0.03  # how far beyond the threshold a frame must be to turn the verdict


@dataclass
class Judge:
    """Sharp or blurred, with hysteresis. What it remembers is all that a later run needs to go on alike."""

    threshold: float
    sharp: bool | None = None
    since_blurred: int = FADE  # frames, at most so many

    def __call__(self, score: float) -> bool:
        """Whether a frame of this score counts as blurred. 0 says that there is nothing to be seen: no news."""
        if self.sharp is None:
            self.sharp = score >= self.threshold
        elif score:
            self.sharp = score >= self.threshold + (-_MARGIN if self.sharp else _MARGIN)
        self.since_blurred = min(FADE, self.since_blurred + 1) if self.sharp else 0
        return not self.sharp


class Weighed(NamedTuple):
    item: Any
    weight: float  # how much of the network's change; 0 is none at all
    sharp: bool | None  # the judge's memory behind this frame
    since_blurred: int


def weighed(items: Iterable[tuple[Any, float]], judge: Judge) -> Iterator[Weighed]:
    """Of items with their scores: 1 for blurred ones, falling to 0 over `FADE` frames on either side of them."""
    waiting: collections.deque[tuple[Any, bool | None, int]] = collections.deque()

    def first() -> Weighed:
        item, sharp, since = waiting.popleft()
        ahead = next((n for n, (_, _, later) in enumerate(waiting, 1) if later == 0), FADE)
        return Weighed(item, 1.0 - min(since, ahead, FADE) / FADE if since else 1.0, sharp, since)

    for item, score in items:
        judge(score)
        waiting.append((item, judge.sharp, judge.since_blurred))
        if len(waiting) > FADE:
            yield first()
    while waiting:
        yield first()
