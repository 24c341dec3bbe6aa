"""The measure of sharpness, on photographs blurred by the project's own physics."""

import cv2
import jax
import numpy as np
import pytest

from deblur_jax import samples
from deblur_jax.blur import kernels, srgb_to_linear
from deblur_jax.restore import read_image
from deblur_jax.restore.sharpness import SHARP, TOO_BLURRED, sharpness


def reduced(pixels, longest):
    ratio = longest / max(pixels.shape)
    return cv2.resize(pixels, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)


PHOTOS = [reduced(read_image(path), 640) for path in samples.PICTURES]
KERNELS = {
    "gaussian 2": kernels.gaussian_kernel(2.0, size=17),
    "defocus 4": kernels.defocus_kernel(4.0, size=11),
    "line 15": kernels.line_kernel(15.0, 0.4, size=19),
    "shake 17": kernels.trajectory_kernel(kernels.random_trajectory(jax.random.key(1), extent=17.0), size=25),
}


def blurred(pixels, kernel):
    """In linear light, as in a camera."""
    light = np.where(pixels < 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4).astype(np.float32)
    light = cv2.filter2D(light, -1, np.asarray(kernel, np.float32)[::-1, ::-1], borderType=cv2.BORDER_REFLECT)
    light = np.clip(light, 0, 1)
    return np.where(light < 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055).astype(np.float32)


def noisy(pixels, deviation):
    noise = np.random.default_rng(0).normal(0, deviation, pixels.shape)
    return np.clip(pixels + noise, 0, 1).astype(np.float32)


def as_jpeg(pixels):
    """Which takes away the finest of the noise."""
    data = cv2.imencode(".jpg", np.round(pixels * 255), [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR).astype(np.float32) / 255


VARIANTS = {
    "as it is": lambda x: x,
    "noisy": lambda x: noisy(x, 0.03),
    "of low contrast": lambda x: 0.4 + 0.25 * x,
    "noisy, as JPEG": lambda x: as_jpeg(noisy(x, 0.03)),
    "stored as 8 bits": lambda x: np.round(x * 255).astype(np.float32) / 255,
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_sharp_photographs_lie_above_the_threshold_and_blurred_ones_below(variant):
    change = VARIANTS[variant]
    sharp = [sharpness(change(photo)).score for photo in PHOTOS]
    assert min(sharp) > SHARP
    for name, kernel in KERNELS.items():
        scores = [sharpness(change(blurred(photo, kernel))).score for photo in PHOTOS]
        assert max(scores) < SHARP, name
        assert min(scores) > TOO_BLURRED, name


def test_the_width_is_about_that_of_the_gaussian():
    for sigma in (1.2, 2.0, 3.0):
        kernel = kernels.gaussian_kernel(sigma, size=2 * int(4 * sigma) + 1)
        widths = [sharpness(blurred(photo, kernel)).width for photo in PHOTOS]
        assert np.median(widths) == pytest.approx(sigma, rel=0.3)


def test_a_blur_far_wider_is_too_much():
    kernel = kernels.gaussian_kernel(6.0, size=49)
    assert max(sharpness(blurred(photo, kernel)).score for photo in PHOTOS) < TOO_BLURRED


def test_a_sharp_thing_before_a_blurred_background_is_a_sharp_picture():
    for photo in PHOTOS:
        background = blurred(photo, kernels.defocus_kernel(6.0, size=15))
        height, width = photo.shape[:2]
        y, x = np.mgrid[:height, :width]
        inside = (np.hypot((y / height - 0.5) / 0.3, (x / width - 0.5) / 0.3) < 1)[..., None]
        measured = sharpness(np.where(inside, photo, background))
        assert measured.score > SHARP
        rows, columns = measured.map.shape
        middle = measured.map[rows // 3 : -(rows // 3), columns // 3 : -(columns // 3)]
        outside = np.concatenate([measured.map[0], measured.map[-1]])
        assert np.nanmedian(middle) > np.nanmedian(outside)


def test_linear_pictures_are_judged_as_srgb():
    as_stored = sharpness(np.asarray(srgb_to_linear(PHOTOS[0])), linear=True)
    assert as_stored.score == pytest.approx(sharpness(PHOTOS[0]).score, rel=1e-3)


def test_large_pictures_are_judged_by_how_they_look():
    photo = PHOTOS[0]
    large = cv2.resize(photo, None, fx=6, fy=6, interpolation=cv2.INTER_LANCZOS4).clip(0, 1)
    measured = sharpness(large)
    assert measured.score < sharpness(photo).score
    looked_at = reduced(large, 2048)
    assert measured.width == pytest.approx(sharpness(looked_at).width * max(large.shape) / 2048, rel=0.05)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (5000, 1), (20, 3000), (31, 33)])
def test_odd_sizes_and_empty_pictures(size):
    measured = sharpness(np.full((*size, 3), 0.5, np.float32))
    assert (measured.score, measured.width) == (0, np.inf)
    assert np.isnan(measured.map).all()
    stripes = np.zeros((*size, 3), np.float32)
    stripes[:, ::2] = 1
    assert 0 <= sharpness(stripes).score <= 1
