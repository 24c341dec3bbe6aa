"""An evaluation as one dictionary, which is the JSON; tables, CSV and the page say the same numbers."""

import csv
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deblur_jax import __version__
from deblur_jax.errors import UserError
from deblur_jax.evaluate import scores
from deblur_jax.evaluate.run import BLURRY, SHARP, Evaluation

__all__ = ["STRENGTHS", "Speed", "for_card", "groups_table", "pictures_csv", "summarise", "table", "videos_csv"]

STRENGTHS = ("light", "medium", "heavy")


@dataclasses.dataclass(frozen=True)
class Speed:
    """Seconds for one picture that is on the device already; the quartiles."""

    seconds: float
    low: float
    high: float
    width: int
    height: int
    device: str

    def as_dict(self) -> dict[str, Any]:
        return {"frames_per_second": 1.0 / self.seconds, **dataclasses.asdict(self)}


def summarise(
    found: Evaluation,
    *,
    about: Mapping[str, Any],
    models: Mapping[str, Mapping[str, Any]],
    speeds: Mapping[str, Speed] | None = None,
    groups: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
) -> dict[str, Any]:
    """`about` is said of the whole evaluation, `models` of each model (network, parameters, GMAC, card; of a baseline
    what it is); `groups` are names of pictures by what they have in common."""
    parts = scores.thirds(found.values(BLURRY, "psnr"))
    strengths = STRENGTHS if len(parts) == 3 else ("all",)
    strength_of = {int(i): name for name, part in zip(strengths, parts, strict=True) for i in part}
    sequences, everything = found.sequences, np.arange(len(found.pictures))
    several = len(set(sequences)) < len(sequences)
    rows: dict[str, Any] = {BLURRY: {"scores": _of_row(found, BLURRY, everything)}}
    for label in found.models:
        speed = speeds[label].as_dict() if speeds and label in speeds else None
        rows[label] = {**models[label], "speed": speed, "scores": _of_row(found, label, everything)}
    sharpness, interval = scores.mean_and_interval(found.values(SHARP, "laplacian"), sequences)
    rows[SHARP] = {"scores": {"laplacian": {"mean": sharpness, "interval": interval}}}
    drawn = f"{len(set(sequences))} {'sequences' if several else 'pictures'}"
    return {
        "format": "deblur_jax evaluation 1",
        "version": __version__,
        **about,
        "pictures_scored": len(found.pictures),
        "sequences_scored": len(set(sequences)) if several else None,
        "protocols": scores.PROTOCOLS
        | {
            "rounding": "restored pictures are clipped to [0, 1] and rounded to 8 bits, as a file would hold them",
            "mean": "over pictures",
            "interval": f"95%, percentile bootstrap over {drawn}, seed 0",
            "gain": "over the blurry picture, of each picture",
            "strength": "thirds of the pictures by the PSNR of the blurry one",
        },
        "rows": rows,
        "strengths": [
            {
                "name": name,
                "pictures": len(part),
                "psnr_from": _finite(min(found.values(BLURRY, "psnr")[i] for i in part)),
                "psnr_to": _finite(max(found.values(BLURRY, "psnr")[i] for i in part)),
                "rows": {row: _of_row(found, row, part) for row in found.rows},
            }
            for name, part in zip(strengths, parts, strict=True)
        ],
        "groups": {by: _of_groups(found, several) for by, several in (groups or {}).items()},
        "sequences": _of_sequences(found) if several else {},
        "pictures": [
            {
                "name": p.name,
                "sequence": p.sequence,
                "frame": p.frame,
                "width": p.width,
                "height": p.height,
                "strength": strength_of[i],
                "scores": {row: {s: _finite(value) for s, value in values.items()} for row, values in p.scores.items()},
            }
            for i, p in enumerate(found.pictures)
        ],
        "failed": found.failed,
    }


def _of_row(found: Evaluation, row: str, which: np.ndarray) -> dict[str, Any]:
    """Means with intervals of the pictures `which`; of models also the gains."""
    return {score: _of_score(found, row, score, which) for score in scores.SCORES}


def _of_score(found: Evaluation, row: str, score: str, which: np.ndarray) -> dict[str, Any]:
    sequences = [found.pictures[i].sequence for i in which]
    average, interval = scores.mean_and_interval(np.asarray(found.values(row, score))[which], sequences)
    result: dict[str, Any] = {"mean": average, "interval": interval}
    if row != BLURRY:
        gain, interval = scores.mean_and_interval(found.gains(row, score)[which], sequences)
        result |= {"gain": gain, "gain_interval": interval}
    return result


