"""What a camera does to the light after the lens: clipping, noise, white balance, tone curve, 8 bits, JPEG."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray


@jax.jit
def srgb_to_linear(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """IEC 61966-2-1, from [0, 1]."""
    return jnp.where(x <= 0.04045, x / 12.92, ((jnp.maximum(x, 0.04045) + 0.055) / 1.055) ** 2.4)


@jax.jit
def linear_to_srgb(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """The inverse of `srgb_to_linear`, with a finite gradient at black."""
    return jnp.where(x <= 0.0031308, x * 12.92, 1.055 * jnp.maximum(x, 0.0031308) ** (1 / 2.4) - 0.055)


@jax.jit
def highlights(
    light: Float[Array, "b h w c"], *, threshold: float | Array = 0.9, peak: float | Array
) -> Float[Array, "b h w c"]:
    """Gives back to what is nearly white (above `threshold`) the brightness, up to `peak`, that it may have had
    before a camera clipped it. Blurred and clipped again it leaves a streak that is bright all along."""
    brightest = light.max(-1, keepdims=True)
    above = jnp.clip((brightest - _each(threshold)) / (1.0 - _each(threshold)), 0.0, 1.0)
    return light * (1.0 + (_each(peak) - 1.0) * above**2)


@jax.jit
def noisy(
    key: PRNGKeyArray, light: Float[Array, "b h w c"], *, gain: float | Array, read: float | Array
) -> Float[Array, "b h w c"]:
    """Photon and read noise on linear light: variance `gain * light + read**2`.

    `gain` is the light of one photo-electron, so that a pixel of value v counts v / gain of them.
    """
    photons, electronics = jax.random.split(key)
    gain, read = _each(gain), _each(read)
    shot = _poisson(photons, jnp.maximum(light, 0.0) / jnp.maximum(gain, 1e-8)) * gain
    return jnp.where(gain > 0, shot, light) + read * jax.random.normal(electronics, light.shape)


_COUNTED_OUT = 10.0  # below this mean the distribution is summed up, above it is a bent Gaussian
_MOST = 34  # more never come when 10 are expected (probability 1e-9)


def _poisson(key: PRNGKeyArray, mean: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Poisson counts. `jax.random.poisson` loops until the unluckiest pixel is done, and compiles for seconds."""
    uniform = jax.random.uniform(key, mean.shape, minval=1e-7)
    few = jnp.minimum(mean, _COUNTED_OUT)
    share = reached = jnp.exp(-few)
    count = jnp.zeros_like(mean)
    for k in range(1, _MOST + 1):
        count += uniform > reached
        share = share * few / k
        reached += share
    # The Gaussian with Poisson's skewness (Cornish and Fisher). Rounding adds a variance of 1/12, the bend 2/36.
    normal = jax.scipy.special.ndtri(uniform)
    spread = jnp.sqrt(jnp.maximum(mean - 5.0 / 36.0, 0.0))
    many = jnp.maximum(jnp.rint(mean + spread * normal + (normal**2 - 1.0) / 6.0), 0.0)
    return jnp.where(mean < _COUNTED_OUT, count, many)


def _each(value: float | Array) -> Array:
    """One number for all pictures, or one (or a colour) for each, in a shape that meets `b h w c`."""
    array = jnp.asarray(value)
    return array.reshape(-1, 1, 1, array.shape[-1] if array.ndim == 2 else 1)


# A number, one for each picture, or None for none. Not said as a type: JAX's trees put other things here as well.
Setting = Any


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["exposure", "gain", "read", "white_balance", "contrast", "jpeg_quality"],
    meta_fields=["quantise"],
)
@dataclasses.dataclass(frozen=True, kw_only=True)
class Camera:
    """A sensor and what follows: each field one number, or one for each picture. The defaults only clip."""

    exposure: Setting = 1.0  # multiplies the light; above 1 highlights are lost
    gain: Setting = None  # light of one photo-electron; None or 0 is no photon noise
    read: Setting = None  # deviation of the read noise, of full scale
    white_balance: Setting = (1.0, 1.0, 1.0)  # the sensor saw the light divided by these
    contrast: Setting = None  # of the tone curve: 0 is sRGB's alone, 1 a strong S
    jpeg_quality: Setting = None  # 1 to 100; above 100, for some of many, is none
    quantise: bool = False  # round to 8 bits


