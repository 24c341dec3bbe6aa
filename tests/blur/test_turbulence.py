"""The air: Kolmogorov's laws, the wind, and the spot of a round lens."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from deblur_jax import blur

KEYS = jax.random.split(jax.random.key(0, impl="rbg"), 12)
SIZE = 25
DOWN, RIGHT = np.mgrid[:SIZE, :SIZE] - SIZE // 2


@functools.cache
def screens():
    draw = jax.jit(jax.vmap(lambda key: blur.phase_screen(key, height=256, width=256, outer=2000.0)))
    return np.asarray(draw(KEYS), np.float64)


def slope(x, y):
    return np.polyfit(np.log(x), np.log(y), 1)[0]


def test_phase_differences_grow_with_the_distance_to_the_power_of_five_thirds():
    distances = np.array([1, 2, 3, 4])  # a periodic screen lacks what is larger than itself: less beyond
    for axis in (1, 2):
        squared = [((screens() - np.roll(screens(), d, axis)) ** 2).mean() for d in distances]
        assert abs(slope(distances, squared) - 5 / 3) < 0.08


def test_the_power_falls_with_the_frequency_to_eleven_thirds():
    power = (np.abs(np.fft.fft2(screens())) ** 2).mean(0)
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256))
    bands = np.geomspace(0.02, 0.45, 9)
    inside = [(frequency >= low) & (frequency < high) for low, high in itertools.pairwise(bands)]
    middles = [np.exp(np.log(frequency[band]).mean()) for band in inside]
    means = [np.exp(np.log(power[band]).mean()) for band in inside]
    assert abs(slope(middles, means) + 11 / 3) < 0.1


def test_screens_have_deviation_one_and_differ():
    np.testing.assert_allclose(screens().std((1, 2)), 1, rtol=1e-4)
    np.testing.assert_allclose(screens().mean((1, 2)), 0, atol=1e-4)
    assert np.abs(np.corrcoef(screens().reshape(12, -1)) - np.eye(12)).max() < 0.9


def test_the_wind_carries_a_screen_along():
    draw = functools.partial(blur.phase_screen, jax.random.key(0), height=32, width=48, outer=40.0)
    carried = np.roll(draw(shift=jnp.zeros(2)), (-2, 3), (0, 1))  # right 3, up 2
    np.testing.assert_allclose(draw(shift=jnp.array([3.0, -2.0])), carried, atol=1e-4)
    np.testing.assert_allclose(draw(shift=jnp.array([48.0, 32.0])), draw(shift=jnp.zeros(2)), atol=1e-4)


warp = jax.jit(
    lambda shift, deviation: blur.turbulence_warp(KEYS[0], height=48, width=64, deviation=deviation, shift=shift)
)


@pytest.mark.parametrize("deviation", [0.0, 0.3, 1.7])
def test_the_warp_has_its_deviation(deviation):
    moved = warp(jnp.zeros(2), deviation)
    np.testing.assert_allclose(np.sqrt(np.mean(moved**2)), deviation, rtol=1e-4)
    # Neighbours move together: the lens sees nothing finer than 6 pixels.
    assert float(jnp.abs(jnp.diff(moved, axis=1)).max()) <= 0.5 * deviation


def test_the_warp_varies_smoothly_as_the_wind_blows():
    still = np.asarray(warp(jnp.zeros(2), 1.0))
    alike = [np.mean(still * np.asarray(warp(jnp.array([wind, 0.0]), 1.0))) for wind in (0.5, 1.0, 2.0, 4.0, 8.0)]
    assert 0.99 < alike[0] < 1
    assert alike == sorted(alike, reverse=True)
    assert alike[-1] < 0.8
    np.testing.assert_allclose(warp(jnp.array([4.0, 0.0]), 1.0), np.roll(still, 4, 1), atol=1e-4)


spots = jax.jit(
    jax.vmap(
        lambda key, strength, width, shift: blur.turbulence_kernel(key, strength, width=width, size=SIZE, shift=shift),
        (0, None, None, None),
    )
)


@pytest.mark.parametrize("width", [1.5, 2.0, 3.0])
def test_in_clear_air_the_spot_is_airys_disc(width):
    spot = np.asarray(spots(KEYS, 0.0, width, jnp.zeros(2)))[0]
    v = np.maximum(np.pi * 1.03 / width * np.hypot(RIGHT, DOWN), 1e-9)
    airy = (2 * scipy.special.j1(v) / v) ** 2
    np.testing.assert_allclose(spot, airy / airy.sum(), atol=0.01 * spot.max())
    # `width` is the full width at half maximum.
    half = spot[SIZE // 2, SIZE // 2 :] / spot.max()
    np.testing.assert_allclose(2 * np.interp(-0.5, -half[:6], np.arange(6)), width, rtol=0.12)


def test_spots_are_normalised_centred_and_wider_in_worse_air():
    spread = []
    for strength in (0.0, 0.5, 1.0, 2.0, 4.0):
        drawn = np.asarray(spots(KEYS, strength, 2.0, jnp.zeros(2)), np.float64)
        assert drawn.min() >= 0
        np.testing.assert_allclose(drawn.sum((1, 2)), 1, rtol=1e-5)
        np.testing.assert_allclose((drawn * RIGHT).sum((1, 2)), 0, atol=5e-3)
        np.testing.assert_allclose((drawn * DOWN).sum((1, 2)), 0, atol=5e-3)
        spread.append((drawn * (RIGHT**2 + DOWN**2)).sum((1, 2)).mean())
    assert all(b > a * 1.05 for a, b in itertools.pairwise(spread))
    assert np.abs(drawn[0] - drawn[1]).max() > 0.2 * drawn.max()  # each its own speckles


def test_the_spot_changes_little_in_little_wind():
    still, soon, later = (spots(KEYS, 2.0, 2.0, jnp.array([wind, 0.0])) for wind in (0.0, 0.02, 0.5))
    assert float(jnp.abs(soon - still).mean()) < 0.35 * float(jnp.abs(later - still).mean())
    assert float(jnp.abs(soon - still).max()) > 0
