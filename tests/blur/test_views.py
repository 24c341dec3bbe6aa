"""Views of a turning camera: against kernels, NumPy's homographies, and what layers must hide."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from deblur_jax import blur
from deblur_jax.blur import views

H, W, VIEWS = 48, 64, 16
CENTRE = jnp.array([32.0, 24.0])
STILL = jnp.zeros((VIEWS, 3))


@pytest.fixture
def picture(photo):
    return blur.srgb_to_linear(photo[0, 20 : 20 + H, 20 : 20 + W])


def dot(right, down):
    return jnp.zeros((H, W, 3)).at[down, right].set(1.0)


def numpy_moved(rotations, points, focal, centre):
    """The same from SciPy's rotations and homogeneous coordinates."""
    camera = np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]])
    found = []
    for right, down, clockwise in np.asarray(rotations, np.float64):
        turn = Rotation.from_rotvec([-down, right, clockwise]).as_matrix()
        mapped = np.c_[points, np.ones(len(points))] @ (camera @ turn @ np.linalg.inv(camera)).T
        found.append(mapped[:, :2] / mapped[:, 2:])
    return np.array(found)


def test_moved_points_are_the_homographys_and_turn_back():
    generator = np.random.default_rng(0)
    rotations = jnp.asarray(generator.normal(size=(VIEWS, 3)) * 0.2, jnp.float32)
    points = jnp.asarray(generator.uniform(0, 60, (7, 2)), jnp.float32)
    moved = blur.moved_points(rotations, points, focal=70.0, centre=CENTRE)
    np.testing.assert_allclose(moved, numpy_moved(rotations, points, 70.0, CENTRE), atol=2e-3)
    for rotation, places in zip(rotations, moved, strict=True):
        back = blur.moved_points(-rotation[None], places, focal=70.0, centre=CENTRE)[0]
        np.testing.assert_allclose(back, points, atol=2e-3)


@pytest.mark.parametrize(("rotation", "right", "down"), [((0.1, 0, 0), 1, 0), ((0, 0.1, 0), 0, 1)])
def test_the_middle_moves_right_and_down_as_told(rotation, right, down):
    moved = blur.moved_points(jnp.array([rotation]), CENTRE, focal=70.0, centre=CENTRE)[0] - CENTRE
    np.testing.assert_allclose(moved, 70 * np.tan(0.1) * np.array([right, down]), atol=1e-4)


def test_rolling_turns_clockwise():
    above = CENTRE + jnp.array([0.0, -20.0])
    moved = blur.moved_points(jnp.array([[0, 0, np.pi / 2]]), above, focal=70.0, centre=CENTRE)[0] - CENTRE
    np.testing.assert_allclose(moved, [20, 0], atol=1e-4)


def test_no_motion_changes_nothing(picture):
    np.testing.assert_allclose(blur.camera_shake(picture, STILL, focal=60.0), picture, atol=1e-6)
    np.testing.assert_allclose(blur.camera_shake(picture, STILL, focal=60.0, centre=CENTRE), picture, atol=1e-6)


def test_small_turns_from_far_away_are_a_convolution_with_the_paths_kernel(picture):
    focal = 5000.0
    paths = [
        blur.random_rotations(jax.random.key(2), extent=9.0, roll=0.0, focal=focal, views=VIEWS),
        blur.steady_rotations(extent=8.0, angle=0.5, focal=focal, views=VIEWS),
    ]
    for path in paths:
        kernel = blur.trajectory_kernel(path[:, :2] * focal, size=21)
        expected = blur.convolve(picture[None], kernel[None])[0]
        shaken = blur.camera_shake(picture, path, focal=focal)
        assert float(jnp.abs(expected - picture).max()) > 0.2
        np.testing.assert_allclose(shaken[10:-10, 10:-10], expected[10:-10, 10:-10], atol=2e-3)


def test_a_roll_moves_the_borders_and_not_the_centre():
    roll = jnp.zeros((VIEWS, 3)).at[:, 2].set(jnp.linspace(-0.15, 0.15, VIEWS))
    shake = functools.partial(blur.camera_shake, rotations=roll, focal=60.0, centre=CENTRE)
    assert float(shake(dot(32, 24))[24, 32, 0]) > 0.999
    side = np.asarray(shake(dot(56, 24)))[..., 0]  # on an arc 24 * 0.3 = 7.2 pixels long
    lit = np.flatnonzero(side.max(1) > 0.02)
    assert 7 <= np.ptp(lit) <= 9
    assert side.max() < 0.25


@pytest.mark.parametrize(("right", "down"), [(20, 16), (44, 30), (32, 24)])
def test_a_light_leaves_its_streak_where_moved_points_says(right, down):
    rotations = blur.random_rotations(jax.random.key(5), extent=14.0, roll=0.3, focal=60.0, views=VIEWS)
    streak = np.asarray(blur.camera_shake(dot(right, down), rotations, focal=60.0, centre=CENTRE))[..., 0]
    path = numpy_moved(rotations, np.array([[right, down]]), 60.0, CENTRE)[:, 0]
    places = np.argwhere(streak > 1e-4)[:, ::-1]
    distances = np.linalg.norm(places[:, None] - path, axis=-1)
    assert distances.min(1).max() < 1.7  # nowhere else: a pixel's diagonal, and the zoom
    assert distances.min(0).max() < 0.8  # all along
    middle = (streak[..., None] * np.mgrid[:H, :W][::-1].transpose(1, 2, 0)).sum((0, 1)) / streak.sum()
    # Not to the pixel's hundredth: what is seen larger counts for more.
    np.testing.assert_allclose(middle, path.mean(0), atol=0.5)


