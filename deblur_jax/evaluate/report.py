"""The report as one page that needs no network: pictures and plots are in it."""

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deblur_jax.evaluate import plots
from deblur_jax.evaluate.figures import Case
from deblur_jax.evaluate.run import BLURRY, SHARP
from deblur_jax.evaluate.summary import arrow
from deblur_jax.restore.images import encode_image

__all__ = ["page"]

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #666c74; --line: #e1e4e8; --paper: #fff; --tint: #f5f6f8;
  --good: #18794e; --bad: #b42318; --c0: #0b62c4; --c1: #c2410c; --c2: #0f8a5f; --c3: #a21caf; --c4: #8a6d00;
  --c5: #0e7490 }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #9aa1ab; --line: #33373d; --paper: #15171a;
  --tint: #1e2125; --good: #4cc38a; --bad: #ff8a7a; --c0: #6cb0ff; --c1: #ff9a62; --c2: #4cc9a0; --c3: #e08bff;
  --c4: #e0c350; --c5: #5cc8dd } }
* { box-sizing: border-box }
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; color: var(--ink);
  background: var(--paper); max-width: 1180px; margin: 0 auto; padding: 40px 24px 64px }
h1 { font-size: 30px; line-height: 1.2; letter-spacing: -.02em; margin: 0 0 6px }
h2 { font-size: 20px; letter-spacing: -.01em; margin: 52px 0 6px }
h3 { font-size: 15px; margin: 0 } h3 span { font-weight: 400; color: var(--soft) }
p { margin: 0 0 14px; max-width: 78ch } .soft, figcaption, caption { color: var(--soft) }
p.soft, figcaption { font-size: 14px }
.scroll { overflow-x: auto; margin: 14px 0 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100% }
th, td { padding: 8px 12px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap;
  vertical-align: baseline }
th { font-size: 13px; font-weight: 600; color: var(--soft); vertical-align: bottom }
th:first-child, td:first-child { text-align: left; padding-left: 4px } td:first-child { font-weight: 600 }
tr.aside td { color: var(--soft); font-weight: 400 } tr.aside td:first-child { font-style: italic }
small { display: block; font-size: 12px; font-weight: 400; color: var(--soft) }
i.up, i.down { font-style: normal; display: inline-block; width: 1.1em; text-align: center }
.good { color: var(--good) } .bad { color: var(--bad) }
.cells { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 200px), 1fr)); gap: 14px;
  margin: 0 0 10px }
figure { margin: 0 } img { width: 100%; display: block; border-radius: 3px; background: var(--tint) }
.head { display: flex; gap: 14px; align-items: end; margin: 28px 0 10px } .head img { width: 140px }
img + img { margin-top: 4px } .cells figcaption { margin-top: 5px; line-height: 1.35 }
.cells b { color: var(--ink) }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 20px;
  margin: 12px 0 }
svg { width: 100%; background: var(--tint); border-radius: 6px; font: 12.5px system-ui, sans-serif }
svg text { fill: var(--ink) } svg .tick { fill: var(--soft); font-size: 11.5px }
svg .grid { stroke: var(--line) } svg .base { stroke: var(--soft); stroke-dasharray: 5 4 }
svg g path { stroke: var(--c); stroke-width: 2; opacity: .55 } svg g circle { fill: var(--c) }
svg g polyline { fill: none; stroke: var(--c); stroke-width: 2 } svg g text { fill: var(--c); font-weight: 600 }
.s0 { --c: var(--c0) } .s1 { --c: var(--c1) } .s2 { --c: var(--c2) } .s3 { --c: var(--c3) } .s4 { --c: var(--c4) }
.s5 { --c: var(--c5) }
.key { font-size: 14px; margin-right: 16px; color: var(--c); font-weight: 600; white-space: nowrap }
.key::before { content: ""; display: inline-block; width: 10px; height: 10px; border-radius: 5px; background: var(--c);
  margin-right: 6px }