def _of_groups(found: Evaluation, groups: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """PSNR of each row and its gain, how often it is better, and the greatest loss."""
    at = {picture.name: i for i, picture in enumerate(found.pictures)}
    result = []
    for name, pictures in groups.items():
        which = np.array([at[picture] for picture in pictures if picture in at], int)
        if not len(which):
            continue
        rows = {}
        for row in found.rows:
            rows[row] = {"psnr": _of_score(found, row, "psnr", which)}
            if row != BLURRY:
                gains = found.gains(row, "psnr")[which]
                rows[row] |= {"better": float(np.mean(gains > 0)), "worst_gain": float(gains.min())}
        result.append({"name": name, "pictures": len(which), "rows": rows})
    return result


def for_card(report: Mapping[str, Any], model: str) -> dict[str, Any]:
    """What the card of these weights says of an evaluation: `report` is a report.json, `model` how it named them."""
    try:
        label = next(label for label, row in report["rows"].items() if row.get("weights") == model)
        data, pictures, version = (report[key] for key in ("data", "pictures_scored", "version"))
        groups = {
            by: {
                group["name"]: {
                    "pictures": group["pictures"],
                    "blurry": group["rows"][BLURRY]["psnr"]["mean"],
                    "gain": group["rows"][label]["psnr"]["gain"],
                    "interval": group["rows"][label]["psnr"]["gain_interval"],
                    "better": group["rows"][label].get("better"),
                    "worst_gain": group["rows"][label].get("worst_gain"),
                }
                for group in several
            }
            for by, several in report["groups"].items()
        }
    except StopIteration:
        raise UserError(f"the report has no row of {model}") from None
    except (KeyError, TypeError, AttributeError):
        raise UserError("not a report.json of deblur eval, or one of another version") from None
    return {"data": Path(data).name, "pictures": pictures, "version": version, "score": "psnr", "groups": groups}


def _of_sequences(found: Evaluation) -> dict[str, Any]:
    result: dict[str, Any] = {
        sequence: {"pictures": found.sequences.count(sequence), "rows": {}}
        for sequence in dict.fromkeys(found.sequences)
    }
    for row in (*found.rows, SHARP):
        for score in scores.SCORES if row != SHARP else ("laplacian",):
            for sequence, value in scores.per_sequence(found.values(row, score), found.sequences).items():
                result[sequence]["rows"].setdefault(row, {})[score] = value
    return result


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


# Tables.


def pictures_csv(summary: Mapping[str, Any]) -> str:
    """A line for each picture and row."""
    lines = [
        [p["name"], p["sequence"], p["frame"], p["width"], p["height"], p["strength"], row, *_cells(values)]
        for p in summary["pictures"]
        for row, values in p["scores"].items()
    ]
    return _csv(["picture", "sequence", "frame", "width", "height", "strength", "row", *scores.SCORES], lines)


def videos_csv(summary: Mapping[str, Any]) -> str:
    """A line for each sequence and row, the means over its frames."""
    lines = [
        [sequence, about["pictures"], row, *_cells(values)]
        for sequence, about in summary["sequences"].items()
        for row, values in about["rows"].items()
    ]
    return _csv(["sequence", "pictures", "row", *scores.SCORES], lines)


def _cells(values: Mapping[str, float | None]) -> list[str]:
    """Python writes a float with as many digits as it needs to be read back, in JSON too."""
    return ["" if values.get(score) is None else repr(values[score]) for score in scores.SCORES]


def _csv(header: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header, *lines])
    return text.getvalue()


def table(summary: Mapping[str, Any]) -> str:
    """The table of the page for a terminal."""
    lines = [("model", "SSIM %", "Laplacian", "PSNR dB", "gain dB", "parameters", "GMAC", "frames/s")]
    blurry = summary["rows"][BLURRY]["scores"]
    for label, row in summary["rows"].items():
        values = row["scores"]
        cells = [label]
        for score, scale, digits in (("ssim", 100, 2), ("laplacian", 1, 0), ("psnr", 1, 2)):
            shown = (
                f"{scale * values[score]['mean']:.{digits}f}" if values.get(score, {}).get("mean") is not None else "-"
            )
            # The sharp picture's sharpness is no merit of it.
            cells.append(shown + (arrow(values[score], blurry[score]) if label not in (BLURRY, SHARP) else "  "))
        gain = values.get("psnr", {})
        interval = gain.get("gain_interval")
        cells.append(
            "-"
            if gain.get("gain") is None
            else f"{gain['gain']:+.2f}" + (f" [{interval[0]:+.2f}, {interval[1]:+.2f}]" if interval else "")
        )
        speed = row.get("speed")
        cells += [
            f"{row['parameters'] / 1e6:.2f} M" if "parameters" in row else "-",
            f"{row['gmac']:,.1f}" if "gmac" in row else "-",
            f"{speed['frames_per_second']:.4g}" if speed else "-",
        ]
        lines.append(tuple(cells))
    return _aligned(lines)


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def groups_table(summary: Mapping[str, Any]) -> str:
    """Gains in PSNR by group for a terminal; in brackets the greatest loss of one picture."""
    labels = [label for label in summary["rows"] if label not in (BLURRY, SHARP)]
    lines = []
    for by, groups in summary["groups"].items():
        lines.append((by, "pictures", BLURRY, *labels))
        for group in groups:
            cells = [group["name"], str(group["pictures"]), _cell(group["rows"][BLURRY]["psnr"]["mean"], "")]
            for label in labels:
                row = group["rows"][label]
                cells.append(_cell(row["psnr"]["gain"], "+") + f" [{_cell(row.get('worst_gain'), '+')}]")
            lines.append(tuple(cells))
    return _aligned(lines)


def _cell(value: float | None, sign: str) -> str:
    return "-" if value is None else f"{value:{sign}.2f}"


def arrow(now: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """Up or down against the blurry picture."""
    if now["mean"] is None or before["mean"] is None or now["mean"] == before["mean"]:
        return "  "
    return " ↑" if now["mean"] > before["mean"] else " ↓"
