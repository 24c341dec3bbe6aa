"""How hands move: extents, directions, and recorded windows drawn without bending them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax import blur

KEYS = jax.random.split(jax.random.key(0), 40)


@pytest.mark.parametrize("inertia", [0.0, 0.9, 1.0])
def test_a_walk_fills_a_box_of_one_about_its_mean(inertia):
    walks = jax.vmap(lambda key: blur.random_walk(key, inertia=inertia, steps=32))(KEYS)
    np.testing.assert_allclose(np.ptp(walks, axis=1).max(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(walks.mean(1), 0, atol=1e-5)
    assert len({np.asarray(walk).tobytes() for walk in walks}) == len(KEYS)


def test_a_walk_has_no_favourite_direction():
    walks = jax.vmap(lambda key: blur.random_walk(key, steps=32))(jax.random.split(jax.random.key(1), 500))
    ends = np.asarray(walks[:, -1] - walks[:, 0])
    ends = ends / np.linalg.norm(ends, axis=1, keepdims=True)
    assert np.abs(ends.mean(0)).max() < 4.5 * np.sqrt(0.5 / 500)
    assert abs(np.abs(ends).mean() - 2 / np.pi) < 0.06


def test_random_rotations_move_over_their_extent_and_roll():
    paths = jax.vmap(lambda key: blur.random_rotations(key, extent=20.0, roll=0.05, focal=800.0))(KEYS)
    moved = np.ptp(paths, axis=1)
    np.testing.assert_allclose(moved[:, :2].max(-1) * 800, 20, rtol=1e-5)
    np.testing.assert_allclose(moved[:, 2], 0.05, rtol=1e-5)
    np.testing.assert_allclose(paths.mean(1), 0, atol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 0.4, 2.0])
def test_a_pan_is_the_line_of_the_kernels(angle):
    path = blur.steady_rotations(extent=12.0, angle=angle, focal=600.0, views=256)
    kernel = blur.trajectory_kernel(path[:, :2] * 600, size=17)
    np.testing.assert_allclose(kernel, blur.line_kernel(12.0, angle, size=17), atol=1e-5)
    np.testing.assert_array_equal(path[:, 2], 0)


def recorded():
    """A straight one, a bow that rolls as it bends, and one far too wide."""
    t = np.linspace(-1, 1, 24)
    windows = [np.c_[t, 0 * t, 0 * t], np.c_[t, t**2 - np.mean(t**2), 0.1 * t], np.c_[30 * t, 20 * t**3, t]]
    return jnp.asarray(np.array(windows) * 0.005, jnp.float32)


def test_recorded_windows_are_turned_mirrored_and_slowed_but_not_bent():
    windows, focal, longest = recorded(), 1000.0, 15.0
    drawn = np.asarray(
        jax.vmap(lambda key: blur.draw_recorded(key, windows, longest=longest, focal=focal))(
            jax.random.split(jax.random.key(0), 100)
        )
    )
    seen, hands = set(), set()
    for path in drawn:
        assert focal * np.ptp(path[:, :2], axis=0).max() <= longest * 1.0001
        # Turning and mirroring keep every distance; slowing down divides all of them by one number.
        lengths = np.linalg.norm(path[:, None, :2] - path[None, :, :2], axis=-1)
        for i, window in enumerate(np.asarray(windows)):
            theirs = np.linalg.norm(window[:, None, :2] - window[None, :, :2], axis=-1)
            if np.abs(lengths / lengths.max() - theirs / theirs.max()).max() < 1e-3:
                seen.add(i)
                np.testing.assert_allclose(
                    np.ptp(path[:, 2]) * lengths.max() ** -1, np.ptp(window[:, 2]) / theirs.max(), atol=1e-3
                )
                if i < 1:
                    np.testing.assert_allclose(lengths.max(), theirs.max(), rtol=1e-4)
                if i == 1:
                    # A mirrored bow bends and rolls the other way: both or neither.
                    assert bend(path) * roll(path) == bend(window) * roll(window)
                    hands.add(float(bend(path)))
                break
        else:
            pytest.fail("a path that is none of the windows")
    assert seen == {0, 1, 2}
    assert hands == {-1.0, 1.0}


def bend(path):
    """The side to which it turns."""
    (a, b), (c, d) = path[12, :2] - path[0, :2], path[-1, :2] - path[12, :2]
    return np.sign(a * d - b * c)


def roll(path):
    return np.sign(path[-1, 2] - path[0, 2])
