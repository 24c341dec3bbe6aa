"""Two small plots as SVG, in the page's own colours."""

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Point", "against_cost", "by_strength"]

_WIDTH, _HEIGHT = 520, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 16, 18, 46


class Point(NamedTuple):
    """A mean with its interval (None: unknown)."""

    label: str
    x: float
    y: float
    interval: tuple[float, float] | None


def against_cost(points: Sequence[Point], *, base_label: str, x_title: str, y_title: str) -> str:
    """Gains over a logarithmic cost, with a line where doing nothing is."""
    low, high = min(p.x for p in points), max(p.x for p in points)
    low, high = low / 2, high * 2
    vertical = _scale([0.0, *_ends(points)])

    def across(x: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * math.log(x / low) / math.log(high / low)

    ticks = [m * 10.0**e for e in range(-3, 7) for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    parts = [*_frame(vertical, x_title, y_title)]
    parts += [f"<text class=tick x={across(t):.1f} y={_HEIGHT - 28} text-anchor=middle>{t:g}</text>" for t in ticks]
    parts += [f"<path class=grid d='M{across(t):.1f} {_TOP}V{_HEIGHT - _BOTTOM}'/>" for t in ticks]
    y = vertical.at(0.0)
    parts.append(f"<path class=base d='M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}'/>")
    parts.append(
        f"<text class=tick x={_WIDTH - _RIGHT - 2} y={y - 5:.1f} text-anchor=end>{html.escape(base_label)}</text>"
    )
    # Labels stand on the side with more room, and those of neighbours below each other.
    taken: list[tuple[bool, float]] = []
    for i, p in sorted(enumerate(points), key=lambda at: -at[1].y):
        x, y = across(p.x), vertical.at(p.y)
        right = x > (_LEFT + _WIDTH - _RIGHT) / 2
        below = max([y + 4, *(other + 15 for side, other in taken if side == right and abs(other - y - 4) < 15)])
        taken.append((right, below))
        at = f"x={x - 9:.1f} text-anchor=end" if right else f"x={x + 9:.1f}"
        parts.append(f"<g class=s{i % 6}>{_mark(x, y, p, vertical)}")
        parts.append(f"<text {at} y={below:.1f}>{html.escape(p.label)}</text></g>")
    return _svg(parts, f"{y_title} against {x_title}")


def by_strength(lines: Sequence[Sequence[Point]], names: Sequence[str], *, x_title: str, y_title: str) -> str:
    """A line of gains for each model over the strengths of blur; `x` counts them."""
    vertical = _scale([0.0, *(end for line in lines for end in _ends(line))])
    room = (_WIDTH - _LEFT - _RIGHT) / len(names)

    def across(x: float, line: int) -> float:
        # Side by side, so that the intervals do not cover each other.
        return _LEFT + room * (x + 0.5) + 9 * (line - (len(lines) - 1) / 2)

    parts = [*_frame(vertical, x_title, y_title)]
    for i, name in enumerate(names):
        x = _LEFT + room * (i + 0.5)
        parts.append(f"<text class=tick x={x:.1f} y={_HEIGHT - 28} text-anchor=middle>{html.escape(name)}</text>")
    parts.append(f"<path class=base d='M{_LEFT} {vertical.at(0.0):.1f}H{_WIDTH - _RIGHT}'/>")
    for i, line in enumerate(lines):
        ends = " ".join(f"{across(p.x, i):.1f},{vertical.at(p.y):.1f}" for p in line)
        marks = "".join(_mark(across(p.x, i), vertical.at(p.y), p, vertical) for p in line)
        parts.append(f"<g class=s{i % 6}><polyline points='{ends}'/>{marks}</g>")
    return _svg(parts, f"{y_title} by {x_title}")


class _Scale(NamedTuple):
    low: float
    high: float
    step: float

    def at(self, y: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (y - self.low) / (self.high - self.low)


def _scale(values: Sequence[float]) -> _Scale:
    """Round numbers around all values, four to eight of them."""
    low, high = min(values), max(values)
    span = high - low or 1.0
    low, high = low - 0.06 * span, high + 0.06 * span
    power = 10 ** math.floor(math.log10(high - low))
    step = next(m * power for m in (0.1, 0.2, 0.5, 1.0, 2.0) if (high - low) / (m * power) <= 8)
    return _Scale(low, high, step)


def _ends(points: Sequence[Point]) -> list[float]:
    return [y for p in points for y in (p.y, *(p.interval or ()))]


def _frame(vertical: _Scale, x_title: str, y_title: str) -> list[str]:
    parts, first = [], math.ceil(vertical.low / vertical.step)
    for n in range(first, math.floor(vertical.high / vertical.step) + 1):
        y, value = vertical.at(n * vertical.step), n * vertical.step
        digits = max(0, -math.floor(math.log10(vertical.step)))
        shown = f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")
        parts.append(f"<path class=grid d='M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}'/>")
        parts.append(f"<text class=tick x={_LEFT - 8} y={y + 4:.1f} text-anchor=end>{shown}</text>")
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(f"<text x={(_LEFT + _WIDTH - _RIGHT) / 2} y={_HEIGHT - 6} text-anchor=middle>{x_title}</text>")
    parts.append(f"<text transform='translate(14 {middle}) rotate(-90)' text-anchor=middle>{y_title}</text>")
    return parts


def _mark(x: float, y: float, point: Point, vertical: _Scale) -> str:
    bar = ""
    if point.interval:
        low, high = (vertical.at(end) for end in point.interval)
        bar = f"<path d='M{x:.1f} {low:.1f}V{high:.1f}'/>"
    return f"{bar}<circle cx={x:.1f} cy={y:.1f} r=4.5 />"


def _svg(parts: Sequence[str], title: str) -> str:
    return f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role=img aria-label='{html.escape(title)}'>{''.join(parts)}</svg>"
