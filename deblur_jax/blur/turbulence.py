"""The air between the scene and the lens: random phase screens that warp the picture and blur it.

Kolmogorov's spectrum with an outer scale (von Karman), `(k^2 + 1 / outer^2)^(-11/6)`, carried along by the wind
without changing (Taylor's frozen flow), so that the pictures of a clip vary smoothly.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, PRNGKeyArray

Scalar = float | Float[Array, ""]

_PUPIL = 32  # samples over the lens' diameter
# Noll 1976: the variance of the phase over a round lens, without its tilt, in units of (D / r0)^(5/3).
_VARIANCE_WITHOUT_TILT = 0.134


@functools.partial(jax.jit, static_argnames=("height", "width"))
def phase_screen(
    key: PRNGKeyArray, *, height: int, width: int, outer: Scalar, shift: Float[Array, "2"] | None = None
) -> Float[Array, "h w"]:
    """A periodic random field of deviation 1; `outer` is the size of the largest eddies in pixels.

    `shift` (right, down; in pixels) is how far the wind has carried it, the same key given.
    """
    return _field(_spectrum(key, height, width, outer, shift), height, width)


def _frequencies(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    across, down = np.meshgrid(np.fft.rfftfreq(width), np.fft.fftfreq(height))
    return across.astype(np.float32), down.astype(np.float32)


def _spectrum(
    key: PRNGKeyArray, height: int, width: int, outer: Scalar, shift: Float[Array, "2"] | None
) -> Complex[Array, "h f"]:
    across, down = _frequencies(height, width)
    power = (across**2 + down**2 + 1.0 / outer**2) ** (-11 / 6)
    spectrum = jnp.fft.rfft2(jax.random.normal(key, (height, width))) * jnp.sqrt(power).at[0, 0].set(0.0)
    if shift is not None:
        spectrum *= jnp.exp(-2j * jnp.pi * (across * shift[0] + down * shift[1]))
    return spectrum


def _field(spectrum: Complex[Array, "h f"], height: int, width: int) -> Float[Array, "h w"]:
    field = jnp.fft.irfft2(spectrum, s=(height, width))
    return field / jnp.maximum(jnp.std(field), 1e-12)


@functools.partial(jax.jit, static_argnames=("height", "width"))
def turbulence_warp(
    key: PRNGKeyArray,
    *,
    height: int,
    width: int,
    deviation: Scalar,
    outer: Scalar = 128.0,
    smooth: Scalar = 6.0,
    shift: Float[Array, "2"] | None = None,
) -> Float[Array, "h w 2"]:
    """How far every pixel is moved (right, down), `deviation` pixels in the root mean square of an axis.

    It is the slope of the phase, which bends the rays, averaged over `smooth` pixels: the lens sees no finer.
    """
    across, down = _frequencies(height, width)
    spectrum = _spectrum(key, height, width, outer, shift)
    spectrum *= jnp.exp(-2.0 * (jnp.pi * smooth) ** 2 * (across**2 + down**2))
    slopes = jnp.stack([jnp.fft.irfft2(2j * jnp.pi * f * spectrum, s=(height, width)) for f in (across, down)], -1)
    return deviation * slopes / jnp.maximum(jnp.sqrt(jnp.mean(slopes**2)), 1e-12)


@functools.partial(jax.jit, static_argnames="size")
def turbulence_kernel(
    key: PRNGKeyArray, strength: Scalar, *, width: Scalar = 1.0, size: int, shift: Float[Array, "2"] | None = None
) -> Float[Array, "size size"]:
    """The speckled spot of a short exposure through a lens of diameter D and air of coherence length r0.

    `strength` is D / r0 (0 is clear air, 5 a heavy shimmer); `width` the spot's width in clear air, in pixels. `shift`
    is the wind over the lens, in lens diameters. The tilt is taken out: it moves, and is `turbulence_warp`'s.
    """
    n = 4 * _PUPIL  # the lens in a wider screen, so that it does not meet its own periodic copy
    wind = None if shift is None else shift * _PUPIL
    screen = phase_screen(key, height=n, width=n, outer=4.0 * n, shift=wind)[:_PUPIL, :_PUPIL]
    at = (np.arange(_PUPIL) + 0.5) / _PUPIL - 0.5
    x, y = np.meshgrid(at, at)
    lens = np.hypot(x, y) <= 0.5
    plane = np.stack([np.ones_like(x), x, y], -1)[lens]
    inside = screen[lens]
    rest = inside - plane @ (np.linalg.pinv(plane) @ inside)
    rest *= jnp.sqrt(_VARIANCE_WITHOUT_TILT) * strength ** (5 / 6) / jnp.maximum(jnp.std(rest), 1e-12)
    light = jnp.zeros((_PUPIL, _PUPIL), jnp.complex64).at[lens].set(jnp.exp(1j * rest))
    # The spot is the power of the lens' Fourier transform, taken directly at the angles of the kernel's pixels: the
    # clear spot's full width at half maximum is 1.03 wavelengths / D.
    pixels = jnp.arange(size, dtype=jnp.float32) - size // 2

    def spot(centre):
        right, down = (jnp.exp(-2j * jnp.pi * (1.03 / width) * (pixels + c)[:, None] * at) for c in centre)
        power = jnp.abs(jnp.matmul(jnp.matmul(down, light, precision="highest"), right.T, precision="highest")) ** 2
        return power / power.sum()

    centre = jnp.zeros(2)
    for _ in range(3):  # what lies outside differs from centre to centre, a little less each time
        kernel = spot(centre)
        centre += jnp.stack([kernel.sum(0) @ pixels, kernel.sum(1) @ pixels])
    return spot(centre)
