"""Has a photograph restored by the server: python client.py photo.jpg sharp.png [http://localhost:8501]

Needs numpy and pillow. The picture travels as JSON, which is easy and slow: use gRPC (port 8500) in a product.
"""

import json
import sys
import urllib.request
from pathlib import Path
from typing import NoReturn

import numpy as np
from PIL import Image, ImageOps

NAME, MULTIPLE, LEAST = "@NAME@", int("@MULTIPLE@"), int("@LEAST@")
TYPE, WHITE = "@NUMPY_TYPE@", int("@WHITE@")


def infer(pictures: np.ndarray, server: str) -> np.ndarray:
    """What the network makes of (n, height, width, RGB) in @RANGE@; sides as it takes them."""
    body = json.dumps({"inputs": {"picture": pictures.astype(TYPE).tolist()}}).encode()
    request = urllib.request.Request(f"{server}/v1/models/{NAME}:predict", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return np.asarray(json.load(answer)["outputs"], TYPE)


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


def main(source: str, target: str, server: str = "http://localhost:8501") -> None:
    if Path(target).exists():
        refuse(f"{target} exists already")
    with Image.open(source) as file:
        picture = np.asarray(read(file), np.float32) * (WHITE / 255)
    height, width = picture.shape[:2]
    filling = [(0, max(LEAST, side + -side % MULTIPLE) - side) for side in (height, width)]
    restored = infer(np.pad(picture, (*filling, (0, 0)), "reflect")[None], server)[0, :height, :width]
    Image.fromarray(np.rint(restored.clip(0, WHITE) * (255 / WHITE)).astype(np.uint8)).save(target, quality=95)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        refuse((__doc__ or "").splitlines()[0])
    try:
        main(*sys.argv[1:])
    except (OSError, ValueError, Image.DecompressionBombError) as error:  # files, the server, an ending
        refuse(str(error))
