import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax.models import layers, winograd


def exactly(x, kernel):
    """In float64."""
    around = np.pad(np.asarray(x, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(around, (3, 3), (1, 2))
    return np.einsum("bhwcij,ijcd->bhwd", windows, np.asarray(kernel, np.float64))


def exact_gradients(x, kernel, dy):
    around = np.pad(np.asarray(x, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(around, (3, 3), (1, 2))
    dkernel = np.einsum("bhwcij,bhwd->ijcd", windows, np.asarray(dy, np.float64))
    return exactly(dy, np.asarray(kernel)[::-1, ::-1].swapaxes(2, 3)), dkernel


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (2, 4, 4, 3), (3, 8, 12, 5), (1, 5, 7, 2), (2, 3, 16, 1)])
def test_it_is_the_convolution_and_its_gradients_at_any_size(noise, shape):
    x, kernel, dy = noise(*shape) - 0.3, noise(3, 3, shape[-1], 6, seed=1) - 0.5, noise(*shape[:3], 6, seed=2) - 0.5
    ours = winograd.forward(x, kernel), *winograd.backward(x, kernel, dy)
    for a, b in zip(ours, (exactly(x, kernel), *exact_gradients(x, kernel, dy)), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


def test_it_rounds_to_thrice_the_plain_sums_error(noise):
    x, kernel = noise(1, 64, 64, 64) - 0.5, noise(3, 3, 64, 64, seed=1) - 0.5
    exact = exactly(x, kernel)
    ours, plain = (np.std(f(x, kernel) - exact) for f in (winograd.forward, layers._convolve))
    assert ours < 3 * plain


def convolutions(function, *arguments):
    return jax.jit(function).lower(*arguments).as_text("hlo").count(" convolution(")


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere the platform's own are faster")
def test_a_cpu_learns_by_it_where_the_channels_are_many(noise):
    def gradients(x, kernel):
        y, back = jax.vjp(layers.dense, x, kernel)
        return y, back(y)

    x, kernel = noise(1, 8, 8, 16), noise(3, 3, 16, 24, seed=1)
    assert convolutions(gradients, x, kernel) == 0
    assert convolutions(layers.dense, x, kernel) == 1  # not where nothing is learned: exporters look for it
    assert convolutions(gradients, x[..., :15], kernel[:, :, :15]) == 2  # there and to x; the kernel's is a product
    assert convolutions(gradients, *(v.astype(jnp.bfloat16) for v in (x, kernel))) == 2
    assert convolutions(gradients, x, noise(5, 5, 16, 24)) == 2
