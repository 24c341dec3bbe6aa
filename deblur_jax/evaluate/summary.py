"""An evaluation as one dictionary, which is the JSON; tables, CSV and the page say the same numbers."""

import csv
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deblur_jax import __version__
from deblur_jax.evaluate import scores
from deblur_jax.evaluate.run import BLURRY, SHARP, Evaluation

__all__ = ["STRENGTHS", "Speed", "pictures_csv", "summarise", "table", "videos_csv"]

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
) -> dict[str, Any]:
    """`about` is said of the whole evaluation, `models` of each model (network, parameters, GMAC, card)."""
    parts = scores.thirds(found.values(BLURRY, "psnr"))
    strengths = STRENGTHS if len(parts) == 3 else ("all",)
    strength_of = {int(i): name for name, part in zip(strengths, parts, strict=True) for i in part}
    sequences, everything = found.sequences, np.arange(len(found.pictures))
    several = len(set(sequences)) < len(sequences)
    rows: dict[str, Any] = {BLURRY: {"scores": _of_row(found, BLURRY, everything)}}
    for label in found.models:
        speed = speeds[label].as_dict() if speeds else None
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
    sequences = [found.pictures[i].sequence for i in which]
    result: dict[str, Any] = {}
    for score in scores.SCORES:
        average, interval = scores.mean_and_interval(np.asarray(found.values(row, score))[which], sequences)
        result[score] = {"mean": average, "interval": interval}
        if row != BLURRY:
            gain, interval = scores.mean_and_interval(found.gains(row, score)[which], sequences)
            result[score] |= {"gain": gain, "gain_interval": interval}
    return result


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
            cells.append(shown + (arrow(values[score], blurry[score]) if row.get("network") else "  "))
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
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def arrow(now: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """Up or down against the blurry picture."""
    if now["mean"] is None or before["mean"] is None or now["mean"] == before["mean"]:
        return "  "
    return " ↑" if now["mean"] > before["mean"] else " ↓"
