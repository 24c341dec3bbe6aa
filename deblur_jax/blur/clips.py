"""Blur from the frames of a fast clip: neighbouring frames averaged, with frames put between them.

GoPro (Nah et al. 2017) averages 7 to 13 frames of a 240 Hz camera: its folder `blur` the stored values as they
are (response "stored"), its folder `blur_gamma` after undoing a curve of 2.2 ("gamma"). REDS (Nah et al. 2019) films at
120 Hz, puts frames between until there are 1920 a second and averages in the linear light of a measured
response; "srgb" is the curve that stands for it here.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from deblur_jax.blur.camera import linear_to_srgb, srgb_to_linear
from deblur_jax.blur.views import pixel_grid, sample
from deblur_jax.filters import gaussian_blur, grey

Frame = Float[Array, "h w c"]
Response = Literal["stored", "gamma", "srgb"]

_ROUNDS = 5  # improvements of the flow at each level of the pyramid
_SMALLEST = 12  # pixels of the coarsest level's shorter side, about


@functools.partial(jax.jit, static_argnames=("between", "response"))
def average_frames(frames: Float[Array, "n h w c"], *, between: int = 7, response: Response = "srgb") -> Frame:
    """The long exposure over the frames, with `between` more put between each two by their optical flow.

    Its sharp partner is the middle frame. Without frames between, what moves fast leaves separate ghosts.
    """
    light = _to_light(frames, response)
    if between and len(frames) > 1:
        steps = jnp.arange(1, between + 1) / (between + 1)
        pairs = (light[:-1], light[1:], frames[:-1], frames[1:])
        total = (
            light.sum(0) + jax.lax.scan(lambda t, pair: (t + _between(*pair, steps), None), 0.0 * light[0], pairs)[0]
        )
        mean = total / (len(frames) + (len(frames) - 1) * between)
    else:
        mean = light.mean(0)
    return _from_light(mean, response)


def _to_light(x: Float[Array, "*s"], response: Response) -> Float[Array, "*s"]:
    match response:
        case "stored":
            return x
        case "gamma":
            return jnp.maximum(x, 0.0) ** 2.2
        case "srgb":
            return srgb_to_linear(x)


def _from_light(x: Float[Array, "*s"], response: Response) -> Float[Array, "*s"]:
    match response:
        case "stored":
            return x
        case "gamma":
            return jnp.maximum(x, 1e-8) ** (1 / 2.2)
        case "srgb":
            return linear_to_srgb(x)


def _between(first: Frame, last: Frame, seen_first: Frame, seen_last: Frame, steps: Float[Array, "s"]) -> Frame:
    """The sum of the pictures at `steps` of the way. The flow is found on the stored values, whose noise is even."""
    forward, backward = jax.vmap(optical_flow)(jnp.stack([seen_first, seen_last]), jnp.stack([seen_last, seen_first]))
    grid = pixel_grid(*first.shape[:2])
    # Where both flows do not lead back to the start, one of them has lost its object, or it is hidden there.
    doubt_first = _mismatch(forward, backward, grid)
    doubt_last = _mismatch(backward, forward, grid)

    def picture(total, t):
        # What comes by at this moment has left the first frame `t` and still has `1 - t` to go.
        from_first, from_last = grid - t * forward, grid - (1.0 - t) * backward
        # Nearer frames count more, doubtful ones less.
        weight_first = (1.0 - t) * jnp.exp(-sample(doubt_first, from_first)) + 1e-6
        weight_last = t * jnp.exp(-sample(doubt_last, from_last)) + 1e-6
        mixed = weight_first * sample(first, from_first) + weight_last * sample(last, from_last)
        return total + mixed / (weight_first + weight_last), None

    return jax.lax.scan(picture, jnp.zeros_like(first), steps)[0]


def _mismatch(
    there: Float[Array, "h w 2"], back: Float[Array, "h w 2"], grid: Float[Array, "h w 2"]
) -> Float[Array, "h w 1"]:
    return jnp.linalg.norm(there + sample(back, grid + there), axis=-1, keepdims=True)


@jax.jit
def optical_flow(first: Frame, last: Frame) -> Float[Array, "h w 2"]:
    """How far (right, down) every pixel of `first` moves to `last`: Lucas and Kanade's least squares over Gaussian
    windows, from coarse to fine. For motion of up to about a quarter of the picture; flat places follow those around.
    """
    pyramid = [jnp.stack([grey(frame)[..., 0] if frame.shape[-1] == 3 else frame[..., 0] for frame in (first, last)])]
    while min(pyramid[-1].shape[1:]) >= 2 * _SMALLEST:
        smooth = gaussian_blur(pyramid[-1][..., None], sigma=1.0)[..., 0]
        pyramid.append(smooth[:, ::2, ::2])
    flow = jnp.zeros((*pyramid[-1].shape[1:], 2))
    for level in reversed(pyramid):
        h, w = level.shape[1:]
        if flow.shape[:2] != (h, w):
            # The pixels kept stand at 0, 2, 4 ...; so do the flow's samples.
            flow = 2.0 * sample(flow, pixel_grid(h, w) / 2.0)
        flow = jax.lax.fori_loop(0, _ROUNDS, lambda _, f, level=level: _improved(f, *level), flow)
    return flow


def _improved(
    flow: Float[Array, "h w 2"], first: Float[Array, "h w"], last: Float[Array, "h w"]
) -> Float[Array, "h w 2"]:
    grid = pixel_grid(*first.shape)
    moved = sample(last[..., None], grid + flow)[..., 0]
    down, right = jnp.gradient(0.5 * (first + moved))
    # Least squares for the whole flow, not for its change, so that smoothing acts on what is smooth.
    change = moved - first - right * flow[..., 0] - down * flow[..., 1]
    products = jnp.stack([right * right, right * down, down * down, right * change, down * change], -1)
    xx, xy, yy, xt, yt = jnp.moveaxis(gaussian_blur(products[None], sigma=3.0, truncate=2.0)[0], -1, 0)
    # A weak pull towards the flow around keeps flat places in company.
    around = gaussian_blur(flow[None], sigma=2.5, truncate=2.0)[0]
    pull = 1e-4
    xx, yy = xx + pull, yy + pull
    bx, by = pull * around[..., 0] - xt, pull * around[..., 1] - yt
    determinant = xx * yy - xy * xy
    found = jnp.stack([(yy * bx - xy * by) / determinant, (xx * by - xy * bx) / determinant], -1)
    # What the linear model holds for is small; a place that found something else must not run away.
    return around + jnp.clip(found - around, -0.5, 0.5)
