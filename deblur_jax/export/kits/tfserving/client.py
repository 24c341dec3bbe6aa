"""Has a photograph restored by the server: python client.py photo.jpg sharp.png [http://localhost:8501]

Needs numpy and pillow. The picture travels as JSON, which is easy and slow: use gRPC (port 8500) in a product.
"""

import json
import sys
import urllib.request

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
    if turned.mode.startswith("I"):  # grey of 16 bits, which Pillow would cut off at 255
        turned = Image.fromarray(np.rint(np.asarray(turned) / 257).astype(np.uint8))
    return turned.convert("RGB")


def main(source: str, target: str, server: str = "http://localhost:8501") -> None:
    with Image.open(source) as file:
        picture = np.asarray(read(file), np.float32) * (WHITE / 255)
    height, width = picture.shape[:2]
    filling = [(0, max(LEAST, side + -side % MULTIPLE) - side) for side in (height, width)]
    restored = infer(np.pad(picture, (*filling, (0, 0)), "reflect")[None], server)[0, :height, :width]
    Image.fromarray(np.rint(restored.clip(0, WHITE) * (255 / WHITE)).astype(np.uint8)).save(target, quality=95)


if __name__ == "__main__":
    main(*sys.argv[1:])
