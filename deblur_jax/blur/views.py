"""Blur as a mean over views: what the sensor saw at many moments of the exposure.

A moment is a rotation of the camera, so that every place of the picture moves in its own way: turning
left or up moves all of it, rolling moves the borders most. Layers may move on their own in front. All in
linear light.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from deblur_jax.blur.trajectories import Rotations

Scalar = float | Float[Array, ""]
Picture = Float[Array, "h w c"]


@jax.jit
def moved_points(
    rotations: Rotations, points: Float[Array, "*p 2"], *, focal: Scalar, centre: Float[Array, "2"]
) -> Float[Array, "v *p 2"]:
    """Where each view sees the scene that stands at `points` (right, down; in pixels) of an unmoved picture.

    The homography `K R K^-1` of a camera that turns about its own centre, with the optical axis at `centre`.
    """
    return jax.vmap(lambda homography: _mapped(homography, points - centre) + centre)(_homographies(rotations, focal))


def _homographies(rotations: Rotations, focal: Scalar) -> Float[Array, "v 3 3"]:
    """Of points counted from the optical axis."""
    scale = jnp.stack([focal, focal, 1.0])
    return scale[:, None] * _matrices(rotations) / scale


def _mapped(homography: Float[Array, "3 3"], offsets: Float[Array, "*p 2"]) -> Float[Array, "*p 2"]:
    right, down = offsets[..., 0], offsets[..., 1]
    x, y, z = (row[0] * right + row[1] * down + row[2] for row in homography)
    return jnp.stack([x / z, y / z], -1)


def _matrices(rotations: Rotations) -> Float[Array, "v 3 3"]:
    """Rodrigues' formula. Right and down are turns about the camera's y axis and against its x axis."""
    x, y, z = -rotations[:, 1], rotations[:, 0], rotations[:, 2]
    zero = jnp.zeros_like(x)
    cross = jnp.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
    angle = jnp.linalg.norm(rotations, axis=-1)[:, None, None]
    # sin(a) / a and (1 - cos(a)) / a^2, finite at 0.
    along, across = jnp.sinc(angle / jnp.pi), 0.5 * jnp.sinc(angle / (2 * jnp.pi)) ** 2
    return jnp.eye(3) + along * cross + across * (cross @ cross)


@jax.jit
def sample(picture: Picture, points: Float[Array, "H W 2"]) -> Float[Array, "H W c"]:
    """The picture's values at `points` (right, down), bilinear, reflected at its borders."""
    at = [points[..., 1], points[..., 0]]
    read = functools.partial(jax.scipy.ndimage.map_coordinates, order=1, mode="mirror")
    return jax.vmap(lambda channel: read(channel, at), -1, -1)(picture)


def pixel_grid(height: int, width: int) -> Float[Array, "h w 2"]:
    """The points (right, down) of all pixels."""
    return jnp.stack(jnp.meshgrid(jnp.arange(width, dtype=jnp.float32), jnp.arange(height, dtype=jnp.float32)), -1)


@jax.jit
def camera_shake(
    picture: Picture, rotations: Rotations, *, focal: Scalar, centre: Float[Array, "2"] | None = None
) -> Picture:
    """The mean of what a turning camera sees. `centre` is where the optical axis meets the picture: its middle, or
    somewhere else when the picture was cut out of a larger one."""
    return mean_view(picture, rotations, focal=focal, centre=centre)


def mean_view(
    picture: Picture,
    rotations: Rotations,
    *,
    focal: Scalar,
    centre: Float[Array, "2"] | None = None,
    warp: Float[Array, "h w 2"] | None = None,
    layer: Picture | None = None,
    mask: Float[Array, "h w"] | None = None,
    layer_rotations: Rotations | None = None,
) -> Picture:
    """The mean over the views of a picture and, if there is one, of a layer in front of it.

    The layer shows where its soft mask is 1, hides what is behind it, and moves by its own rotations; `warp` moves
    what is seen besides, the same in all views.
    """
    h, w = picture.shape[:2]
    middle = jnp.array([(w - 1) / 2, (h - 1) / 2]) if centre is None else centre
    offsets = pixel_grid(h, w) - middle + (0.0 if warp is None else warp)
    # What a view shows at a pixel is looked up where the scene stands in the unmoved picture: the turn back.
    turned_back = functools.partial(_homographies, focal=focal)

    def seen(of: Picture, homography: Float[Array, "3 3"]) -> Picture:
        return sample(of, _mapped(homography, offsets) + middle)

    if layer is None or mask is None or layer_rotations is None:

        def view(total, turn):
            return total + seen(picture, turn), None

        turns = turned_back(-rotations)
    else:
        # Multiplied beforehand, so that no light from beside the mask bleeds into its soft edge.
        covered = jnp.concatenate([layer * mask[..., None], mask[..., None]], -1)

        def view(total, turn):
            front = seen(covered, turn[1])
            return total + front[..., :-1] + (1.0 - front[..., -1:]) * seen(picture, turn[0]), None

        turns = jnp.stack([turned_back(-rotations), turned_back(-layer_rotations)], 1)
    return jax.lax.scan(view, jnp.zeros_like(picture), turns)[0] / len(rotations)


@jax.jit
def layered_motion(
    background: Picture,
    layer: Picture,
    mask: Float[Array, "h w"],
    *,
    rotations: Rotations,
    layer_rotations: Rotations,
    focal: Scalar,
    centre: Float[Array, "2"] | None = None,
) -> Picture:
    """A dynamic scene: a layer that moves on its own in front of a background that the camera's shake moves.

    The sharp picture that belongs to it is `composite(background, layer, mask)`.
    """
    return mean_view(
        background,
        rotations,
        focal=focal,
        centre=centre,
        layer=layer,
        mask=mask,
        layer_rotations=layer_rotations,
    )


def composite(background: Picture, layer: Picture, mask: Float[Array, "h w"]) -> Picture:
    """The unmoved scene."""
    return layer * mask[..., None] + background * (1.0 - mask[..., None])


@functools.partial(jax.jit, static_argnames=("height", "width"))
def random_mask(
    key: PRNGKeyArray, *, height: int, width: int, size: Scalar = 0.3, softness: Scalar = 1.5
) -> Float[Array, "h w"]:
    """A thing of random outline at a random place; `size` is its radius over the picture's shorter side.

    The outline is a circle whose radius wobbles over the angle; its edge rises over `softness` pixels.
    """
    where, depth, phase = jax.random.split(key, 3)
    wave = jnp.arange(2, 8)
    depths = jax.random.normal(depth, (6,)) * 0.35 / wave
    phases = jax.random.uniform(phase, (6,), maxval=2 * jnp.pi)
    middle = jax.random.uniform(where, (2,), minval=0.15, maxval=0.85) * jnp.array([width, height])
    offset = pixel_grid(height, width) - middle
    distance = jnp.hypot(offset[..., 0], offset[..., 1])
    angle = jnp.arctan2(offset[..., 1], offset[..., 0])[..., None]
    radius, swing = size * min(height, width), wave * angle + phases
    outline = radius * (1.0 + jnp.sum(depths * jnp.cos(swing), -1))
    # Where the outline runs slantwise it is nearer than along the radius.
    slant = radius * jnp.sum(depths * wave * jnp.sin(swing), -1) / jnp.maximum(distance, 1.0)
    return jax.nn.sigmoid(4.0 * (outline - distance) / (softness * jnp.hypot(1.0, slant)))
