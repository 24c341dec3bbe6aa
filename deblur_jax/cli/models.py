"""List the networks: parameters, operations, receptive field, and what the weights that come with the package gain."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from deblur_jax.models import facts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    style = parser.add_mutually_exclusive_group()
    style.add_argument("--json", action="store_true", help="print the facts as JSON")
    style.add_argument("--markdown", action="store_true", help="print the table as Markdown")


def run(options: argparse.Namespace) -> int:
    networks = facts.read()
    scores = {name: _scores(name) for name in networks}
    if options.json:
        found = {name: {**dataclasses.asdict(f), "scores": scores[name]} for name, f in networks.items()}
        print(json.dumps(found, indent=1))
        return 0
    rows = [
        ("network", "parameters", "kMAC/pixel", "GMAC at 1280x720", "multiple of", "receptive field", "gain", "origin")
    ]
    for name, f in networks.items():
        millions, gmac = f"{f.parameters / 1e6:.2f} M", f"{f.gmac(1280, 720):,.1f}"
        field = f"{f.receptive_field} px" if f.receptive_field else "all"
        rows.append(
            (name, millions, f"{f.kmac_per_pixel:,.1f}", gmac, str(f.multiple_of), field, _gain(scores[name]), f.origin)
        )
    print(_markdown(rows) if options.markdown else _columns(rows))
    return 0


def _scores(name: str) -> dict[str, Any] | None:
    """What the card of the bundled weights says. The file begins with a length and JSON: no NumPy is needed."""
    path = Path(__file__).parents[1] / "weights" / "bundled" / f"{name}.safetensors"
    if (newest := path.with_suffix(".json")).is_file():
        return json.loads(newest.read_text()).get("evaluation")
    if not path.is_file():
        return None
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return json.loads(header["__metadata__"]["card"]).get("evaluation")


def _gain(scores: dict[str, Any] | None) -> str:
    return f"{scores['groups']['blur']['shake moderate']['gain']:+.2f} dB" if scores else "-"


def _markdown(rows: list[tuple[str, ...]]) -> str:
    header, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([header, f"|---|{'---:|' * (len(rows[0]) - 2)}---|", *body])


def _columns(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    last = len(widths) - 1
    return "\n".join(
        "  ".join(
            cell if i == last else cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