def test_a_cut_out_picture_moves_as_within_the_whole(photo):
    whole = photo[0]
    rotations = blur.random_rotations(jax.random.key(1), extent=6.0, roll=0.1, focal=90.0, views=VIEWS)
    expected = blur.camera_shake(whole, rotations, focal=90.0)[30 : 30 + H, 50 : 50 + W]
    h, w = whole.shape[:2]
    centre = jnp.array([(w - 1) / 2 - 50, (h - 1) / 2 - 30])
    cut = blur.camera_shake(whole[30 : 30 + H, 50 : 50 + W], rotations, focal=90.0, centre=centre)
    np.testing.assert_allclose(cut[9:-9, 9:-9], expected[9:-9, 9:-9], atol=1e-4)
    assert float(jnp.abs(blur.camera_shake(whole[30 : 30 + H, 50 : 50 + W], rotations, focal=90.0) - cut).max()) > 0.05


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3)])
def test_the_smallest_pictures_stay_finite(size):
    rotations = blur.random_rotations(jax.random.key(0), extent=5.0, roll=0.2, focal=20.0, views=4)
    np.testing.assert_allclose(blur.camera_shake(jnp.full((*size, 3), 0.4), rotations, focal=20.0), 0.4, rtol=1e-5)


MOVING = blur.steady_rotations(extent=10.0, angle=0.0, focal=5000.0, views=VIEWS)
layered = functools.partial(blur.layered_motion, focal=5000.0)


def box(top, bottom, left, right):
    return jnp.zeros((H, W)).at[top:bottom, left:right].set(1.0)


def test_an_unmoved_scene_is_the_composite(picture):
    mask = blur.random_mask(jax.random.key(0), height=H, width=W)
    still = layered(picture, picture[::-1], mask, rotations=STILL, layer_rotations=STILL)
    np.testing.assert_allclose(still, blur.composite(picture, picture[::-1], mask), atol=1e-5)


def test_a_layer_hides_what_moves_behind_it():
    lamp = dot(32, 24) * 100
    dark = jnp.zeros((H, W, 3))
    seen = layered(lamp, dark, box(10, 38, 20, 44), rotations=MOVING, layer_rotations=STILL)
    np.testing.assert_array_equal(seen, 0.0)
    passing = layered(lamp, dark, box(10, 38, 36, 44), rotations=STILL, layer_rotations=MOVING)
    assert 0 < float(passing[24, 32, 0]) < 100  # hidden for a part of the time


def test_nothing_bleeds_from_beside_a_soft_mask():
    """The layer is as grey as the background wherever its mask lets it show, and dazzling beside."""
    mask = jnp.clip(1.5 - jnp.abs(jnp.arange(W) - 32.0) / 8, 0.0, 1.0) * jnp.ones((H, 1))
    layer = jnp.where(mask[..., None] > 0, 0.2, 100.0) * jnp.ones(3)
    background = jnp.full((H, W, 3), 0.2)
    seen = layered(background, layer, mask, rotations=MOVING, layer_rotations=-MOVING)
    np.testing.assert_allclose(seen, 0.2, rtol=1e-5)


def test_a_moving_layer_keeps_its_light(picture):
    mask = blur.random_mask(jax.random.key(3), height=20, width=24, size=0.25)
    mask = jnp.pad(mask, ((14, 14), (20, 20)))
    seen = layered(jnp.zeros((H, W, 3)), picture, mask, rotations=STILL, layer_rotations=MOVING)
    np.testing.assert_allclose(seen.sum(), (picture * mask[..., None]).sum(), rtol=1e-3)
    assert float(seen.max()) < 0.9 * float((picture * mask[..., None]).max())


def test_a_layer_moves_alone(picture):
    seen = layered(picture, 1 - picture, box(20, 28, 24, 40), rotations=STILL, layer_rotations=MOVING)
    changed = np.argwhere(np.abs(seen - picture).max(-1) > 1e-3)
    assert changed[:, 0].min() >= 19
    assert changed[:, 0].max() <= 28
    assert changed[:, 1].min() < 24 < 40 < changed[:, 1].max()


@pytest.mark.slow
def test_masks_are_soft_things_of_their_size():
    keys = jax.random.split(jax.random.key(0), 200)
    draw = jax.jit(jax.vmap(lambda k, size: blur.random_mask(k, height=H, width=W, size=size), (0, None)))
    small, large = draw(keys, 0.1), draw(keys, 0.4)
    for masks in (small, large):
        assert float(masks.min()) >= 0
        assert float(masks.max()) <= 1
    # A circle's area and that of its wobble: 1 + sum of (0.35 / wave)^2 / 2 over the waves = 1.03.
    np.testing.assert_allclose(small.sum((1, 2)).mean(), 1.03 * np.pi * (0.1 * H) ** 2, rtol=0.06)
    assert 4 < float(large.mean() / small.mean()) < 16  # 16, less what lies outside
    # The edge rises over 1.5 pixels, whichever way it runs: by at most 2/3 from one to the next.
    assert 0.5 < float(jnp.abs(jnp.diff(large, axis=2)).max()) < 0.7
    assert len({np.asarray(mask).tobytes() for mask in small}) == 200


def test_sampling_is_bilinear_and_reflects():
    ramp = jnp.arange(12.0).reshape(3, 4, 1)
    points = jnp.array([[[0.5, 0.0], [1.25, 1.5], [-1.0, 0.0], [4.0, 2.0]]])
    np.testing.assert_allclose(views.sample(ramp, points)[0, :, 0], [0.5, 7.25, 1.0, 10.0], atol=1e-6)
