"""Pairs a second from PNG, JPEG and raw arrays, against a plain PyTorch DataLoader that does the same work."""

import itertools
import statistics
import time
from pathlib import Path

import cv2
import numpy as np

from deblur_jax import samples
from deblur_jax.errors import UserError
from deblur_jax.pipeline import checks, prepare
from deblur_jax.pipeline.loader import Loader, LoaderConfig
from deblur_jax.pipeline.pictures import to_npy
from deblur_jax.pipeline.sources import Prepared
from deblur_jax.pipeline.trees import Example
from deblur_jax.restore import encode_image, read_image

SIZE = (720, 1280)
FORMATS = ("png", "jpg", "npy")
_PAIRS = 32
_TURN = 10  # batches


def compare(folder: Path, *, batch: int = 16, side: int = 256, workers: int = 2, rounds: int = 5) -> dict:
    """Seconds a pair of each (format, reader): medians over rounds of `_TURN` batches, interleaved.

    Both crop, flip and turn a pair alike and stack uint8 batches. Ours reads prepared ArrayRecord with `workers`
    threads, theirs the files with `workers` processes; both may have two batches ready when a turn starts.
    """
    try:
        from deblur_jax.bench.torch_loader import torch_batches
    except ImportError:
        raise UserError("PyTorch, which this compares with, is not installed: pip install torch") from None
    readers = {}
    for suffix in FORMATS:
        examples = _write(folder / suffix, suffix, _PAIRS)
        if suffix == "npy":
            prepared = _prepared(_write(folder / "for_npy", "png", _PAIRS), folder / "prepared_npy", raw=True)
        else:
            prepared = _prepared(examples, folder / f"prepared_{suffix}", raw=False)
        config = LoaderConfig(batch=batch, crop=side, threads=workers, prefetch=2)
        readers[suffix, "deblur_jax"] = Loader([prepared], config).batches()
        # An epoch much longer than a turn: at its end their workers run dry.
        readers[suffix, "torch"] = torch_batches(examples * 100, batch=batch, side=side, workers=workers)
    seconds: dict = {name: [] for name in readers}
    for turn in range(rounds + 1):
        for name, batches in readers.items():
            time.sleep(1.0)  # what was begun for the last one comes to rest
            start = time.perf_counter()
            for _ in itertools.islice(batches, _TURN):
                pass
            if turn:  # the first one starts threads and processes
                seconds[name].append((time.perf_counter() - start) / (_TURN * batch))
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def _prepared(examples: list[Example], out: Path, *, raw: bool) -> Prepared:
    source = prepare.Source("bench", {"train": examples}, checks.survey({"train": examples}, out).headers, raw=raw)
    return Prepared(prepare.prepare(source, out))


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
    return to_npy(pixels) if suffix == "npy" else encode_image(pixels, f".{suffix}", quality=95)
