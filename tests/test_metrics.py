"""Scores against scikit-image, OpenCV, and slow plain NumPy."""

import cv2
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.metrics

from deblur_jax import filters, metrics, samples
from deblur_jax.restore import read_image


@pytest.fixture
def pair(photo, noise):
    """A batch of two different pictures, and the same with noise and with blur."""
    clean = jnp.concatenate([photo, photo[:, ::-1] * 0.7])
    worse = jnp.concatenate(
        [clean[:1] + 0.1 * (noise(*photo.shape) - 0.5), filters.gaussian_blur(clean[1:], sigma=2.0)]
    )
    return clean, worse


def each(score, a, b):
    return [score(np.asarray(x, np.float64), np.asarray(y, np.float64)) for x, y in zip(a, b, strict=True)]


def test_mse_and_psnr_are_scikit_images(pair):
    np.testing.assert_allclose(metrics.mse(*pair), each(skimage.metrics.mean_squared_error, *pair), rtol=1e-5)
    theirs = each(lambda a, b: skimage.metrics.peak_signal_noise_ratio(a, b, data_range=1), *pair)
    np.testing.assert_allclose(metrics.psnr(*pair), theirs, rtol=1e-5)


def test_psnr_of_equal_pictures_is_infinite(photo):
    assert np.isposinf(metrics.psnr(photo, photo)).all()


def test_ssim_is_scikit_images(pair):
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    theirs = each(lambda a, b: skimage.metrics.structural_similarity(a, b, channel_axis=-1, **options), *pair)
    np.testing.assert_allclose(metrics.ssim(*pair), theirs, rtol=1e-5)


def test_ssim_of_the_smallest_picture_and_of_one_smaller(noise):
    assert metrics.ssim(noise(1, 11, 11, 3), noise(1, 11, 11, 3, seed=1)).shape == (1,)
    with pytest.raises(ValueError, match="at least 11x11"):
        metrics.ssim(noise(1, 10, 30, 3), noise(1, 10, 30, 3))


def slow_ssim_of_volumes(a, b):
    """MATLAB's ssim of two volumes, written out: an 11x11x11 window at every voxel, borders repeated."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None, None] ** 2 + offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window /= window.sum()
    a, b = (np.pad(x, 5, mode="edge") for x in (a, b))
    values = []
    for i in range(a.shape[0] - 10):
        for j in range(a.shape[1] - 10):
            for k in range(a.shape[2] - 10):
                p, q = (x[i : i + 11, j : j + 11, k : k + 11] for x in (a, b))
                p_mean, q_mean = (window * p).sum(), (window * q).sum()
                p_var, q_var = (window * (p - p_mean) ** 2).sum(), (window * (q - q_mean) ** 2).sum()
                both = (window * (p - p_mean) * (q - q_mean)).sum()
                luminance = (2 * p_mean * q_mean + 1e-4) / (p_mean**2 + q_mean**2 + 1e-4)
                values.append(luminance * (2 * both + 9e-4) / (p_var + q_var + 9e-4))
    return np.mean(values)


@pytest.mark.parametrize("size", [(1, 1), (4, 9), (20, 17)])
def test_gopro_ssim_is_the_slow_one(pair, size):
    a, b = (x[:, 30 : 30 + size[0], 40 : 40 + size[1]] for x in pair)
    np.testing.assert_allclose(metrics.ssim_gopro_matlab(a, b), each(slow_ssim_of_volumes, a, b), rtol=1e-5)


def test_the_two_ssims_are_different_numbers(pair):
    assert (np.abs(metrics.ssim(*pair) - metrics.ssim_gopro_matlab(*pair)) > 1e-3).all()


@pytest.mark.parametrize("path", samples.PICTURES, ids=lambda path: path.stem)
def test_laplacian_score_is_opencvs(path):
    picture = jnp.asarray(read_image(path)[None])
    grey = cv2.cvtColor(np.asarray(filters.to_8bit(picture[0])), cv2.COLOR_RGB2GRAY)
    np.testing.assert_allclose(metrics.laplacian_score(picture), [cv2.Laplacian(grey, cv2.CV_64F).var()], rtol=1e-5)


def test_laplacian_score_falls_with_blur(photo):
    scores = [metrics.laplacian_score(filters.gaussian_blur(photo, sigma=sigma))[0] for sigma in (0.5, 1.0, 2.0, 4.0)]
    assert scores == sorted(scores, reverse=True)
    assert metrics.laplacian_score(jnp.full((1, 8, 8, 3), 0.4))[0] == 0
