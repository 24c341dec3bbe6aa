"""Averages of frames against NumPy, flow against known motion, and no ghosts between frames."""

import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax import blur
from deblur_jax.blur.views import pixel_grid, sample

H, W = 48, 64


def smooth_noise(right, down):
    """A pattern that is defined everywhere, so that it can be moved exactly."""
    generator = np.random.default_rng(0)
    total = 0.5
    for _ in range(30):
        angle, wave, phase = generator.uniform(0, 2 * np.pi), generator.uniform(0.15, 0.6), generator.uniform(0, 7)
        total = total + 0.03 * np.sin(wave * (right * np.cos(angle) + down * np.sin(angle)) + phase)
    return jnp.asarray(np.repeat(total[..., None], 3, -1), jnp.float32)


RIGHT, DOWN = np.meshgrid(np.arange(W, dtype=float), np.arange(H, dtype=float))


@pytest.mark.parametrize("response", ["stored", "gamma", "srgb"])
def test_the_responses_are_numpys(noise, response):
    frames = noise(5, H, W, 3)
    x = np.asarray(frames, np.float64)
    if response == "stored":
        expected = x.mean(0)
    elif response == "gamma":
        expected = (x**2.2).mean(0) ** (1 / 2.2)
    else:
        light = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).mean(0)
        expected = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(blur.average_frames(frames, between=0, response=response), expected, atol=1e-5)


@pytest.mark.parametrize("between", [0, 7])
def test_what_stands_still_stays_as_it_is(photo, between):
    frames = jnp.tile(photo[:, 20 : 20 + H, 20 : 20 + W], (3, 1, 1, 1))
    averaged = blur.average_frames(frames, between=between, response="stored")
    np.testing.assert_allclose(averaged, frames[0], atol=2e-3)


def test_black_frames_and_a_single_one():
    for frames in (jnp.zeros((3, H, W, 3)), jnp.ones((3, H, W, 3)), jnp.full((1, H, W, 3), 0.5)):
        np.testing.assert_allclose(blur.average_frames(frames, response="stored"), frames[0], atol=1e-3)


@pytest.mark.parametrize(("right", "down"), [(2.3, -1.7), (-4.0, 0.5), (0.0, 5.0)])
def test_flow_finds_a_shift(right, down):
    flow = blur.optical_flow(smooth_noise(RIGHT, DOWN), smooth_noise(RIGHT - right, DOWN - down))
    inside = np.asarray(flow)[10:-10, 12:-12]
    error = np.abs(inside - [right, down])
    assert np.quantile(error, 0.95) < 0.25
    assert np.median(error) < 0.02


def test_flow_finds_a_zoom():
    zoom = 1.06
    x, y = RIGHT - W / 2, DOWN - H / 2
    flow = blur.optical_flow(smooth_noise(RIGHT, DOWN), smooth_noise(x / zoom + W / 2, y / zoom + H / 2))
    expected = np.stack([x, y], -1) * (zoom - 1)
    error = np.abs(np.asarray(flow) - expected)[8:-8, 8:-8]
    assert error.max() < 0.3 < 0.5 * np.abs(expected).max()
    assert error.mean() < 0.1


def test_flow_of_a_still_photograph_is_nothing(photo):
    frame = photo[0, 20 : 20 + H, 20 : 20 + W]
    np.testing.assert_allclose(blur.optical_flow(frame, frame), 0, atol=1e-5)


def bars():
    """A bright bar, five pixels wide, that moves by eight a frame over a grey pattern."""
    ground = 0.2 + 0.1 * smooth_noise(RIGHT, DOWN)
    bar = [jnp.clip(3.0 - jnp.abs(RIGHT - 20.0 - 8.0 * i), 0.0, 1.0)[..., None] for i in range(3)]
    return jnp.stack([ground * (1 - b) + 0.9 * b for b in bar]).astype(jnp.float32)


def test_frames_between_make_one_streak_of_many_ghosts():
    frames = bars()
    ghosts, streak = (blur.average_frames(frames, between=n, response="stored") for n in (0, 7))
    # Between the first bar and the last, away from the borders.
    rows = [np.asarray(x)[16:32, 22:35].mean((0, 2)) for x in (ghosts, streak)]
    assert np.ptp(rows[0]) > 0.12
    assert np.ptp(rows[1]) < 0.3 * np.ptp(rows[0])
    # The same amount of light, and the ground beside stays.
    np.testing.assert_allclose(streak.mean(), ghosts.mean(), rtol=0.01)
    assert float(jnp.abs(streak - frames[0])[:, :10].mean()) < 6e-3


def test_frames_between_are_the_motions_own_blur():
    """Steady motion of a pattern: the average is the pattern's true average over the path."""
    speed = 6.0
    frames = jnp.stack([smooth_noise(RIGHT - speed * i, DOWN) for i in range(3)])
    made = blur.average_frames(frames, between=7, response="stored")
    true = np.mean([smooth_noise(RIGHT - speed * i, DOWN) for i in np.arange(17) / 8], 0)
    inside = (slice(10, -10), slice(16, -16))
    plain = np.abs(np.asarray(frames.mean(0)) - true)[inside].mean()
    assert np.abs(np.asarray(made) - true)[inside].mean() < 0.1 * plain


def test_the_flow_warps_the_last_frame_onto_the_first(photo):
    first = photo[0, 20 : 20 + H, 20 : 20 + W]
    rotations = jnp.array([[0.03, -0.02, 0.05]])
    last = blur.camera_shake(first, rotations, focal=100.0)
    flow = blur.optical_flow(first, last)
    back = sample(last, pixel_grid(*first.shape[:2]) + flow)
    before, after = (np.abs(np.asarray(x - first))[12:-12, 12:-12].mean() for x in (last, back))
    assert after < 0.35 * before
