"""Checks this folder: every file is the one that was exported, and the network gives here what it gave there.

Needs tensorflow and numpy. Exits with 0 if it is equal, 1 if not.
"""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf  # pyright: ignore[reportMissingModuleSource]


def load(path: Path | str) -> Callable[[np.ndarray], np.ndarray]:
    model = tf.saved_model.load(str(path))
    signature = model.signatures["serving_default"]

    def run(pictures: np.ndarray, model: object = model) -> np.ndarray:  # the signature alone does not keep it alive
        return signature(picture=tf.constant(pictures))["restored"].numpy()

    return run


def main() -> int:
    folder = Path(__file__).resolve().parent
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    for name, about in card["files"].items():
        file = folder / name
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != about["sha256"]:
            print(f"{name} is missing or not what was exported: its sha256 is another")
            return 1
    with np.load(folder / "golden.npz") as golden:
        pictures, expected = golden["input"], golden["output"]
    given = load(folder / card["model"])(pictures)
    if given.shape != expected.shape or given.dtype != expected.dtype:
        print(f"not equal: {given.dtype} {given.shape}, expected {expected.dtype} {expected.shape}")
        return 1
    off, bound = float(np.abs(given.astype(np.float64) - expected).max()), card["golden"]["bound"]
    equal = off <= bound  # false of not-a-number too
    print(f"{'equal' if equal else 'NOT equal'}: off by {off:.2e} at most, {bound:.0e} is allowed")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
