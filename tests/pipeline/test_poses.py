"""Recorded poses: known rotations of a camera move the picture as they should; files with mistakes are refused."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from deblur_jax import blur
from deblur_jax.errors import UserError
from deblur_jax.pipeline import poses

RATE = 200.0
WORLD = Rotation.from_rotvec([0.3, -1.0, 2.0])  # however the world lies


def write(path, times, rotations, *, flip=False):
    """Poses of a body, body to world, as files have them."""
    quaternions = rotations.as_quat()
    if flip:
        quaternions[::3] *= -1
    rows = np.c_[times, np.zeros((len(times), 3)), quaternions]
    path.write_text("# timestamp tx ty tz qx qy qz qw\n" + "\n".join(" ".join(map(repr, map(float, r))) for r in rows))
    return path


def turning(path, axis, *, speed=0.5, seconds=2.0, axes=None, **options):
    """A camera that turns evenly about one of its own axes; `axes` are of the body that carries it."""
    times = 1.5e9 + np.arange(0, seconds, 1 / RATE)
    vector = np.zeros(3)
    vector["xyz".index(axis)] = speed
    if axes is not None:
        vector = np.asarray(axes, float).T @ vector
    return write(path, times, WORLD * Rotation.from_rotvec(np.outer(times - times[0], vector)), **options)


# A camera turned to the right sees the scene go left; tilted up (about x, which points right) down; rolled clockwise
# anticlockwise.
MOTIONS = {"y": (0, -1), "x": (1, 1), "z": (2, -1)}


@pytest.mark.parametrize("axis", "xyz")
@pytest.mark.parametrize("body", ["camera", "tumvi"])
def test_a_known_rotation_moves_the_picture_as_told(tmp_path, axis, body):
    tumvi = [[-1, 0, 0], [0, 0, -1], [0, -1, 0]]
    path = turning(tmp_path / "poses.txt", axis, axes=tumvi if body == "tumvi" else None, flip=True)
    length, views = 0.1, 20
    found = poses.exposures(
        [path],
        shortest=length,
        longest=length,
        views=views,
        count=5,
        axes=poses.TUMVI if body == "tumvi" else poses.CAMERA,
    )
    assert found.shape == (5, views, 3)
    assert found.dtype == np.float32
    place, sign = MOTIONS[axis]
    expected = np.zeros((views, 3))
    expected[:, place] = sign * 0.5 * length * ((np.arange(views) + 0.5) / views - 0.5)
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=2e-6)


def test_the_picture_goes_where_a_projected_point_goes(tmp_path):
    """A free tremble: a point of the world, projected by each pose, moves as `moved_points` has it."""
    generator = np.random.default_rng(0)
    times = np.arange(0, 1, 1 / RATE)
    steps = np.cumsum(np.cumsum(generator.normal(size=(len(times), 3)), 0), 0)
    steps *= 0.04 / np.ptp(steps, 0).max()
    cameras = WORLD * Rotation.from_rotvec(steps)
    path = write(tmp_path / "poses.txt", times, cameras)
    length = times[-1] - 1e-3
    views = 50
    (found,) = poses.exposures([path], shortest=length, longest=length, views=views, count=1)
    focal, point = 500.0, WORLD.apply([0.1, -0.05, 1.0])
    seen = cameras.inv().apply(point)
    projected = focal * seen[:, :2] / seen[:, 2:]
    moments = 0.0005 + length * (np.arange(views) + 0.5) / views
    expected = np.stack([np.interp(moments, times, p) for p in projected.T], -1)
    places = jnp.asarray(expected.mean(0), jnp.float32)
    moved = blur.moved_points(jnp.asarray(found), places, focal=focal, centre=jnp.zeros(2))
    assert np.ptp(expected, 0).max() > 10
    np.testing.assert_allclose(moved, expected, atol=0.25)


def test_flipped_signs_change_nothing(tmp_path):
    plain = turning(tmp_path / "a.txt", "y")
    flipped = turning(tmp_path / "b.txt", "y", flip=True)
    assert plain.read_text() != flipped.read_text()
    a, b = (poses.exposures([path], count=8) for path in (plain, flipped))
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_lengths_lie_between_the_shortest_and_the_longest(tmp_path):
    path = turning(tmp_path / "poses.txt", "y")
    found = poses.exposures([path], shortest=0.05, longest=0.2, views=24, count=300, seed=1)
    lengths = np.ptp(found[:, :, 0], axis=1) / 0.5 * 24 / 23
    assert 0.05 * 0.999 < lengths.min() < 0.06
    assert 0.17 < lengths.max() < 0.2 * 1.001
    np.testing.assert_allclose(found.mean(1), 0, atol=1e-6)
    np.testing.assert_array_equal(found, poses.exposures([path], shortest=0.05, longest=0.2, count=300, seed=1))
    assert not np.array_equal(found, poses.exposures([path], shortest=0.05, longest=0.2, count=300, seed=2))


def test_gaps_are_not_bridged(tmp_path):
    """The camera stands still, but points elsewhere after the gap."""
    times = np.r_[np.arange(0, 1, 1 / RATE), np.arange(1.2, 2, 1 / RATE)]
    angles = np.where(times < 1.1, 0.0, 1.0)
    path = write(tmp_path / "poses.txt", times, Rotation.from_rotvec(np.outer(angles, [0, 1, 0])))
    assert np.abs(poses.exposures([path], count=300)).max() < 1e-6
    # Nothing but gaps.
    times = np.repeat(np.arange(0, 10, 0.1), 2) + np.tile([0, 1e-3], 100)
    sparse = write(tmp_path / "sparse.txt", times, Rotation.identity(200))
    with pytest.raises(UserError, match="too many gaps"):
        poses.exposures([sparse], count=20, shortest=0.15)


def test_a_short_recording_is_left_out_beside_a_long_one(tmp_path):
    short = turning(tmp_path / "short.txt", "x", seconds=0.1)
    long = turning(tmp_path / "long.txt", "y")
    found = poses.exposures([short, long], count=50)
    np.testing.assert_allclose(found[..., 1], 0, atol=1e-6)
    with pytest.raises(UserError, match=r"short\.txt: only 0\.\d+ s long"):
        poses.exposures([short])


def test_reading_takes_comments_commas_and_blank_lines(tmp_path):
    path = tmp_path / "poses.csv"
    path.write_text("#t,x\n0.0, 1,2,3, 0,0,0,1\n\n0.5 1 2 3 0 0 1.002 0\n")
    times, quaternions = poses.read_poses(path)
    np.testing.assert_array_equal(times, [0.0, 0.5])
    np.testing.assert_allclose(quaternions, [[0, 0, 0, 1], [0, 0, 1, 0]])


GOOD = "0 0 0 0 0 0 0 1\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "fewer than two poses"),
        (GOOD, "fewer than two poses"),
        (GOOD + "1 0 0 0 0 0 1\n", r"line 2: not `timestamp"),
        (GOOD + "1 0 0 0 0 0 0 1 5\n", r"line 2: not `timestamp"),
        (GOOD + "one 0 0 0 0 0 0 1\n", r"line 2: not `timestamp"),
        (GOOD + "nan 0 0 0 0 0 0 1\n", r"line 2: not `timestamp"),
        (GOOD + "1 0 0 0 0 0 inf 1\n", r"line 2: not `timestamp"),
        (GOOD + "# note\n" + GOOD, r"line 3: the time does not rise"),
        ("1 0 0 0 0 0 0 1\n" + GOOD, r"line 2: the time does not rise"),
        (GOOD + "1 0 0 0 0 0 0 0\n", r"line 2: not a unit quaternion"),
        (GOOD + "1 0 0 0 0 0 0 9\n", r"line 2: not a unit quaternion"),
    ],
)
def test_files_with_mistakes_are_refused(tmp_path, text, message):
    path = tmp_path / "poses.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"^{path}.*{message}"):
        poses.read_poses(path)


def test_what_is_no_pose_file_is_refused(tmp_path):
    (tmp_path / "noise.txt").write_bytes(bytes(range(128, 256)))
    for name, message in (("noise.txt", "not a text file"), ("none.txt", "No such file"), (".", "Is a directory")):
        with pytest.raises(UserError, match=message):
            poses.read_poses(tmp_path / name)
    with pytest.raises(UserError, match="no pose file"):
        poses.exposures([])


@pytest.mark.parametrize("axes", ["x y", "x y y", "x z y", "x y w", "up down left", "x y z z", ""])
def test_axes_are_right_handed(tmp_path, axes):
    with pytest.raises(UserError, match="right-handed"):
        poses.exposures([turning(tmp_path / "poses.txt", "x")], axes=axes)
