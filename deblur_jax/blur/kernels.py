"""Blur kernels: motion along a line or a free trajectory, defocus, Gaussian."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from deblur_jax.blur.trajectories import random_walk

Scalar = float | Float[Array, ""]
Kernel = Float[Array, "size size"]

_SAMPLES = 256  # points along a line; a kernel of 65 pixels gets four a pixel
_FINE = 5  # apertures and Gaussians are averaged over 5x5 points in each pixel


@functools.partial(jax.jit, static_argnames=("size", "centred"))
def trajectory_kernel(points: Float[Array, "n 2"], *, size: int, centred: bool = True) -> Kernel:
    """What a point of light leaves behind that moves through `points` (right, down; in pixels), equal times each.

    Every point is shared among its four nearest pixels by its distance, which keeps its position exactly;
    the whole is moved so that its centre of mass is the kernel's, unless `centred` is false. What lies outside is lost.
    """
    pixels = jnp.arange(size) - size // 2
    placed = points - points.mean(0) if centred else points
    shares = jnp.maximum(0.0, 1.0 - jnp.abs(placed[:, :, None] - pixels))  # point, axis, pixel
    kernel = jnp.einsum("nr,nc->rc", shares[:, 1], shares[:, 0], precision="highest")
    return kernel / kernel.sum()


@functools.partial(jax.jit, static_argnames="size")
def line_kernel(length: Scalar, angle: Scalar, *, size: int) -> Kernel:
    """Straight, steady motion over `length` pixels; the angle in radians, anticlockwise from the right."""
    along = length * (jnp.arange(_SAMPLES) + 0.5 - _SAMPLES / 2) / _SAMPLES
    return trajectory_kernel(jnp.stack([along * jnp.cos(angle), -along * jnp.sin(angle)], -1), size=size)


@functools.partial(jax.jit, static_argnames="steps")
def random_trajectory(
    key: PRNGKeyArray, *, extent: Scalar, inertia: Scalar = 0.9, steps: int = 64
) -> Float[Array, "n 2"]:
    """A hand's random walk (`random_walk`); the longer side of the box around it is `extent` pixels."""
    path = extent * random_walk(key, inertia=inertia, steps=steps)
    # Four points between each two steps, so that a long walk leaves no gaps.
    fine = jnp.linspace(0.0, steps - 1.0, 4 * steps - 3)
    return jnp.stack([jnp.interp(fine, jnp.arange(steps), path[:, axis]) for axis in (0, 1)], -1)


@functools.partial(jax.jit, static_argnames="size")
def defocus_kernel(radius: Scalar, *, size: int) -> Kernel:
    """The disc of a round aperture; each pixel holds the part of it that is covered."""
    x, y = _fine_grid(size)
    return _covered(jnp.hypot(x, y) - radius, size)


@functools.partial(jax.jit, static_argnames=("blades", "size"))
def aperture_kernel(radius: Scalar, rotation: Scalar = 0.0, *, blades: int = 6, size: int) -> Kernel:
    """The polygon of an aperture with straight blades; `radius` reaches to its corners, turned anticlockwise."""
    x, y = _fine_grid(size)
    normals = rotation + 2 * np.pi * (np.arange(blades) + 0.5) / blades
    beyond = [x * jnp.cos(a) - y * jnp.sin(a) for a in normals]
    return _covered(jnp.max(jnp.stack(beyond), 0) - radius * np.cos(np.pi / blades), size)


@functools.partial(jax.jit, static_argnames="size")
def gaussian_kernel(sigma: Scalar, sigma_across: Scalar | None = None, angle: Scalar = 0.0, *, size: int) -> Kernel:
    """A Gaussian, averaged over each pixel; with `sigma_across` an ellipse whose `sigma` lies along `angle`."""
    x, y = _fine_grid(size)
    along, across = x * jnp.cos(angle) - y * jnp.sin(angle), x * jnp.sin(angle) + y * jnp.cos(angle)
    other = sigma if sigma_across is None else sigma_across
    exponent = (along / sigma) ** 2 + (across / other) ** 2
    return _pixels(jnp.exp(-0.5 * (exponent - exponent.min())), size)  # or a narrow one would be 0 everywhere


def _fine_grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Right and down from the middle, at the points within each pixel."""
    points = (np.arange(size * _FINE) + 0.5) / _FINE - size / 2
    return np.meshgrid(points, points)


def _covered(distance: Float[Array, "f f"], size: int) -> Kernel:
    """From the distance to a shape's edge (negative inside) to the covered part of each pixel."""
    return _pixels(jnp.clip(0.5 - distance * _FINE, 0.0, 1.0), size)


def _pixels(fine: Float[Array, "f f"], size: int) -> Kernel:
    kernel = fine.reshape(size, _FINE, size, _FINE).mean((1, 3))
    return kernel / kernel.sum()
