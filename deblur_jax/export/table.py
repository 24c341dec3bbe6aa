"""What a precision costs and gives: bytes, loss in PSNR, and speed, beside float32."""

import time
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from deblur_jax import samples
from deblur_jax.errors import UserError
from deblur_jax.export import parity
from deblur_jax.filters import gaussian_blur
from deblur_jax.metrics import psnr
from deblur_jax.restore.exported import onnx_network

__all__ = ["table"]

_SIDE = 256  # of the pieces of the samples
_TURNS = 7
_MOST = 100.0  # dB; a picture that comes back exactly has no end of them


def table(model: Any, made: Any, options: Any, *, multiple: int) -> list[dict[str, Any]]:
    """Both run in turn, the loss is the mean over pairs, the speed the ratio of the medians."""
    exact, rounded = (
        onnx_network(m.SerializeToString(), layout=options.layout, whole_numbers=options.whole_numbers)
        for m in (model, made)
    )
    loss = []
    for pair in _pairs(options, multiple):
        blurred, sharp = (np.repeat(picture[None], options.batch or 1, 0) for picture in pair)
        scores = [
            float(psnr(jnp.clip(run(blurred), 0, 1), jnp.asarray(sharp)).clip(max=_MOST).mean())
            for run in (exact, rounded)
        ]
        loss.append(scores[0] - scores[1])
    side = 2 * _side(multiple)
    picture = np.repeat(parity.natural(*(options.size or (side, side))), options.batch or 1, 0)
    seconds: dict[str, list[float]] = {"exact": [], "rounded": []}
    for turn in range(_TURNS + 1):
        for name, run in (("exact", exact), ("rounded", rounded)):
            start = time.perf_counter()
            run(picture)
            if turn:  # the first one warms up
                seconds[name].append(time.perf_counter() - start)
    ratio = float(np.median(seconds["exact"]) / np.median(seconds["rounded"]))
    where = f"{len(loss)} pairs given" if options.validation else "the samples, blurred by a Gaussian of 1.5 pixels"
    return [
        {"precision": "fp32", "bytes": model.ByteSize(), "speed": 1.0},
        {
            "precision": options.precision,
            "bytes": made.ByteSize(),
            "speed": round(ratio, 2),
            "psnr_loss": round(float(np.mean(loss)), 4),
            "measured_on": f"{where}; speed in ONNX Runtime on the CPU",
        },
    ]


def _side(multiple: int) -> int:
    return multiple * max(1, _SIDE // multiple)


def _pairs(options: Any, multiple: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blurred and sharp, of a size that the graph takes."""
    for read in options.validation:
        pair = [picture.astype(np.float32) / 255 for picture in read()]
        have = pair[0].shape[:2]
        h, w = options.size or (side - side % multiple for side in have)
        if min(h, w) < 1 or h > have[0] or w > have[1]:
            needed = f"{options.size[1]}x{options.size[0]}" if options.size else f"{multiple}x{multiple}"
            raise UserError(f"--val: a picture is {have[1]}x{have[0]}, and the network takes {needed} and more")
        yield pair[0][:h, :w], pair[1][:h, :w]
    if not options.validation:
        side = _side(multiple)
        for index in range(len(samples.PICTURES)):
            sharp = parity.natural(*(options.size or (side, side)), index=index)[:, ::-1, ::-1]
            yield np.asarray(gaussian_blur(jnp.asarray(sharp), sigma=1.5))[0], sharp[0]
