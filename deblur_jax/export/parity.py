"""Whether an exported network gives what JAX gives: natural pictures and such as look for trouble, of several sizes."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from deblur_jax import samples
from deblur_jax.restore.images import read_image

__all__ = ["BOUNDS", "compare", "natural", "pictures"]

Run = Callable[[np.ndarray], np.ndarray]

# What a precision may cost. Of float32 and float16 the greatest error anywhere, on values in [0, 1]; of int8 the least
# PSNR against JAX on natural pictures: rounding to 256 steps shows somewhere, whatever is done. And how large its error
# may be on a blurred one, as a share of all that the network changes there: sharp ones are hardly changed anyway.
BOUNDS: dict[str, dict[str, float]] = {
    "fp32": {"greatest_error": 1e-4},
    "fp16": {"greatest_error": 2e-2},
    "int8": {"natural_psnr": 36.0, "share_of_change": 0.5},
}


def natural(height: int, width: int, *, index: int = 0) -> Float[np.ndarray, "1 h w 3"]:
    """A piece of a photograph of the samples."""
    photo = read_image(samples.PICTURES[index % len(samples.PICTURES)])
    while photo.shape[0] < height or photo.shape[1] < width:
        photo = np.concatenate([photo, photo[::-1]], 0)
        photo = np.concatenate([photo, photo[:, ::-1]], 1)
    top, left = (photo.shape[0] - height) // 2, (photo.shape[1] - width) // 2
    return np.ascontiguousarray(photo[None, top : top + height, left : left + width])


def shaken(picture: Float[np.ndarray, "b h w 3"]) -> Float[np.ndarray, "b h w 3"]:
    """By seven pixels."""
    return np.asarray(np.mean([np.roll(picture, by, (1, 2)) for by in range(-3, 4)], 0, np.float32))


def pictures(
    multiple: int, least: int, *, batch: int | None = None, size: tuple[int, int] | None = None
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and pictures, with sides that are odd and even multiples; of one size if the network takes no other."""
    unit = multiple * math.ceil(96 / multiple)  # about a hundred pixels
    several = [(least * multiple, least * multiple), (unit, unit + multiple), (3 * unit + multiple, 5 * unit)]
    small, middle, large = [size] * 3 if size else several
    generator = np.random.default_rng(0)
    made = {
        "photograph": natural(*large),
        "another photograph": natural(*large, index=1),
        "shaken photograph": shaken(natural(*large, index=1)),
        "two at once": np.concatenate([natural(*middle, index=2), natural(*middle, index=3)]),
        "smallest": natural(*small),
        "noise": generator.random((1, *middle, 3), np.float32),
        "black": np.zeros((1, *middle, 3), np.float32),
        "grey": np.full((1, *middle, 3), 0.5, np.float32),
        "white": np.ones((1, *middle, 3), np.float32),
        "saturated": generator.integers(0, 2, (1, *middle, 3)).astype(np.float32),
    }
    for name, picture in made.items():
        if batch is None or len(picture) == batch:
            yield name, picture
        elif len(picture) < batch:
            yield name, np.repeat(picture, batch, 0)[:batch]


def compare(
    reference: Run,
    exported: Run,
    cases: Iterable[tuple[str, np.ndarray]],
    precision: str,
    *,
    whole_numbers: bool = False,
    tick: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """The report that goes into the card; `equal` says whether the bound holds. `tick` gets the values done of all."""
    cases, found, done, share = list(cases), [], 0, 0.0
    total = sum(picture.size for _, picture in cases)
    for name, picture in cases:
        expected, given = np.asarray(reference(picture)), np.asarray(exported(picture))
        error = np.abs(given.astype(np.float64) - expected)
        scale = max(1.0, float(np.abs(expected).max()))  # where a network leaves [0, 1]
        found.append(
            {
                "input": name,
                "shape": list(picture.shape),
                "greatest_error": float(error.max()) / scale if np.isfinite(given).all() else math.inf,
                "mean_error": float(error.mean()) / scale,
                "psnr": None if not error.any() else float(-20 * np.log10(np.sqrt((error**2).mean()) / scale)),
            }
        )
        if name.startswith("shaken"):
            change = np.abs(expected.astype(np.float64) - picture)
            share = math.sqrt(float((error**2).sum() / max((change**2).sum(), 1e-12)))
        done += picture.size
        if tick:
            tick(done, total)
    worst = max(case["greatest_error"] for case in found)
    seen = [case["psnr"] for case in found if "photo" in case["input"] and case["psnr"] is not None]
    bound = dict(BOUNDS[precision])
    if whole_numbers and "greatest_error" in bound:
        bound["greatest_error"] += 0.5 / 255  # what rounding the output takes
    psnr = min(seen, default=math.inf)
    equal = worst <= bound.get("greatest_error", math.inf) and psnr >= bound.get("natural_psnr", 0.0)
    equal = equal and share <= bound.get("share_of_change", math.inf)
    return {
        "against": "JAX in float32 on the CPU",
        "bound": bound,
        "equal": bool(equal),
        "greatest_error": worst,
        "mean_error": float(np.mean([case["mean_error"] for case in found])),
        "natural_psnr": None if psnr == math.inf else psnr,
        "share_of_change": share,
        "cases": found,
    }
