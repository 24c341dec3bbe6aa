"""Training pairs from sharp pictures, inside the training step: one compiled program for every kind of blur.

Each picture of a batch draws its own kind, strength, camera and encoding. All kinds share one way: a mean over
the exposure's views (motion, layers, the air's warp), then one kernel (optics), then the camera. What a kind does not
use is the identity, so the cost is the same for every draw; what no kind of a recipe uses is left out.
"""

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, PRNGKeyArray

from deblur_jax.blur.camera import Camera, capture, highlights, jpeg, srgb_to_linear
from deblur_jax.blur.convolve import convolve_fft
from deblur_jax.blur.kernels import aperture_kernel, defocus_kernel, gaussian_kernel
from deblur_jax.blur.trajectories import draw_recorded, random_rotations, steady_rotations
from deblur_jax.blur.turbulence import turbulence_kernel, turbulence_warp
from deblur_jax.blur.views import composite, mean_view, random_mask
from deblur_jax.filters.grey import LUMA

Range = tuple[float, float]
Scalar = float | Float[Array, ""]

_MOVING = ("line", "shake", "recorded", "layers")
_OPTICAL = ("defocus", "aperture", "gaussian", "anisotropic", "turbulence")
KINDS = ("sharp", *_MOVING, *_OPTICAL, "frames")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is drawn, and how often. Ranges are uniform; the other shares are of pictures, whatever their blur.

    With `light_too` the strength of all blur but the air's is drawn by its logarithm: as often from 2 to 4 pixels as
    from 10 to 20. Light blur is what most pictures have, and what a network likes to overdo.
    """

    shares: tuple[tuple[str, float], ...] = (
        ("sharp", 0.05),
        ("line", 0.05),
        ("shake", 0.4),
        ("layers", 0.2),
        ("defocus", 0.1),
        ("aperture", 0.05),
        ("gaussian", 0.05),
        ("anisotropic", 0.05),
        ("turbulence", 0.05),
    )
    light_too: bool = False
    margin: int = 16  # cut off around the result, so that what moves in from outside is real
    views: int = 32
    kernel_size: int = 25
    extent: Range = (2.0, 24.0)  # of motions, in pixels
    inertia: Range = (0.7, 0.97)
    roll: Range = (0.0, 0.03)  # radians
    focal: Range = (500.0, 1500.0)  # pixels
    off_centre: float = 300.0  # how far crops lie from the optical axis, at most, in pixels along each axis
    layer_size: Range = (0.1, 0.45)  # of the picture's side
    radius: Range = (1.0, 8.0)  # of discs and polygons, in pixels
    sigma: Range = (0.5, 4.0)
    air_strength: Range = (0.5, 4.0)  # D / r0
    air_warp: Range = (0.2, 1.5)  # deviation, pixels
    saturated: float = 0.3
    peak: Range = (1.5, 6.0)  # of highlights, where 1 clips
    noisy: float = 0.6
    gain: Range = (0.0, 0.003)  # light of one photo-electron
    read: Range = (0.0, 0.004)
    compressed: float = 0.5
    jpeg_quality: Range = (50.0, 98.0)
    exposure: Range = (0.7, 1.2)
    white_balance: Range = (0.8, 1.25)  # of red and of blue
    contrast: Range = (0.0, 0.5)
    other_gamma: float = 0.15  # stored by another curve than sRGB's
    gamma: Range = (0.45, 2.2)  # of that, on top of sRGB
    linear: float = 0.0  # stored linearly, nearly: a gamma of 2.2
    grey: float = 0.05
    flat: float = 0.1  # of low contrast
    flat_range: Range = (0.3, 0.9)  # what is left of the contrast

    def __post_init__(self) -> None:
        unknown = [kind for kind, _ in self.shares if kind not in KINDS]
        if unknown or not self.shares or any(share < 0 for _, share in self.shares) or not self._total():
            raise ValueError(f"shares must be of {', '.join(KINDS)}, from 0, not all 0: {self.shares}")
        for name, least in (("margin", 0), ("views", 1), ("kernel_size", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(f"{name} must be a whole number from {least}, not {value!r}")
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, so that there is a middle, not {self.kernel_size}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type in (Range, "Range") and not _rises(value):
                raise ValueError(f"{field.name} must be two numbers, the second no smaller, not {value!r}")
        if self.light_too and min(self.extent[0], self.radius[0], self.sigma[0]) <= 0:
            raise ValueError("with light_too the ranges of extent, radius and sigma must begin above 0")

    def _total(self) -> float:
        return sum(share for _, share in self.shares)

    def has(self, *kinds: str) -> bool:
        return any(kind in kinds and share > 0 for kind, share in self.shares)


def _rises(value: object) -> bool:
    numbers = isinstance(value, tuple) and len(value) == 2 and all(isinstance(v, int | float) for v in value)
    return numbers and -math.inf < value[0] <= value[1] < math.inf  # pyright: ignore


class Pairs(NamedTuple):
    blur: Float[Array, "b h w 3"]
    sharp: Float[Array, "b h w 3"]
    kind: Int32[Array, "b"]  # its place in KINDS


@functools.partial(jax.jit, static_argnames="recipe")
def synthesise(
    key: PRNGKeyArray,
    pictures: Float[Array, "b H W 3"],
    *,
    recipe: Recipe,
    reach: Scalar = 1.0,
    recorded: Float[Array, "m v 3"] | None = None,
    frames: Float[Array, "b n H W 3"] | None = None,
) -> Pairs:
    """Blurred pictures and their sharp partners, both seen by the same camera.

    `recorded` are windows of real camera motion of `recipe.views` each, needed if the recipe has a share of them. The
    layers of a dynamic scene come from the next picture of the batch. With a `reach` below 1 the strengths of all blur
    stop at that part of their ranges, for training that begins with what is easy. `frames` are the pictures and their
    neighbours in a clip, needed for the kind "frames": their mean in linear light is the blurred picture.
    """
    _check_recorded(recipe, recorded)
    if recipe.has("frames") and frames is None:
        raise ValueError("the recipe has a share of averaged frames, but none were given")
    count, (height, width) = len(pictures), pictures.shape[1:3]
    if min(height, width) <= 2 * recipe.margin:
        raise ValueError(f"nothing is left of {width}x{height} pixels without a margin of {recipe.margin}")
    choice, scene, optics, camera_key, noise = jax.random.split(key, 5)
    names, shares = zip(*recipe.shares, strict=True)
    kinds = jax.random.categorical(choice, jnp.log(jnp.array(shares)), shape=(count,))
    kinds = jnp.array([KINDS.index(name) for name in names], jnp.int32)[kinds]
    light = srgb_to_linear(pictures)
    camera, encoding, after = _camera(camera_key, count, recipe)
    light = highlights(light, peak=encoding.peak)
    blurred, unmoved = _moved_all(scene, light, kinds, recipe, recorded, reach)
    if frames is not None and recipe.has("frames"):
        brightened = jax.vmap(functools.partial(highlights, peak=encoding.peak), 1, 1)(srgb_to_linear(frames))
        mean = brightened.mean(1)
        blurred = jnp.where((kinds == KINDS.index("frames"))[:, None, None, None], mean, blurred)
    blurred = _through_optics(optics, blurred, kinds, recipe, reach)
    blurred, unmoved = (_inside(x, recipe.margin) for x in (blurred, unmoved))
    blur = encoded(capture(noise, blurred, camera), encoding)
    sharp = encoded(capture(noise, unmoved, dataclasses.replace(camera, gain=None, read=None)), encoding)
    blur = jax.vmap(lambda x, q: jnp.where(q > 100, x, jpeg(x[None], quality=jnp.minimum(q, 100.0))[0]))(blur, after)
    return Pairs(blur, sharp, kinds)


@functools.partial(jax.jit, static_argnames=("recipe", "kind"))
def blurred_light(
    key: PRNGKeyArray,
    light: Float[Array, "b H W 3"],
    *,
    kind: str,
    recipe: Recipe,
    recorded: Float[Array, "m v 3"] | None = None,
) -> tuple[Float[Array, "b h w 3"], Float[Array, "b h w 3"]]:
    """Linear light after a blur of this kind, and the same unmoved, both without the margin; no camera yet.

    The same key blurs any light in the same way, a point too: what becomes of it is the kernel.
    """
    _check_recorded(recipe, recorded)
    scene, optics = jax.random.split(key)
    kinds = jnp.full(len(light), KINDS.index(kind), jnp.int32)
    blurred, unmoved = _moved_all(scene, light, kinds, recipe, recorded)
    blurred = _through_optics(optics, blurred, kinds, recipe)
    return _inside(blurred, recipe.margin), _inside(unmoved, recipe.margin)


def _check_recorded(recipe: Recipe, recorded: Float[Array, "m v 3"] | None) -> None:
    if recipe.has("recorded"):
        if recorded is None:
            raise ValueError("the recipe has a share of recorded motion, but none was given")
        if recorded.shape[1] != recipe.views:
            raise ValueError(f"recorded motion has {recorded.shape[1]} views, the recipe {recipe.views}")


def _inside(x: Float[Array, "b H W c"], margin: int) -> Float[Array, "b h w c"]:
    return x[:, margin : x.shape[1] - margin, margin : x.shape[2] - margin]


def _moved_all(
    key: PRNGKeyArray,
    light: Float[Array, "b h w 3"],
    kinds: Int32[Array, "b"],
    recipe: Recipe,
    recorded: Float[Array, "m v 3"] | None,
    reach: Scalar = 1.0,
) -> tuple[Float[Array, "b h w 3"], Float[Array, "b h w 3"]]:
    each = functools.partial(_moved, recipe=recipe, recorded=recorded, reach=reach)
    return jax.vmap(each)(jax.random.split(key, len(light)), light, jnp.roll(light, -1, 0), kinds)


def _through_optics(
    key: PRNGKeyArray, light: Float[Array, "b h w 3"], kinds: Int32[Array, "b"], recipe: Recipe, reach: Scalar = 1.0
) -> Float[Array, "b h w 3"]:
    if not recipe.has(*_OPTICAL):
        return light
    kernels = jax.vmap(functools.partial(_kernel, recipe=recipe, reach=reach))(jax.random.split(key, len(light)), kinds)
    return convolve_fft(light, kernels)


def _uniform(key: PRNGKeyArray, span: tuple[Scalar, Scalar], *shape: int) -> Array:
    return jax.random.uniform(key, shape, minval=span[0], maxval=span[1])


def _within(span: Range, reach: Scalar) -> tuple[float, Scalar]:
    return span[0], span[0] + reach * (span[1] - span[0])


def _strength(key: PRNGKeyArray, span: Range, reach: Scalar, recipe: Recipe) -> Array:
    low, high = _within(span, reach)
    return jnp.exp(_uniform(key, (jnp.log(low), jnp.log(high)))) if recipe.light_too else _uniform(key, (low, high))


def _moved(
    key: PRNGKeyArray,
    light: Float[Array, "h w 3"],
    other: Float[Array, "h w 3"],
    kind: Int32[Array, ""],
    *,
    recipe: Recipe,
    recorded: Float[Array, "m v 3"] | None,
    reach: Scalar,
) -> tuple[Float[Array, "h w 3"], Float[Array, "h w 3"]]:
    """One picture after all that moves in it and before it, and the same unmoved."""
    height, width = light.shape[:2]
    keys = iter(jax.random.split(key, 16))
    focal = _uniform(next(keys), recipe.focal)
    off = _uniform(next(keys), (-recipe.off_centre, recipe.off_centre), 2)
    centre = jnp.array([(width - 1) / 2, (height - 1) / 2]) + off
    extent = _strength(next(keys), recipe.extent, reach, recipe)
    roll = _uniform(next(keys), _within(recipe.roll, reach))
    inertia = _uniform(next(keys), recipe.inertia)

    def is_kind(*names: str) -> Array:
        return jnp.isin(kind, jnp.array([KINDS.index(name) for name in names]))

    rotations = jnp.zeros((recipe.views, 3))
    if recipe.has("shake", "layers"):
        walk = functools.partial(random_rotations, inertia=inertia, focal=focal, views=recipe.views)
        shaken = walk(next(keys), extent=extent, roll=roll)
        # Behind a thing that moves, the camera is often still.
        behind = jax.random.uniform(next(keys)) * jax.random.bernoulli(next(keys))
        rotations = shaken * jnp.where(is_kind("layers"), behind, is_kind("shake"))
    if recipe.has("line"):
        angle = _uniform(next(keys), (0.0, 2 * jnp.pi))
        steady = steady_rotations(extent=extent, angle=angle, focal=focal, views=recipe.views)
        rotations = jnp.where(is_kind("line"), steady, rotations)
    if recorded is not None and recipe.has("recorded"):
        drawn = draw_recorded(next(keys), recorded, longest=_within(recipe.extent, reach)[1], focal=focal)
        rotations = jnp.where(is_kind("recorded"), drawn, rotations)
    warp = None
    if recipe.has("turbulence"):
        deviation = _uniform(next(keys), _within(recipe.air_warp, reach)) * is_kind("turbulence")
        warp = turbulence_warp(next(keys), height=height, width=width, deviation=deviation)
    seen = functools.partial(mean_view, light, rotations, focal=focal, centre=centre, warp=warp)
    if not (recipe.has("layers")):
        return seen() if recipe.has(*_MOVING, "turbulence") else light, light
    size = _uniform(next(keys), recipe.layer_size)
    mask = random_mask(next(keys), height=height, width=width, size=size) * is_kind("layers")
    # Things seldom turn while they pass, and pass steadily: a walk of great inertia.
    own = random_rotations(
        next(keys), extent=extent, roll=roll, inertia=jnp.maximum(inertia, 0.95), focal=focal, views=recipe.views
    )
    return seen(layer=other, mask=mask, layer_rotations=own), composite(light, other, mask)


def _kernel(key: PRNGKeyArray, kind: Int32[Array, ""], *, recipe: Recipe, reach: Scalar) -> Float[Array, "k k"]:
    size = recipe.kernel_size
    keys = jax.random.split(key, 8)
    radius, sigma, across = (
        _strength(k, span, reach, recipe)
        for k, span in zip(keys, (recipe.radius, recipe.sigma, recipe.sigma), strict=False)
    )
    strength = _uniform(keys[3], _within(recipe.air_strength, reach))
    angle, spot = _uniform(keys[4], (0.0, jnp.pi)), _uniform(keys[5], (1.0, 2.0))
    kernel = jnp.zeros((size, size)).at[size // 2, size // 2].set(1.0)
    made = {
        "defocus": lambda: defocus_kernel(radius, size=size),
        "aperture": lambda: aperture_kernel(radius, angle, size=size),
        "gaussian": lambda: gaussian_kernel(sigma, size=size),
        "anisotropic": lambda: gaussian_kernel(sigma, across, angle, size=size),
        "turbulence": lambda: turbulence_kernel(keys[6], strength, width=spot, size=size),
    }
    for name, make in made.items():
        if recipe.has(name):
            kernel = jnp.where(kind == KINDS.index(name), make(), kernel)
    return kernel


class Encoding(NamedTuple):
    """How pictures are stored; `peak` is the light of their highlights, where 1 clips."""

    peak: Float[Array, "b"]
    gamma: Float[Array, "b"]
    grey: Float[Array, "b"]
    low: Float[Array, "b"]
    high: Float[Array, "b"]


def _camera(key: PRNGKeyArray, count: int, recipe: Recipe) -> tuple[Camera, Encoding, Float[Array, "b"]]:
    keys = iter(jax.random.split(key, 24))

    def some(share: float, span: Range, otherwise: float) -> Float[Array, "b"]:
        chosen = jax.random.bernoulli(next(keys), share, (count,))
        return jnp.where(chosen, _uniform(next(keys), span, count), otherwise)

    ones = jnp.ones(count)
    balance = [
        _uniform(next(keys), recipe.white_balance, count),
        ones,
        _uniform(next(keys), recipe.white_balance, count),
    ]
    is_noisy = jax.random.bernoulli(next(keys), recipe.noisy, (count,))
    camera = Camera(
        exposure=_uniform(next(keys), recipe.exposure, count),
        gain=is_noisy * _uniform(next(keys), recipe.gain, count),
        read=is_noisy * _uniform(next(keys), recipe.read, count),
        white_balance=jnp.stack(balance, -1),
        contrast=_uniform(next(keys), recipe.contrast, count),
    )
    kept = some(recipe.flat, recipe.flat_range, 1.0)
    low = (1.0 - kept) * _uniform(next(keys), (0.0, 1.0), count)
    peak, gamma = some(recipe.saturated, recipe.peak, 1.0), some(recipe.other_gamma, recipe.gamma, 1.0)
    encoding = Encoding(
        peak=peak,
        gamma=gamma,
        grey=jax.random.bernoulli(next(keys), recipe.grey, (count,)).astype(jnp.float32),
        low=low,
        high=low + kept,
    )
    quality = some(recipe.compressed, recipe.jpeg_quality, 101.0)
    is_linear = jax.random.bernoulli(next(keys), recipe.linear, (count,))
    return camera, encoding._replace(gamma=jnp.where(is_linear, 2.2, gamma)), quality


def encoded(x: Float[Array, "b h w 3"], encoding: Encoding) -> Float[Array, "b h w 3"]:
    """How the picture is stored: another curve, grey, low contrast; rounded to 8 bits as files are."""
    gamma, is_grey, low, high = (value[:, None, None, None] for value in encoding[1:])
    x = jnp.where(gamma == 1.0, x, jnp.exp(gamma * jnp.log(jnp.maximum(x, 1e-6))))
    # As a matrix product: XLA for CPUs would compute all that leads to x anew for each channel that `grey` reads.
    mixing = is_grey[..., 0] * jnp.tile(LUMA[:, None], 3) + (1.0 - is_grey[..., 0]) * jnp.eye(3)
    x = jnp.einsum("bhwc,bcd->bhwd", x, mixing, precision="highest")
    return jnp.rint((low + (high - low) * x) * 255.0) / 255.0
