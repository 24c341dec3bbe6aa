"""What `bench.engines` measured as bars, in SVG."""

import html
import math
from typing import Any

_COLOURS = {"jax": "#1f6feb", "onnxruntime": "#1a7f37", "openvino": "#8250df", "torch": "#bc4c00"}
_WIDTH, _LEFT, _RIGHT, _BAR, _GAP = 860.0, 200.0, 190.0, 20.0, 8.0
_EDGE = 16.0


def bars(kept: dict[str, Any]) -> str:
    """One group of bars for each model, size and batch; a line from the median to the 99th percentile."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in kept["rows"]:
        if row["p50"] is not None:
            groups.setdefault((row["model"], row["size"], row["batch"]), []).append(row)
    parts, y = [], 34.0
    parts.append(_text(_EDGE, y, "Milliseconds a batch, less is better", 17, weight=600))
    y += 22
    about = f"{kept['device']}, {kept['threads']} threads, {kept['date']}; bars: median, lines: to the 99th percentile"
    parts.append(_text(_EDGE, y, about, 12, colour="#59636e"))
    for (model, size, batch), rows in groups.items():
        y += 44
        parts.append(_text(_EDGE, y, f"{model}, {size}, batch {batch}", 14, weight=600))
        y += 12
        end = _round_up(1000 * max(row["p99"] for row in rows))
        scale, bottom = (_WIDTH - _LEFT - _RIGHT) / end, y + len(rows) * (_BAR + _GAP)
        for tick in range(5):
            x = _LEFT + scale * end * tick / 4
            parts.append(f"<path d='M{x:.1f} {y}V{bottom}' stroke='#d1d9e0'/>")
            parts.append(_text(x, bottom + 14, f"{end * tick / 4:g}", 11, anchor="middle", colour="#59636e"))
        for row in rows:
            parts += _bar(row, y, scale)
            y += _BAR + _GAP
        y += 14
    y += 20
    title = html.escape(f"Milliseconds a batch on {kept['device']}")
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH:g} {y:g}' width='{_WIDTH:g}' height='{y:g}' "
        f"role='img' aria-label='{title}' font-family='system-ui, sans-serif'>"
        f"<rect width='{_WIDTH:g}' height='{y:g}' fill='#fff'/>{''.join(parts)}</svg>\n"
    )


def _bar(row: dict[str, Any], y: float, scale: float) -> list[str]:
    median, high = 1000 * scale * row["p50"], 1000 * scale * row["p99"]
    colour, middle = _COLOURS[row["engine"].partition("-")[0]], y + _GAP / 2 + _BAR / 2
    # int8 is full, the wider a number the paler.
    opacity = {"fp32": 0.45, "fp16": 0.7, "int8": 1.0}[row["precision"]]
    said = f"{1000 * row['p50']:.1f} ms, {row['images_per_s']:.1f} a second"
    return [
        _text(_LEFT - 10, middle + 4, f"{row['engine']} {row['precision']}", 12, anchor="end"),
        f"<rect x='{_LEFT}' y='{y + _GAP / 2}' width='{median:.1f}' height='{_BAR}' rx='2' fill='{colour}' "
        f"fill-opacity='{opacity}'/>",
        f"<path d='M{_LEFT + median:.1f} {middle}H{_LEFT + high:.1f}m0 -4v8' stroke='{colour}' stroke-width='1.5'/>",
        _text(_LEFT + high + 8, middle + 4, said, 12),
    ]


def _text(
    x: float, y: float, text: str, size: int, *, anchor: str = "start", weight: int = 400, colour: str = "#1f2328"
) -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' font-weight='{weight}' text-anchor='{anchor}' "
        f"fill='{colour}'>{html.escape(text)}</text>"
    )


def _round_up(value: float) -> float:
    """To the next of 1, 2, 4, 6 or 8 times a power of ten: its quarters are round as well."""
    power = 10.0 ** math.floor(math.log10(value))
    return power * next(n for n in (1, 2, 4, 6, 8, 10) if n * power >= value)
