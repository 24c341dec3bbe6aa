"""Making the blur against learning from it: `synthesise` beside a network's forward and backward pass, same batch."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax import samples
from deblur_jax.bench.measure import Timing, interleaved
from deblur_jax.blur.synthesis import Recipe, synthesise
from deblur_jax.errors import UserError
from deblur_jax.losses import objective
from deblur_jax.models import layers, zoo
from deblur_jax.restore import read_image


def compare(
    *, network: str = "small", batch: int = 8, side: int = 256, rounds: int = 5, dtype: jnp.dtype | None = None
) -> dict[str, Timing]:
    """The network's step, the whole recipe's synthesis, and its parts."""
    recipe = Recipe()
    full = side + 2 * recipe.margin
    pictures = jnp.asarray(_crops(batch, full))
    module = zoo.get(network).training(dtype=dtype or _fast_dtype())
    key = jax.random.key(0, impl="rbg")
    targets = pictures[:, :side, :side]
    variables = jax.jit(module.init)(key, targets[:1])

    @functools.partial(jax.jit, compiler_options=layers.compiler_options(jax.default_backend()))
    def step(variables, blur, sharp):
        def loss(parameters):
            estimates: Any = module.apply({**variables, "params": parameters}, blur, train=True)
            return objective(estimates, layers.pyramid(sharp, len(estimates)), weights={"l1": 1.0, "ssim": 0.1})[0]

        return jax.grad(loss)(variables["params"])

    def make(*kinds: str):
        chosen = dataclasses.replace(recipe, shares=tuple((kind, 1.0) for kind in kinds)) if kinds else recipe
        return lambda: synthesise(key, pictures, recipe=chosen)

    works = {
        f"{network}, forward and backward": lambda: step(variables, targets, targets),
        "synthesis, whole recipe": make(),
        "synthesis, shake alone": make("shake"),
        "synthesis, defocus alone": make("defocus"),
        "synthesis, camera alone": make("sharp"),
    }
    return interleaved(works, rounds=rounds)


def _fast_dtype() -> jnp.dtype:
    return jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16


def _crops(count: int, side: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    photos = [read_image(path) for path in samples.PICTURES]
    most = min(min(photo.shape[:2]) for photo in photos)
    if side > most:
        raise UserError(f"crops of {side} pixels, with what blur reaches for, are too large: photographs have {most}")
    crops = []
    for i in range(count):
        photo = photos[i % len(photos)]
        top, left = (generator.integers(0, size - side + 1) for size in photo.shape[:2])
        crops.append(photo[top : top + side, left : left + side])
    return np.stack(crops)
