"""Pairs a second from PNG, JPEG and raw arrays, against a plain PyTorch DataLoader that does the same work."""

import io
import itertools
import statistics
import time
from pathlib import Path

import cv2
import numpy as np

from deblur_jax import samples
from deblur_jax.errors import UserError
from deblur_jax.pipeline.loader import Loader, LoaderConfig
from deblur_jax.pipeline.sources import Folder
from deblur_jax.pipeline.trees import Example
from deblur_jax.restore import read_image

SIZE = (720, 1280)
FORMATS = ("png", "jpg", "npy")


def compare(folder: Path, *, pairs: int = 48, batch: int = 16, side: int = 256, workers: int = 2, rounds: int = 5):
    """Seconds a pair of each, by (format, reader): medians over rounds of `pairs` pairs, interleaved.

    Both read the same files from the same folder, crop, flip and turn a pair alike and stack uint8 batches. Ours uses
    `workers` threads, theirs `workers` processes, which is the way each is meant to be used.
    """
    try:
        from deblur_jax.bench.torch_loader import torch_batches
    except ImportError:
        raise UserError("PyTorch is needed beside: pip install torch --index-url of its CPU builds, or plain torch") from None
    readers = {}
    for suffix in FORMATS:
        examples = _write(folder / suffix, suffix, pairs)
        config = LoaderConfig(batch=batch, crop=side, threads=workers, prefetch=2)
        readers[suffix, "deblur_jax"] = Loader([Folder(examples)], config).batches()
        readers[suffix, "torch"] = torch_batches(examples, batch=batch, side=side, workers=workers)
    seconds: dict = {name: [] for name in readers}
    for turn in range(rounds + 1):
        for name, batches in readers.items():
            start = time.perf_counter()
            for _ in itertools.islice(batches, pairs // batch):
                pass
            if turn:  # the first one starts threads and processes
                seconds[name].append((time.perf_counter() - start) / pairs)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def _write(folder: Path, suffix: str, count: int) -> list[Example]:
    """Pairs of 1280x720, cut from the sample photographs, the blurred ones box-filtered."""
    photos = [(255 * read_image(path)).astype(np.uint8) for path in samples.PICTURES]
    examples = []
    for i in range(count):
        sharp = cv2.resize(np.roll(photos[i % len(photos)], 31 * i, 1), SIZE[::-1], interpolation=cv2.INTER_CUBIC)
        paths = [folder / side / f"{i:03}.{suffix}" for side in ("blur", "sharp")]
        for path, pixels in zip(paths, (cv2.blur(sharp, (7, 3)), sharp), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_encoded(pixels, suffix))
        examples.append(Example("", i, paths[1], paths[0]))
    return examples


def _encoded(pixels: np.ndarray, suffix: str) -> bytes:
    if suffix == "npy":
        buffer = io.BytesIO()
        np.save(buffer, pixels)
        return buffer.getvalue()
    return cv2.imencode(f".{suffix}", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])[
        1
    ].tobytes()
