"""Tone curves, noise statistics, clipping order, JPEG against a real encoder."""

import dataclasses

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from PIL import Image

from deblur_jax import blur, samples
from deblur_jax.blur import camera
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


MEANS = np.array([0.1, 0.7, 3.0, 9.9, 10.0, 30.0, 200.0, 1000.0])


def test_photons_are_poissons():
    """Kolmogorov and Smirnov's distance to the true distribution; moments, and how often none comes."""
    light = jnp.tile(MEANS[:, None, None, None].astype(np.float32), (1, 300, 300, 3))
    drawn = np.asarray(blur.noisy(jax.random.key(0, impl="rbg"), light, gain=1.0, read=0.0), np.float64)
    n = drawn[0].size
    for mean, counts in zip(MEANS, drawn.reshape(len(MEANS), n), strict=True):
        assert counts.min() >= 0
        np.testing.assert_array_equal(counts, np.rint(counts))
        np.testing.assert_allclose(counts.mean(), mean, atol=4.5 * np.sqrt(mean / n))
        np.testing.assert_allclose(counts.var(), mean, rtol=4.5 * np.sqrt((2 + 1 / mean) / n))
        np.testing.assert_allclose(scipy.stats.skew(counts), mean**-0.5, atol=0.03 + 0.1 * mean**-0.5)
        places = np.arange(counts.max() + 1)
        reached = np.searchsorted(np.sort(counts), places, "right") / n
        assert np.abs(reached - scipy.stats.poisson.cdf(places, mean)).max() < 2 / np.sqrt(n)
        none = np.exp(-mean)
        np.testing.assert_allclose((counts == 0).mean(), none, atol=4.5 * np.sqrt(none / n) + 2e-4 * (mean >= 10))


def test_each_picture_has_its_own_camera(photo):
    """A batch of cameras is the same as one after the other; noise follows each picture's own gain."""
    fields = {
        "exposure": [0.5, 1.0, 2.0],
        "white_balance": [[1.0, 1.0, 1.0], [2.0, 1.0, 1.5], [0.8, 1.0, 1.2]],
        "contrast": [0.0, 0.5, 1.0],
        "jpeg_quality": [30.0, 101.0, 90.0],
    }
    light, key = jnp.tile(blur.srgb_to_linear(photo), (3, 1, 1, 1)), jax.random.key(0)
    together = blur.capture(key, light, blur.Camera(**{name: jnp.asarray(value) for name, value in fields.items()}))
    for i in range(3):
        alone = {name: jnp.asarray(value[i]) for name, value in fields.items()}
        if i == 1:
            alone["jpeg_quality"] = None
        expected = blur.capture(key, light[:1], blur.Camera(**alone))[0]
        np.testing.assert_allclose(together[i], expected, atol=1.5e-2 if i == 0 else 1e-5)
        assert float(jnp.abs(together[i] - expected).mean()) < 1e-5
    flat = jnp.full((3, 100, 100, 3), 0.5)
    gains = jnp.array([0.0, 0.001, 0.02])
    deviations = blur.noisy(key, flat, gain=gains, read=jnp.array([0.0, 0.02, 0.0])).std((1, 2, 3))
    np.testing.assert_allclose(deviations, np.sqrt(0.5 * gains + np.array([0, 0.02, 0]) ** 2), rtol=0.03, atol=1e-7)


def test_highlights_come_back_and_leave_a_saturated_streak():
    """A white lamp in a photograph: as stored its streak is dim, with its brightness given back it is white."""
    stored = jnp.full((1, 33, 33, 3), 0.3).at[0, 14:19, 14:19].set(1.0)
    light = blur.highlights(stored, peak=8.0)
    np.testing.assert_allclose(light[0, 16, 16], 8.0, rtol=1e-6)
    np.testing.assert_array_equal(light[0, :14], stored[0, :14])
    kernel = blur.line_kernel(15.0, 0.0, size=21)[None]
    key = jax.random.key(0)
    streaks = [blur.capture(key, blur.convolve(x, kernel), blur.Camera())[0, 16, 8:25] for x in (stored, light)]
    assert float(streaks[0].max()) < 0.8
    np.testing.assert_allclose(streaks[1][2:-2], 1.0, rtol=1e-6)
    # Colours keep their hue; a peak of 1, and one for each picture.
    orange = jnp.tile(jnp.array([0.98, 0.6, 0.2]), (2, 4, 4, 1))
    changed = blur.highlights(orange, peak=jnp.array([1.0, 5.0]))
    np.testing.assert_array_equal(changed[0], orange[0])
    ratio = changed[1] / orange[1]
    assert float(ratio.min()) > 2
    np.testing.assert_allclose(ratio, float(ratio[0, 0, 0]), rtol=1e-5)


def test_highlights_are_clipped_after_the_blur():
    """A lamp a hundred times too bright leaves a streak of full white; clipped before, it would be dim."""
    lamp = jnp.zeros((1, 33, 33, 3)).at[0, 16, 16].set(100.0)
    kernel = blur.line_kernel(15.0, 0.0, size=21)[None]
    streak = blur.capture(jax.random.key(0), blur.convolve(lamp, kernel), blur.Camera())
    np.testing.assert_allclose(streak[0, 16, 10:23], 1.0, rtol=1e-6)
    dim = blur.capture(jax.random.key(0), blur.convolve(jnp.minimum(lamp, 1.0), kernel), blur.Camera())
    assert float(dim.max()) < 0.35


def test_each_camera_setting_does_its_part(photo):
    light, key = blur.srgb_to_linear(photo), jax.random.key(0)
    plain = blur.Camera()

    def taken(**changes):
        return np.asarray(blur.capture(key, light, dataclasses.replace(plain, **changes)))

    np.testing.assert_allclose(taken(), photo, atol=1e-5)
    assert taken(exposure=2.0).mean() > photo.mean() + 0.05
    assert np.abs(taken(gain=0.01, read=0.01) - photo).mean() > 0.01
    rounded = taken(quantise=True) * 255
    np.testing.assert_allclose(rounded, np.rint(rounded), atol=1e-4)
    # A highlight that the sensor clips in one channel comes out coloured by the balance.
    np.testing.assert_allclose(taken(white_balance=(2.0, 1.0, 1.5)), photo, atol=1e-5)
    np.testing.assert_array_equal(taken(jpeg_quality=60), blur.jpeg(taken(), quality=60))


@pytest.mark.parametrize("quality", [15, 31, 47, 49, 75])
def test_jpegs_tables_are_an_encoders(quality, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "x.jpg", quality=quality)
    with Image.open(tmp_path / "x.jpg") as file:
        for number, table in enumerate((camera._LUMA_TABLE, camera._CHROMA_TABLE)):
            steps = camera._steps(table, jnp.float32(quality))
            np.testing.assert_array_equal(steps, np.reshape(file.quantization[number], (8, 8)))


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
