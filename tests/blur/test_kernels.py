"""Kernels: normalised, centred, of the right extent; turned and moved with what makes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from deblur_jax import blur

SIZE = 31
KERNELS = {
    "line": lambda: blur.line_kernel(14.3, 0.7, size=SIZE),
    "trajectory": lambda: blur.trajectory_kernel(blur.random_trajectory(jax.random.key(1), extent=15.0), size=SIZE),
    "defocus": lambda: blur.defocus_kernel(5.3, size=SIZE),
    "aperture": lambda: blur.aperture_kernel(7.1, 0.2, blades=7, size=SIZE),
    "gaussian": lambda: blur.gaussian_kernel(2.0, size=SIZE),
    "narrow": lambda: blur.gaussian_kernel(0.002, size=SIZE),
    "anisotropic": lambda: blur.gaussian_kernel(3.0, 1.0, 0.5, size=SIZE),
}


def moments(kernel):
    """Centre of mass (right, down) and the covariance around it."""
    kernel = np.asarray(kernel, np.float64)
    down, right = np.mgrid[: len(kernel), : len(kernel)] - len(kernel) // 2
    positions = np.stack([right, down]).reshape(2, -1)
    mean = positions @ kernel.ravel()
    return mean, (positions - mean[:, None]) * kernel.ravel() @ (positions - mean[:, None]).T


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_sum_to_one_and_are_centred(name):
    kernel = KERNELS[name]()
    assert kernel.shape == (SIZE, SIZE)
    assert float(kernel.min()) >= 0
    np.testing.assert_allclose(kernel.sum(), 1, rtol=1e-5)
    np.testing.assert_allclose(moments(kernel)[0], 0, atol=2e-3)


@pytest.mark.parametrize("degrees", [0, 17, 45, 90, 133])
def test_a_line_has_its_length_and_direction(degrees):
    angle = np.radians(degrees)
    _, covariance = moments(blur.line_kernel(16.0, angle, size=SIZE))
    values, vectors = np.linalg.eigh(covariance)
    # An even line of length L has variance L^2 / 12; sharing among pixels adds at most a quarter.
    assert 16**2 / 12 - 0.05 < values[1] < 16**2 / 12 + 0.3
    assert values[0] < 0.3
    along = np.array([np.cos(angle), -np.sin(angle)])  # up is negative
    assert abs(vectors[:, 1] @ along) > 0.9995


def test_turning_the_trajectory_by_a_quarter_turns_the_kernel():
    points = blur.random_trajectory(jax.random.key(0), extent=17.0)
    turned = jnp.stack([points[:, 1], -points[:, 0]], -1)  # right becomes up
    kernel = blur.trajectory_kernel(points, size=SIZE)
    np.testing.assert_allclose(blur.trajectory_kernel(turned, size=SIZE), np.rot90(kernel), atol=1e-6)


@pytest.mark.parametrize("shift", [0.25, 0.5])
def test_moving_a_part_of_the_path_by_a_fraction_moves_the_centre_by_it(shift):
    """Two far clusters; the kernel is centred, so moving one by s moves it by s / 2 and the other by -s / 2."""
    points = jnp.asarray([[-6.0, 0.0], [6.0, 0.0]])
    kernel = blur.trajectory_kernel(points.at[1, 1].add(shift), size=SIZE)
    for half, sign in ((np.asarray(kernel)[:, :15], -1), (np.asarray(kernel)[:, 16:], 1)):
        rows = half.sum(1) / half.sum()
        np.testing.assert_allclose(rows @ (np.arange(SIZE) - SIZE // 2), sign * shift / 2, atol=1e-5)


@pytest.mark.parametrize("inertia", [0.0, 0.95])
def test_random_trajectories_have_their_extent_and_differ(inertia):
    keys = jax.random.split(jax.random.key(3), 6)
    paths = jax.vmap(lambda k: blur.random_trajectory(k, extent=13.0, inertia=inertia))(keys)
    np.testing.assert_allclose(np.ptp(paths, axis=1).max(-1), 13.0, rtol=1e-5)
    assert len({np.asarray(p).tobytes() for p in paths}) == 6


def test_inertia_makes_paths_smoother():
    def turning(inertia):
        keys = jax.random.split(jax.random.key(0), 50)
        paths = jax.vmap(lambda k: blur.random_trajectory(k, extent=13.0, inertia=inertia))(keys)
        return float(jnp.abs(jnp.diff(paths[:, ::4], 2, axis=1)).mean())

    assert turning(0.95) < 0.5 * turning(0.3)


@pytest.mark.parametrize("radius", [0.4, 2.0, 7.7])
def test_the_disc_covers_its_area_evenly(radius):
    kernel = np.asarray(blur.defocus_kernel(radius, size=SIZE), np.float64)
    np.testing.assert_allclose(kernel.max(), 1 / max(1.0, np.pi * radius**2), rtol=0.03)
    if radius > 1:
        # An even disc has variance r^2 / 4 along each axis, and a pixel 1/12.
        np.testing.assert_allclose(moments(kernel)[1], (radius**2 / 4 + 1 / 12) * np.eye(2), rtol=0.05, atol=1e-3)


def test_the_aperture_has_its_corners_and_turns():
    hexagon = np.asarray(blur.aperture_kernel(10.0, blades=6, size=SIZE))
    corner, flat = hexagon[15, 15 + 10], hexagon[15 - 10, 15]
    assert corner > 0 == flat  # a corner to the right, a side above at 10 cos 30 = 8.7
    turned = np.asarray(blur.aperture_kernel(10.0, np.pi / 6, blades=6, size=SIZE))
    np.testing.assert_allclose(turned, hexagon.T, atol=1e-4)
    area = 3 * np.sqrt(3) / 2 * 100
    np.testing.assert_allclose(hexagon.max(), 1 / area, rtol=0.01)


def test_an_aperture_turns_the_way_a_line_does():
    """Anticlockwise, where rows go down: a corner of the triangle lies above the middle's right, and so is the line."""
    triangle = np.asarray(blur.aperture_kernel(12.0, np.radians(30), blades=3, size=SIZE))
    line = np.asarray(blur.line_kernel(22.0, np.radians(30), size=SIZE))
    row, column = 15 - 5, 15 + 9
    assert triangle[row, column] > 0 == triangle[15 + 5, column]
    assert line[row, column] > 0 == line[15 + 5, column]


def test_the_gaussian_is_the_integral_over_each_pixel_and_the_ellipse_lies_as_told():
    pixel = np.diff(scipy.stats.norm.cdf(np.arange(SIZE + 1) - SIZE / 2, scale=2.5))
    np.testing.assert_allclose(blur.gaussian_kernel(2.5, size=SIZE), np.outer(pixel, pixel), rtol=0.01, atol=1e-6)
    _, covariance = moments(blur.gaussian_kernel(3.0, 1.0, np.radians(30), size=SIZE))
    values, vectors = np.linalg.eigh(covariance)
    np.testing.assert_allclose(values, [1 + 1 / 12, 9 + 1 / 12], rtol=0.02)
    assert abs(vectors[:, 1] @ [np.cos(np.radians(30)), -np.sin(np.radians(30))]) > 0.9999