@jax.jit
def capture(key: PRNGKeyArray, light: Float[Array, "b h w 3"], camera: Camera) -> Float[Array, "b h w 3"]:
    """Blurred linear light, which may exceed 1, to an sRGB picture.

    The blur comes before: a highlight brighter than the sensor can count leaves a streak that is bright all
    along, and is clipped only here.
    """
    balance = jnp.asarray(camera.white_balance, jnp.float32)
    balance = _each(balance[None] if balance.ndim == 1 else balance)
    seen = _each(camera.exposure) * light / balance
    if camera.gain is not None or camera.read is not None:
        gain, read = (0.0 if value is None else value for value in (camera.gain, camera.read))
        seen = noisy(key, seen, gain=gain, read=read)
    picture = linear_to_srgb(jnp.clip(jnp.clip(seen, 0.0, 1.0) * balance, 0.0, 1.0))
    if camera.contrast is not None:
        picture += _each(camera.contrast) * (picture * picture * (3.0 - 2.0 * picture) - picture)
    if camera.quantise:
        picture = jnp.rint(picture * 255.0) / 255.0
    if camera.jpeg_quality is None:
        return picture
    quality = jnp.broadcast_to(jnp.asarray(camera.jpeg_quality, jnp.float32), len(light))
    compressed = jax.vmap(lambda x, q: jpeg(x[None], quality=q)[0])(picture, jnp.clip(quality, 1.0, 100.0))
    return jnp.where(_each(quality) > 100.0, picture, compressed)


# The example tables of the standard (ITU T.81, annex K), which most encoders scale by the quality.
_LUMA_TABLE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
)
_CHROMA_TABLE = np.full((8, 8), 99, np.float32)
_CHROMA_TABLE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

_YCBCR = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)
_DCT = np.array(
    [[np.cos((2 * j + 1) * i * np.pi / 16) * (np.sqrt(1 / 8) if i == 0 else 0.5) for j in range(8)] for i in range(8)],
    np.float32,
)


@jax.jit
def jpeg(x: Float[Array, "b h w 3"], *, quality: int | float | Array) -> Float[Array, "b h w 3"]:
    """What JPEG at this quality (1..100, libjpeg's scale, chroma at half size) leaves of a picture.

    Without the entropy coding, which loses nothing. `quality` may be traced.
    """
    h, w = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (0, -h % 16), (0, -w % 16), (0, 0)), mode="edge")
    # Rounded to whole numbers wherever an encoder and a decoder hold bytes.
    ycc = jnp.rint(jnp.einsum("bhwc,dc->bhwd", jnp.rint(padded * 255.0), _YCBCR, precision="highest"))
    luma, chroma = ycc[..., :1] - 128.0, ycc[..., 1:]
    b, ph, pw, _ = chroma.shape
    halved = jnp.rint(chroma.reshape(b, ph // 2, 2, pw // 2, 2, 2).mean((2, 4)))
    luma = jnp.clip(jnp.rint(_quantised(luma, _steps(_LUMA_TABLE, quality))), -128.0, 127.0) + 128.0
    halved = jnp.clip(jnp.rint(_quantised(halved, _steps(_CHROMA_TABLE, quality))), -128.0, 127.0)
    # Each fine pixel takes three quarters of the nearest coarse one and a quarter of the next, as libjpeg.
    chroma = jax.image.resize(halved, chroma.shape, "linear")
    rgb = jnp.einsum("bhwd,cd->bhwc", jnp.concatenate([luma, chroma], -1), np.linalg.inv(_YCBCR), precision="highest")
    return jnp.clip(jnp.rint(rgb[:, :h, :w]), 0.0, 255.0) / 255.0


def _steps(table: np.ndarray, quality: int | float | Array) -> Float[Array, "8 8"]:
    """Whole numbers all the way, as libjpeg."""
    percent = jnp.where(quality < 50, jnp.floor(5000.0 / quality), 200.0 - 2.0 * quality)
    return jnp.clip(jnp.floor((table * percent + 50.0) / 100.0), 1.0, 255.0)


def _quantised(x: Float[Array, "b h w c"], steps: Float[Array, "8 8"]) -> Float[Array, "b h w c"]:
    b, h, w, c = x.shape
    step = steps[:, :, None]
    blocks = x.reshape(b, h // 8, 8, w // 8, 8, c)
    spectrum = jnp.einsum("ui,vj,byixjc->byxuvc", _DCT, _DCT, blocks, precision="highest")
    rounded = jnp.rint(spectrum / step) * step
    return jnp.einsum("ui,vj,byxuvc->byixjc", _DCT, _DCT, rounded, precision="highest").reshape(x.shape)
