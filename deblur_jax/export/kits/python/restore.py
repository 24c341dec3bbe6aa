"""Restores a photograph with the network in this folder: python restore.py photo.jpg sharp.png

Needs onnxruntime, numpy and pillow. Pictures larger than --tile are done in tiles, which overlap by as much as the
network sees of its surroundings and therefore leave no seams.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

FOLDER = Path(__file__).resolve().parent
Image.MAX_IMAGE_PIXELS = None  # large ones are done in tiles


def restore(
    run: Callable[[np.ndarray], np.ndarray], picture: np.ndarray, card: dict[str, Any], tile: int
) -> np.ndarray:
    """A picture (height, width, RGB; float32, 0 to 1) of any size; `run` takes and gives a batch of them."""
    multiple, least = card["network"]["multiple_of"], card["input"]["least_side"]
    height, width = picture.shape[:2]
    sides = [max(least, side + -side % multiple) for side in (height, width)]
    dark = darkness(picture) if card["network"].get("brightens") else 0.0
    bright = np.sqrt(picture * (dark + (1 - dark) * picture)) if dark else picture
    padded = np.pad(bright, ((0, sides[0] - height), (0, sides[1] - width), (0, 0)), "reflect")
    seen = card["network"]["receptive_field"]  # none: the whole picture, where what a tile lacks was measured
    margin = (seen - 1) // 2 if seen else card["network"]["overlap"]
    margin += -margin % multiple
    kept = max(tile - 2 * margin, tile // 2) // multiple * multiple  # of a tile's side, the overlaps left out
    rows, columns = (side if side <= tile else max(kept, multiple) for side in sides)
    restored = np.empty_like(padded)
    for top in range(0, sides[0], rows):
        for left in range(0, sides[1], columns):
            y, x = max(0, top - margin), max(0, left - margin)
            given = run(padded[None, y : top + rows + margin, x : left + columns + margin])[0]
            restored[top : top + rows, left : left + columns] = given[top - y :, left - x :][:rows, :columns]
    restored = restored[:height, :width]
    if dark:
        restored *= 2 * np.abs(restored) / (dark + np.sqrt(dark**2 + 4 * (1 - dark) * restored**2))
    return restored


def darkness(picture: np.ndarray) -> np.float32:
    """How far a dark picture is brightened for the network: 0 is not at all, 1 is its square root."""
    every = max(1, math.isqrt(picture.shape[0] * picture.shape[1] // 2**16))
    median = np.median(picture[::every, ::every]).clip(0.001, 0.15)
    return np.float32(min(1.0, (0.15**2 - median**2) / (median - median**2)))


def read(file: Image.Image) -> Image.Image:
    """In RGB of 8 bits, turned as its EXIF says."""
    turned = ImageOps.exif_transpose(file)
    if turned.mode.startswith(("I", "F")):  # grey of 16 bits, or from 0 to 1; Pillow would cut off at 255
        eighths = np.asarray(turned) * 255.0 if turned.mode == "F" else np.asarray(turned) / 257
        turned = Image.fromarray(np.rint(eighths.clip(0, 255)).astype(np.uint8))
    return turned.convert("RGB")


def refuse(reason: str) -> NoReturn:
    print(reason, file=sys.stderr)
    sys.exit(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path, help="a new file; its ending says the format")
    parser.add_argument("--tile", type=int, default=1024, help="the largest side done at once (1024)")
    options = parser.parse_args()
    if options.output.exists():
        refuse(f"{options.output} exists already")
    if not options.output.absolute().parent.is_dir():
        refuse(f"{options.output.parent}: no such folder")
    if Image.registered_extensions().get(options.output.suffix.lower()) not in Image.SAVE:
        refuse(f"{options.output}: no format of pictures has this ending")
    card = json.loads((FOLDER / "card.json").read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession(str(FOLDER / card["model"]), providers=["CPUExecutionProvider"])

    def run(pictures: np.ndarray) -> np.ndarray:
        return np.asarray(session.run(None, {"picture": pictures})[0])

    try:
        with Image.open(options.input) as file:
            picture = np.asarray(read(file), np.float32) / 255
            # Of grey or of inks it would not fit what is written.
            profile = file.info.get("icc_profile") if file.mode in ("RGB", "RGBA", "P") else None
    except OSError as error:
        refuse(f"{options.input}: {error.strerror or error}")
    restored = restore(run, picture, card, options.tile)
    eighths = np.rint(255 * restored.clip(0, 1)).astype(np.uint8)
    try:
        Image.fromarray(eighths).save(options.output, quality=95, icc_profile=profile)
    except OSError as error:
        refuse(f"{options.output}: {error.strerror or error}")


if __name__ == "__main__":
    main()
