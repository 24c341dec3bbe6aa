import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax.filters import brightened, darkened, darkness
from deblur_jax.filters.dark import MEDIAN


@pytest.mark.parametrize("median", [0.03, 0.08, 0.14])
def test_the_median_comes_to_where_pictures_are_bright(median):
    d = darkness(jnp.full((1,), median))
    np.testing.assert_allclose(brightened(jnp.full((1, 1, 1, 1), median), d), MEDIAN, atol=1e-6)


def test_bright_pictures_stay_to_the_bit(noise):
    bright = jnp.concatenate([noise(1, 8, 9, 3), noise(1, 8, 9, 3)])
    none = darkness(jnp.array([MEDIAN, 1.0]))
    np.testing.assert_array_equal(none, 0.0)
    np.testing.assert_array_equal(brightened(bright, none), bright)
    np.testing.assert_array_equal(darkened(bright - 0.5, none), bright - 0.5)


def test_as_far_as_the_square_root(noise):
    x = noise(1, 8, 9, 3)
    np.testing.assert_allclose(brightened(x, darkness(jnp.zeros(1))), np.sqrt(x), atol=1e-6)


@pytest.mark.parametrize("dark", [1e-4, 0.1, 0.6, 1.0])
def test_back_is_where_it_came_from(dark):
    x = jnp.linspace(0.0, 1.0, 256).reshape(1, 16, 16, 1)
    d = jnp.full((1,), dark)
    seen = brightened(x, d)
    assert (jnp.diff(seen.ravel()) > 0).all()
    np.testing.assert_allclose(seen[0, [0, -1], [0, -1], 0], [0.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(darkened(seen, d), x, atol=1e-6)
    np.testing.assert_allclose(darkened(-seen, d), -x, atol=1e-6)  # a network's answer may be below black


def test_gradients_are_finite_at_black():
    flat = jax.grad(lambda y: darkened(y, jnp.array([0.0, 0.5])).sum())(jnp.zeros((2, 2, 2, 3)))
    np.testing.assert_array_equal(flat[0], 1.0)
    np.testing.assert_array_equal(flat[1], 0.0)
