"""Filters against OpenCV and SciPy."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from deblur_jax import filters, samples
from deblur_jax.restore import read_image

SIZES = [(1, 1), (1, 9), (7, 1), (2, 2), (33, 20)]


def rgb_8bit(x):
    return np.asarray(filters.to_8bit(jnp.asarray(x)))


def cv_grey(x):
    return cv2.cvtColor(rgb_8bit(x), cv2.COLOR_RGB2GRAY)


def test_every_8bit_colour_has_opencvs_grey():
    values = np.arange(0, 256, 3)
    cube = np.stack(np.meshgrid(values, values, values), -1).reshape(1, -1, 86, 3)
    ours = filters.grey_8bit(jnp.asarray(cube / 255.0, jnp.float32))
    np.testing.assert_array_equal(ours[0], cv2.cvtColor(cube[0].astype(np.uint8), cv2.COLOR_RGB2GRAY))


def test_8bit_rounds_and_clips():
    x = jnp.asarray([-0.1, 0.0, 0.4999 / 255, 0.5001 / 255, 0.5, 1.0, 7.0], jnp.float32)
    np.testing.assert_array_equal(filters.to_8bit(x), [0, 0, 0, 1, 128, 255, 255])


@pytest.mark.parametrize("size", SIZES)
def test_sobel_and_laplacian_are_opencvs(noise, size):
    x = noise(1, *size, 1)
    plane = np.asarray(x)[0, ..., 0]
    dx, dy = filters.sobel(x)
    np.testing.assert_allclose(dx[0, ..., 0], cv2.Sobel(plane, cv2.CV_32F, 1, 0), atol=1e-6)
    np.testing.assert_allclose(dy[0, ..., 0], cv2.Sobel(plane, cv2.CV_32F, 0, 1), atol=1e-6)
    np.testing.assert_allclose(filters.laplacian(x)[0, ..., 0], cv2.Laplacian(plane, cv2.CV_32F), atol=1e-6)


def test_sobel_edges_are_opencvs_within_one_step(photo):
    grey = cv_grey(photo[0]).astype(np.float32)
    magnitude = cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    theirs = cv2.normalize(magnitude, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)
    ours = np.asarray(filters.sobel_edges(photo))[0]
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1  # a rounding at exactly a half
    assert (ours.min(), ours.max()) == (0, 255)


def test_sobel_edges_of_a_flat_picture_are_black():
    assert not np.asarray(filters.sobel_edges(jnp.full((1, 5, 5, 3), 0.3))).any()


def test_sobel_magnitude_has_a_gradient_where_the_picture_is_flat(noise):
    flat = jax.grad(lambda x: filters.sobel_magnitude(x).sum())(jnp.full((1, 6, 6, 1), 0.5))
    np.testing.assert_array_equal(flat, 0.0)
    assert np.isfinite(jax.grad(lambda x: filters.sobel_magnitude(x).sum())(noise(1, 6, 6, 1))).all()


@pytest.mark.parametrize("l2", [False, True])
@pytest.mark.parametrize(("low", "high"), [(100.0, 200.0), (20.5, 61.5), (0.0, 0.0), (250.0, 900.0), (5.0, 3e4)])
def test_canny_is_opencvs_bit_for_bit(low, high, l2):
    for path in samples.PICTURES:
        picture = read_image(path)[100:300, 100:420]
        theirs = cv2.Canny(cv_grey(picture), low, high, L2gradient=l2) > 0
        np.testing.assert_array_equal(
            np.asarray(filters.canny(jnp.asarray(picture[None]), low=low, high=high, l2=l2))[0], theirs
        )


@pytest.mark.parametrize("size", [*SIZES, (64, 48)])
def test_canny_on_noise_of_any_size(noise, size):
    x = noise(1, *size, 3)
    np.testing.assert_array_equal(
        np.asarray(filters.canny(x, low=80.0, high=240.0))[0], cv2.Canny(cv_grey(x[0]), 80, 240) > 0
    )


def test_canny_of_a_batch_is_canny_of_each(noise):
    batch = noise(3, 24, 30, 3)
    alone = [filters.canny(jnp.asarray(picture[None]))[0] for picture in batch]
    np.testing.assert_array_equal(filters.canny(batch), jnp.stack(alone))


def test_gaussian_blur_of_nothing_and_of_nonsense(noise):
    x = noise(1, 5, 6, 3)
    np.testing.assert_array_equal(filters.gaussian_blur(x, sigma=0.0), x)
    for sigma in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="sigma must be"):
            filters.gaussian_blur(x, sigma=sigma)


@pytest.mark.parametrize(("border", "mode"), [("reflect", "mirror"), ("symmetric", "reflect"), ("edge", "nearest")])
def test_gaussian_blur_is_scipys(noise, border, mode):
    x = noise(2, 19, 23, 3)
    ours = filters.gaussian_blur(x, sigma=1.7, border=border)
    theirs = scipy.ndimage.gaussian_filter(np.asarray(x), 1.7, mode=mode, axes=(1, 2))
    np.testing.assert_allclose(ours, theirs, atol=2e-6)