details { margin: 14px 0 } summary { cursor: pointer; font-weight: 600 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; font-size: 14px } dt { font-weight: 600 }
dd { margin: 0; color: var(--soft); overflow-wrap: anywhere }
"""

_NONE = "\N{EN DASH}"
_NAMES = {
    "ssim": ("SSIM", "%", 100.0, 2),
    "laplacian": ("Laplacian", "", 1.0, 0),
    "psnr": ("PSNR", "dB", 1.0, 2),
    "mse": ("MSE", "1/1000", 1000.0, 3),
    "ssim_gopro_matlab": ("SSIM, GoPro", "%", 100.0, 2),
}


def page(summary: Mapping[str, Any], cases: Mapping[str, Sequence[Case]], *, lead: str) -> str:
    """The page. `cases` are by section: typical, best, worst; `lead` is the model that chose them."""
    many, name = summary["pictures_scored"], _text(summary["data"])
    sequences = f" of {summary['sequences_scored']} sequences" if summary["sequences_scored"] else ""
    failed = len(summary["failed"])
    body = [
        "<h1>Deblurring, side by side</h1>",
        f"<p class=soft>{name}, split {_text(summary['split'])}: {many} of {summary['pictures_there']} pairs"
        f"{sequences}, at full resolution"
        + (f"; <b class=bad>{failed} could not be scored</b>" if failed else "")
        + f" · deblur {_text(summary['version'])}</p>",
        _scoreboard(summary),
        _edges(summary, cases["typical"]),
        _strengths(summary),
        _groups(summary),
        _costs(summary),
        _extremes(summary, cases, lead),
        _all_scores(summary),
        _videos(summary),
        _how(summary),
    ]
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>Deblurring: {name}</title><style>{_STYLE}</style>{''.join(body)}</html>\n"
    )


def _scoreboard(summary: Mapping[str, Any]) -> str:
    rows = summary["rows"]
    speed = next((row["speed"] for row in rows.values() if row.get("speed")), None)
    fps = f"<th>frames/s<small>{speed['width']}x{speed['height']}</small>" if speed else ""
    gmac = f"<th>GMAC<small>{_text(summary['cost_size'])}</small>"
    lines = [f"<tr><th>model<th>SSIM<small>%</small><th>Laplacian<th>PSNR<small>dB</small><th>parameters{gmac}{fps}"]
    for label, row in rows.items():
        cells = [f"<td>{_text(label)}"]
        cells += [f"<td>{_score(summary, label, score)}" for score in ("ssim", "laplacian", "psnr")]
        cells.append(f"<td>{row['parameters'] / 1e6:.2f} M" if "parameters" in row else f"<td>{_NONE}")
        cells.append(f"<td>{row['gmac']:,.1f}" if "gmac" in row else f"<td>{_NONE}")
        if speed:
            cells.append(f"<td>{_frames(row['speed'])}" if row.get("speed") else f"<td>{_NONE}")
        lines.append(f"<tr{'' if 'network' in row else ' class=aside'}>{''.join(cells)}")
    device = f" Frames a second: one picture at a time on {_text(speed['device'])}." if speed else ""
    return (
        f"<div class=scroll><table>{''.join(lines)}</table></div><p class=soft>Means over the pictures, with 95% "
        "intervals below. Arrows compare with the blurry pictures, green where the change goes towards the sharp ones: "
        f"a Laplacian above that of the sharp pictures is noise or ringing, not detail.{device}</p>"
    )


def _frames(speed: Mapping[str, Any]) -> str:
    return f"{speed['frames_per_second']:,.3g}<small>{1000 * speed['seconds']:,.1f} ms</small>"


def _score(summary: Mapping[str, Any], label: str, score: str) -> str:
    """A mean with its arrow, the interval below."""
    value = summary["rows"][label]["scores"].get(score)
    if value is None or value["mean"] is None:
        return f"{_NONE}<i class=up></i>"
    _, _, scale, digits = _NAMES[score]
    return f"{_number(scale * value['mean'], digits)}{_arrow(summary, label, score)}" + _interval(
        value["interval"], scale, digits
    )


def _arrow(summary: Mapping[str, Any], label: str, score: str) -> str:
    rows = summary["rows"]
    blank = "<i class=up></i>"
    if label in (BLURRY, SHARP):
        return blank
    now, before = rows[label]["scores"][score], rows[BLURRY]["scores"][score]
    sign = arrow(now, before).strip()
    if not sign:
        return blank
    if score == "laplacian":
        goal = rows[SHARP]["scores"][score]["mean"]
        good = abs(now["mean"] - goal) < abs(before["mean"] - goal)
    else:
        good = (sign == "↑") != (score == "mse")
    return f"<i class='{'up' if sign == '↑' else 'down'} {'good' if good else 'bad'}'>{sign}</i>"


def _interval(interval: Sequence[float] | None, scale: float, digits: int, *, signed: bool = False) -> str:
    if interval is None:
        return ""
    low, high = (_number(scale * end, digits, signed=signed) for end in interval)
    return f"<small>{low} to {high}</small>"


def _number(value: float, digits: int, *, signed: bool = False) -> str:
    return f"{value:{'+' if signed else ''},.{digits}f}".replace("-", "\N{MINUS SIGN}")


# Pictures.


def _edges(summary: Mapping[str, Any], cases: Sequence[Case]) -> str:
    parts = [
        "<h2>Edges</h2><p class=soft>A typical picture for each strength of blur. Above: the detail that blur changed "
        "most; below: its edges (Canny, thresholds 100 and 200). The small picture is the whole frame, blurry, with "
        "the detail framed.</p>"
    ]
    return "".join(parts + [_case(summary, case, edges=True) for case in cases])


def _extremes(summary: Mapping[str, Any], cases: Mapping[str, Sequence[Case]], lead: str) -> str:
    if not cases["best"]:
        return ""
    parts = [
        f"<h2>Best and worst</h2><p class=soft>Where {_text(lead)}, which gains the most PSNR on average, gained the "
        "most and the least.</p>"
    ]
    return "".join(parts + [_case(summary, case, edges=False) for case in (*cases["best"], *cases["worst"])])


def _case(summary: Mapping[str, Any], case: Case, *, edges: bool) -> str:
    about = summary["pictures"][case.index]
    cells = []
    for row, (detail, edge) in case.rows.items():
        values = about["scores"][row]
        caption = f"<b>{_text(row)}</b><br>"
        if row != SHARP:
            psnr = "equal" if values["psnr"] is None else f"{values['psnr']:.2f} dB"
            caption += f"{psnr} · SSIM {100 * values['ssim']:.1f} %<br>"
        pictures = [(detail, ".jpg"), (edge, ".png")] if edges else [(detail, ".jpg")]
        cells.append(_figure(pictures, f"{caption}Laplacian {values['laplacian']:,.0f}"))
    size = f"{about['width']}x{about['height']}"
    title = f"{case.title[0].upper()}{case.title[1:]} <span><br>{_text(about['name'])}, {size}</span>"
    head = f"<div class=head>{_image(case.overview, '.jpg', 'whole frame, blurry')}<h3>{title}</h3></div>"
    return f"{head}<div class=cells>{''.join(cells)}</div>"


def _figure(pictures: Sequence[tuple[np.ndarray, str]], caption: str) -> str:
    images = "".join(_image(pixels, suffix, "edges" if suffix == ".png" else "detail") for pixels, suffix in pictures)
    return f"<figure>{images}<figcaption>{caption}</figcaption></figure>"


def _image(pixels: np.ndarray, suffix: str, what: str) -> str:
    data = base64.b64encode(encode_image(pixels, suffix, quality=92)).decode()
    return f"<img alt='{what}' src='data:image/{suffix[1:].replace('jpg', 'jpeg')};base64,{data}'>"


# Plots.


def _models(summary: Mapping[str, Any]) -> list[str]:
    return [label for label, row in summary["rows"].items() if "network" in row]


def _costs(summary: Mapping[str, Any]) -> str:
    drawn = []
    for score in ("psnr", "ssim"):
        name, unit, scale, _ = _NAMES[score]
        points = []
        for label in _models(summary):
            row = summary["rows"][label]
            value = row["scores"][score]
            if value["gain"] is not None:
                interval = value["gain_interval"] and tuple(scale * end for end in value["gain_interval"])
                points.append(plots.Point(label, row["gmac"], scale * value["gain"], interval))
        if points:
            cost, gain = f"GMAC at {_text(summary['cost_size'])}", f"gain in {name}, {unit.replace('%', 'points')}"
            plot = plots.against_cost(points, base_label=BLURRY, x_title=cost, y_title=gain)
            drawn.append(f"<figure>{plot}</figure>")
    return (
        "<h2>Quality against cost</h2><p class=soft>Mean gains over the blurry pictures with 95% intervals, over "
        f"the multiply-accumulates for one picture; up and to the left is better.</p><div class=plots>{''.join(drawn)}"
        "</div>"
    )


def _strengths(summary: Mapping[str, Any]) -> str:
    parts = summary["strengths"]
    if len(parts) < 2:
        return ""
    models, drawn = _models(summary), []
    for score in ("psnr", "ssim"):
        name, unit, scale, _ = _NAMES[score]
        lines = []
        for label in models:
            line = []
            for x, part in enumerate(parts):
                value = part["rows"][label][score]
                if value["gain"] is not None:
                    interval = value["gain_interval"] and tuple(scale * end for end in value["gain_interval"])
                    line.append(plots.Point(label, float(x), scale * value["gain"], interval))
            lines.append(line)
        names = [part["name"] for part in parts]
        title = f"gain in {name}, {unit.replace('%', 'points')}"
        plot = plots.by_strength(lines, names, x_title="strength of blur", y_title=title)
        drawn.append(f"<figure>{plot}</figure>")
    key = "".join(f"<span class='key s{i % 6}'>{_text(label)}</span>" for i, label in enumerate(models))
    header = "<tr><th>blur<th>pictures<th>blurry<small>PSNR, dB</small>"
    header += "".join(f"<th>{_text(label)}<small>gain, dB</small>" for label in models)
    lines = [header]
    for part in parts:
        span = f"{_plain(part['psnr_from'])} to {_plain(part['psnr_to'])}"
        cells = f"<td>{part['name']}<td>{part['pictures']}<td>{_plain(part['rows'][BLURRY]['psnr']['mean'])}"
        cells += f"<small>{span}</small>"
        cells += "".join(f"<td>{_gain(part['rows'][label]['psnr'], 1.0, 2)}" for label in models)
        lines.append(f"<tr>{cells}")
    return (
        "<h2>By strength of blur</h2><p class=soft>The mean hides whether a model repairs heavy blur or merely leaves "
        "light blur alone. Thirds of the pictures, by the PSNR of the blurry one; gains over it with 95% intervals.</p>"
        f"<div>{key}</div><div class=plots>{''.join(drawn)}</div>"
        f"<div class=scroll><table>{''.join(lines)}</table></div>"
    )


def _groups(summary: Mapping[str, Any]) -> str:
    if not summary["groups"]:
        return ""
    labels = [label for label in summary["rows"] if label not in (BLURRY, SHARP)]
    header = "<th>pictures<th>blurry<small>PSNR, dB</small>"
    header += "".join(f"<th>{_text(label)}<small>gain, dB; worst</small>" for label in labels)
    tables = []
    for by, groups in summary["groups"].items():
        lines = [f"<tr><th>{_text(by)}{header}"]
        for group in groups:
            cells = (
                f"<td>{_text(group['name'])}<td>{group['pictures']}<td>{_plain(group['rows'][BLURRY]['psnr']['mean'])}"
            )
            for label in labels:
                row = group["rows"][label]
                worst = row.get("worst_gain")
                worst = f"<small>{_number(worst, 2, signed=True)}</small>" if worst is not None else ""
                cells += f"<td>{_gain(row['psnr'], 1.0, 2)}{worst}"
            lines.append(f"<tr>{cells}")
        tables.append(f"<div class=scroll><table>{''.join(lines)}</table></div>")
    return (
        "<h2>By kind of blur, noise and encoding</h2><p class=soft>Mean gains in PSNR over the blurry pictures, their "
        f"95% intervals, and the picture that lost most (or gained least).</p>{''.join(tables)}"
    )


def _plain(value: float | None) -> str:
    return "equal" if value is None else f"{value:.2f}"


def _gain(value: Mapping[str, Any], scale: float, digits: int) -> str:
    if value.get("gain") is None:
        return _NONE
    return _number(scale * value["gain"], digits, signed=True) + _interval(
        value["gain_interval"], scale, digits, signed=True
    )


# Every number.


def _all_scores(summary: Mapping[str, Any]) -> str:
    header = "".join(f"<th>{name}<small>{unit or '&nbsp;'}</small>" for name, unit, _, _ in _NAMES.values())
    lines, gains = [f"<tr><th>model{header}"], [f"<tr><th>gain of{header}"]
    for label, row in summary["rows"].items():
        cells = "".join(f"<td>{_score(summary, label, score)}" for score in _NAMES)
        lines.append(f"<tr{'' if 'network' in row else ' class=aside'}><td>{_text(label)}{cells}")
        if label not in (BLURRY, SHARP):
            cells = "".join(f"<td>{_gain(row['scores'][s], n[2], n[3])}" for s, n in _NAMES.items())
            gains.append(f"<tr><td>{_text(label)}{cells}")
    return (
        "<h2>Every score</h2><p class=soft>Each name is one protocol (below); numbers of different protocols cannot be "
        f"compared.</p><div class=scroll><table>{''.join(lines)}</table></div>"
        "<p class=soft>Gains over the blurry picture, of each picture, with 95% intervals: an interval without zero "
        f"is a difference that other pictures of this kind would show too.</p><div class=scroll><table>{''.join(gains)}"
        "</table></div>"
    )


def _videos(summary: Mapping[str, Any]) -> str:
    if not summary["sequences"]:
        return ""
    rows = [BLURRY, *_models(summary)]
    header = "".join(f"<th>{_text(row)}<small>PSNR · SSIM</small>" for row in rows)
    lines = [f"<tr><th>video<th>frames{header}"]
    for sequence, about in summary["sequences"].items():
        cells = "".join(
            f"<td>{_plain(values['psnr'])} · {100 * values['ssim']:.2f}" for values in (about["rows"][r] for r in rows)
        )
        lines.append(f"<tr><td>{_text(sequence)}<td>{about['pictures']}{cells}")
    return (
        f"<h2>By video</h2><details{' open' if len(lines) <= 13 else ''}><summary>{len(lines) - 1} videos, means over "
        f"their frames</summary><div class=scroll><table>{''.join(lines)}</table></div></details>"
    )


def _how(summary: Mapping[str, Any]) -> str:
    entries = {_NAMES[name][0] if name in _NAMES else name: text for name, text in summary["protocols"].items()}
    entries["command"] = summary["command"]
    entries |= {label: row["baseline"] for label, row in summary["rows"].items() if "baseline" in row}
    for label in _models(summary):
        row = summary["rows"][label]
        card = "; ".join(f"{name}: {value}" for name, value in row["card"].items())
        entries[label] = f"{row['network']}, {row['weights']}" + (f" ({card})" if card else "")
    lines = "".join(f"<dt>{_text(name)}<dd>{_text(text)}" for name, text in entries.items())
    failed = "".join(f"<li>{_text(reason)}" for reason in summary["failed"].values())
    return f"<h2>How this was measured</h2><dl>{lines}</dl>" + (
        f"<h2>Not scored</h2><ul>{failed}</ul>" if failed else ""
    )


def _text(value: Any) -> str:
    return html.escape(str(value))
