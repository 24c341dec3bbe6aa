"""Tone curves, noise statistics, clipping order, JPEG against a real encoder."""

import dataclasses

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax import blur, samples
from deblur_jax.metrics import psnr
from deblur_jax.restore import read_image


def test_the_tone_curves_undo_each_other_and_have_gradients():
    x = jnp.linspace(0.0, 1.0, 1001)
    np.testing.assert_allclose(blur.linear_to_srgb(blur.srgb_to_linear(x)), x, atol=1e-5)
    np.testing.assert_allclose(blur.srgb_to_linear(jnp.asarray([0.5])), 0.21404, atol=1e-5)
    for curve in (blur.linear_to_srgb, blur.srgb_to_linear):
        assert np.isfinite(jax.vmap(jax.grad(curve))(x)).all()


@pytest.mark.parametrize(
    ("light", "gain", "read"), [(0.5, 0.001, 0.0), (0.5, 0.05, 0.0), (0.2, 0.0, 0.03), (0.3, 0.01, 0.02)]
)
def test_noise_has_its_mean_and_variance(light, gain, read):
    drawn = blur.noisy(jax.random.key(0), jnp.full((1, 300, 300, 3), light), gain=gain, read=read)
    variance = gain * light + read**2
    np.testing.assert_allclose(drawn.mean(), light, atol=5 * np.sqrt(variance / drawn.size))
    np.testing.assert_allclose(drawn.var(), variance, rtol=0.02)


def test_few_photons_come_in_whole_numbers():
    counts = np.asarray(blur.noisy(jax.random.key(0), jnp.full((1, 64, 64, 3), 0.2), gain=0.1, read=0.0)) / 0.1
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-5)


def test_highlights_are_clipped_after_the_blur():
    """A lamp a hundred times too bright leaves a streak of full white; clipped before, it would be dim."""
    lamp = jnp.zeros((1, 33, 33, 3)).at[0, 16, 16].set(100.0)
    kernel = blur.line_kernel(15.0, 0.0, size=21)[None]
    streak = blur.capture(jax.random.key(0), blur.convolve(lamp, kernel), config=blur.CameraConfig())
    np.testing.assert_allclose(streak[0, 16, 10:23], 1.0, rtol=1e-6)
    dim = blur.capture(jax.random.key(0), blur.convolve(jnp.minimum(lamp, 1.0), kernel), config=blur.CameraConfig())
    assert float(dim.max()) < 0.35


def test_each_camera_setting_does_its_part(photo):
    light, key = blur.srgb_to_linear(photo), jax.random.key(0)
    plain = blur.CameraConfig()

    def taken(**changes):
        return np.asarray(blur.capture(key, light, config=dataclasses.replace(plain, **changes)))

    np.testing.assert_allclose(taken(), photo, atol=1e-5)
    assert taken(exposure=2.0).mean() > photo.mean() + 0.05
    assert np.abs(taken(gain=0.01, read=0.01) - photo).mean() > 0.01
    rounded = taken(quantise=True) * 255
    np.testing.assert_allclose(rounded, np.rint(rounded), atol=1e-4)
    # A highlight that the sensor clips in one channel comes out coloured by the balance.
    np.testing.assert_allclose(taken(white_balance=(2.0, 1.0, 1.5)), photo, atol=1e-5)
    np.testing.assert_array_equal(taken(jpeg_quality=60), blur.jpeg(taken(), quality=60))


@pytest.mark.parametrize("quality", [10, 30, 50, 75, 90, 100])
def test_jpeg_is_nearly_a_real_encoders(quality):
    """OpenCV (libjpeg-turbo), whose integer transforms round here and there: far nearer to each other than to
    the picture, and equally far from it."""
    for path in samples.PICTURES[:2]:
        picture = np.rint(read_image(path)[101:291, 200:405] * 255).astype(np.uint8)
        data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        real = jnp.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[None, ..., ::-1] / 255.0, jnp.float32)
        x = jnp.asarray(picture[None] / 255.0, jnp.float32)
        ours = blur.jpeg(x, quality=quality)
        assert abs(float(psnr(ours, x)[0] - psnr(real, x)[0])) < 0.4
        assert float(psnr(ours, real)[0]) > min(float(psnr(real, x)[0]) + 3, 48)  # rounding alone is 50 dB
