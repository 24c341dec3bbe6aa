"""Exported networks on disk: a folder with the model, a card, and what proves that it runs as it should."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from deblur_jax.errors import UserError
from deblur_jax.models.facts import Facts

__all__ = ["CARD", "FORMAT", "VERSION", "Artifact", "digest", "is_artifact", "read"]

FORMAT, VERSION = "deblur_jax artifact", 1
CARD = "card.json"


@dataclass(frozen=True)
class Artifact:
    """`least` is the least multiple of `facts.multiple_of` that a side may be; `size` (height, width) the only one."""

    folder: Path
    card: dict[str, Any]
    kind: Literal["onnx", "stablehlo"]
    model: Path
    facts: Facts
    layout: Literal["nhwc", "nchw"]
    whole_numbers: bool  # 0 to 255 in and out, instead of [0, 1]
    least: int
    batch: int | None  # the only number of pictures at a time
    size: tuple[int, int] | None


def is_artifact(path: str | Path) -> bool:
    return (Path(path) / CARD).is_file()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read(folder: str | Path) -> Artifact:
    """What the card says; refused if it is of a newer format, or if a file is not the one that was exported."""
    folder = Path(folder)
    path = folder / CARD
    try:
        card = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path}: damaged, it is not JSON; export the network again") from None
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise UserError(f"{path}: not the card of a network that deblur_jax exported")
    version = card.get("format_version")
    if not isinstance(version, int) or version > VERSION:
        raise UserError(f"{path}: has format version {version}, this deblur_jax reads up to {VERSION}: update it")
    try:
        if card["runtime"]["kind"] == "savedmodel":
            raise UserError(f"{folder}: a SavedModel, which TensorFlow runs; to restore here: deblur export --to onnx")
        artifact = _artifact(folder, card)
        files = {str(name): str(about["sha256"]) for name, about in card["files"].items()}
        if card["model"] not in files:
            raise KeyError(card["model"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: damaged ({type(error).__name__}: {error}); export the network again") from None
    for name, expected in files.items():
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UserError(f"{path}: names a file outside of the folder: {name}")
        try:
            found = digest((folder / name).read_bytes())
        except (OSError, ValueError) as error:  # a name that cannot be one
            said = getattr(error, "strerror", None) or error
            raise UserError(f"{folder / name}: {said}; the artifact is not whole") from None
        if found != expected:
            raise UserError(f"{folder / name}: not what was exported (its sha256 is not the card's); export it again")
    return artifact


def _artifact(folder: Path, card: dict[str, Any]) -> Artifact:
    kind, layout, pictures = card["runtime"]["kind"], card["input"]["layout"], card["input"]
    if kind not in ("onnx", "stablehlo") or layout not in ("nhwc", "nchw") or pictures["type"] not in _TYPES:
        raise ValueError("it has a kind, layout or type of numbers that is not known")
    size, batch, facts = pictures["size"], pictures["batch"], _facts(card["network"])
    sides = [size["height"], size["width"]] if size is not None else []
    optional = [x for x in (batch, facts.receptive_field, facts.tile, facts.overlap) if x is not None]
    for number in (facts.multiple_of, pictures["least_side"], *sides, *optional):
        if not isinstance(number, int) or isinstance(number, bool) or not 0 < number < 2**31:
            raise ValueError(f"{number!r} where a count belongs")
    if not isinstance(facts.brightens, bool):
        raise ValueError(f"{facts.brightens!r} where true or false belongs")
    for number in (card["network"]["bytes_per_pixel"], facts.kmac_per_pixel):
        if not isinstance(number, int | float) or not 0 < number < 1e18:
            raise ValueError(f"{number!r} where a cost belongs")
    return Artifact(
        folder=folder,
        card=card,
        kind=kind,
        model=folder / card["model"],
        facts=facts,
        layout=layout,
        whole_numbers=_TYPES[pictures["type"]],
        least=max(1, pictures["least_side"] // facts.multiple_of),
        batch=batch,
        size=(sides[0], sides[1]) if sides else None,
    )


def _facts(network: dict[str, Any]) -> Facts:
    """What has a default was not known to older cards."""
    fields = Facts.__dataclass_fields__.values()
    needed = [f.name for f in fields if f.name in network or f.default is dataclasses.MISSING]
    return Facts(**{name: network[name] for name in needed})


_TYPES = {"float32": False, "uint8": True}
