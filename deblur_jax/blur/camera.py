"""What a camera does to the light after the lens: clipping, noise, white balance, tone curve, 8 bits, JPEG."""

import dataclasses
import functools

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
def noisy(
    key: PRNGKeyArray, light: Float[Array, "b h w c"], *, gain: float | Array, read: float | Array
) -> Float[Array, "b h w c"]:
    """Photon and read noise on linear light: variance `gain * light + read**2`.

    `gain` is the light of one photo-electron, so that a pixel of value v counts v / gain of them. The
    counts are drawn from Poisson's distribution below 50 and from the equal Gaussian above.
    """
    photons, electronics = jax.random.split(key)
    counted = jnp.maximum(light, 0.0) / jnp.maximum(gain, 1e-8)
    few = jax.random.poisson(photons, jnp.minimum(counted, 50.0)).astype(light.dtype)
    many = counted + jnp.sqrt(counted) * jax.random.normal(photons, light.shape)
    shot = jnp.where(counted < 50.0, few, many) * gain
    return jnp.where(gain > 0, shot, light) + read * jax.random.normal(electronics, light.shape)


@dataclasses.dataclass(frozen=True)
class CameraConfig:
    """A sensor and what follows. The defaults change nothing but clip."""

    exposure: float = 1.0  # multiplies the light; above 1 highlights are lost
    gain: float = 0.0  # light of one photo-electron; 0 is no photon noise
    read: float = 0.0  # deviation of the read noise, of full scale
    white_balance: tuple[float, float, float] = (1.0, 1.0, 1.0)  # the sensor saw the light divided by these
    quantise: bool = False  # round to 8 bits
    jpeg_quality: int | None = None


@functools.partial(jax.jit, static_argnames="config")
def capture(key: PRNGKeyArray, light: Float[Array, "b h w 3"], *, config: CameraConfig) -> Float[Array, "b h w 3"]:
    """Blurred linear light, which may exceed 1, to an sRGB picture.

    The blur comes before: a highlight brighter than the sensor can count leaves a streak that is bright all
    along, and is clipped only here.
    """
    balance = jnp.asarray(config.white_balance)
    seen = config.exposure * light / balance
    if config.gain or config.read:
        seen = noisy(key, seen, gain=config.gain, read=config.read)
    picture = linear_to_srgb(jnp.clip(jnp.clip(seen, 0.0, 1.0) * balance, 0.0, 1.0))
    if config.quantise:
        picture = jnp.rint(picture * 255.0) / 255.0
    return picture if config.jpeg_quality is None else jpeg(picture, quality=config.jpeg_quality)


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
    scale = jnp.where(quality < 50, 5000.0 / quality, 200.0 - 2.0 * quality) / 100.0
    luma = jnp.clip(jnp.rint(_quantised(luma, _LUMA_TABLE, scale)), -128.0, 127.0) + 128.0
    halved = jnp.clip(jnp.rint(_quantised(halved, _CHROMA_TABLE, scale)), -128.0, 127.0)
    # Each fine pixel takes three quarters of the nearest coarse one and a quarter of the next, as libjpeg.
    chroma = jax.image.resize(halved, chroma.shape, "linear")
    rgb = jnp.einsum("bhwd,cd->bhwc", jnp.concatenate([luma, chroma], -1), np.linalg.inv(_YCBCR), precision="highest")
    return jnp.clip(jnp.rint(rgb[:, :h, :w]), 0.0, 255.0) / 255.0


def _quantised(x: Float[Array, "b h w c"], table: np.ndarray, scale: Float[Array, ""]) -> Float[Array, "b h w c"]:
    b, h, w, c = x.shape
    step = jnp.clip(jnp.floor(table * scale + 0.5), 1.0, 255.0)[:, :, None]
    blocks = x.reshape(b, h // 8, 8, w // 8, 8, c)
    spectrum = jnp.einsum("ui,vj,byixjc->byxuvc", _DCT, _DCT, blocks, precision="highest")
    rounded = jnp.rint(spectrum / step) * step
    return jnp.einsum("ui,vj,byxuvc->byixjc", _DCT, _DCT, rounded, precision="highest").reshape(x.shape)
