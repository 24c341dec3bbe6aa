"""How a hand moves: random walks with inertia, and windows of recorded camera rotations."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

Scalar = float | Float[Array, ""]
Rotations = Float[Array, "v 3"]  # of the scene, one a view: right, down, clockwise in the picture; radians


@functools.partial(jax.jit, static_argnames=("axes", "steps"))
def random_walk(key: PRNGKeyArray, *, inertia: Scalar = 0.9, axes: int = 2, steps: int = 64) -> Float[Array, "n axes"]:
    """Where a trembling thing is at equal times; its speed remembers itself by `inertia` (0 trembles, near 1 glides).

    The longest side of the box around the walk is 1, its mean 0.
    """
    return _boxed(_walk(key, inertia, axes, steps))


def _walk(key: PRNGKeyArray, inertia: Scalar, axes: int, steps: int) -> Float[Array, "n axes"]:
    def walk(speed, push):
        speed = inertia * speed + push
        return speed, speed

    pushes = jax.random.normal(key, (steps + 1, axes))
    first = pushes[0] / jnp.sqrt(1.0 - inertia**2 + 1e-6)  # the speed it settles to
    return jnp.cumsum(jax.lax.scan(walk, first, pushes[1:])[1], axis=0)


def _boxed(path: Float[Array, "n axes"]) -> Float[Array, "n axes"]:
    path = path - path.mean(0)
    return path / jnp.maximum(jnp.ptp(path, axis=0).max(), 1e-6)


@functools.partial(jax.jit, static_argnames="views")
def random_rotations(
    key: PRNGKeyArray, *, extent: Scalar, roll: Scalar, focal: Scalar, inertia: Scalar = 0.9, views: int = 32
) -> Rotations:
    """A hand that trembles: the picture's middle moves over `extent` pixels, the whole rolls over `roll` radians."""
    path = _walk(key, inertia, 3, views)
    return jnp.concatenate([_boxed(path[:, :2]) * extent / focal, _boxed(path[:, 2:]) * roll], -1)


@functools.partial(jax.jit, static_argnames="views")
def steady_rotations(*, extent: Scalar, angle: Scalar, focal: Scalar, views: int = 32) -> Rotations:
    """A pan: the middle moves evenly over `extent` pixels along `angle` (radians, anticlockwise from the right)."""
    along = ((jnp.arange(views) + 0.5) / views - 0.5) * extent / focal
    return jnp.stack([along * jnp.cos(angle), -along * jnp.sin(angle), jnp.zeros(views)], -1)


@jax.jit
def draw_recorded(key: PRNGKeyArray, recorded: Float[Array, "m v 3"], *, longest: Scalar, focal: Scalar) -> Rotations:
    """One of the recorded windows (`pipeline.poses` loads them), turned and mirrored at random.

    Those that move further than `longest` pixels are slowed down to it.
    """
    which, turn, mirror = jax.random.split(key, 3)
    path = recorded[jax.random.randint(which, (), 0, len(recorded))]
    angle = jax.random.uniform(turn, (), maxval=2 * jnp.pi)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    path = jnp.stack([cos * path[:, 0] - sin * path[:, 1], sin * path[:, 0] + cos * path[:, 1], path[:, 2]], -1)
    # The mirror image of a motion turns the other way.
    path *= jnp.where(jax.random.bernoulli(mirror), jnp.array([-1.0, 1.0, -1.0]), 1.0)
    return path * jnp.minimum(1.0, longest / jnp.maximum(focal * jnp.ptp(path[:, :2], axis=0).max(), 1e-6))
