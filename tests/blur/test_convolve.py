"""The forward model: FFT, direct and SciPy's agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from deblur_jax import blur


@pytest.mark.parametrize("size", [(40, 53), (6, 9), (1, 1)])
@pytest.mark.parametrize("kernel_size", [1, 7, 15])
def test_fft_and_direct_are_scipys_each_picture_with_its_kernel(noise, size, kernel_size):
    x, kernels = noise(2, *size, 3), noise(2, kernel_size, kernel_size, seed=1)
    kernels /= kernels.sum((1, 2), keepdims=True)
    direct, fft = blur.convolve(x, kernels), blur.convolve_fft(x, kernels)
    np.testing.assert_allclose(direct, fft, atol=1e-5)
    for picture, kernel, blurred in zip(x, kernels, direct, strict=True):
        for channel in range(3):
            extended = np.pad(picture[..., channel], kernel_size // 2, mode="reflect")
            theirs = scipy.ndimage.convolve(extended, np.asarray(kernel))
            r = kernel_size // 2
            np.testing.assert_allclose(blurred[..., channel], theirs[r : r + size[0], r : r + size[1]], atol=1e-5)


@pytest.mark.parametrize("function", [blur.convolve, blur.convolve_fft])
def test_a_flat_picture_stays_flat_and_a_point_becomes_the_kernel(function, noise):
    kernel = noise(1, 5, 5) / noise(1, 5, 5).sum()
    np.testing.assert_allclose(function(jnp.full((1, 12, 14, 3), 0.3), kernel), 0.3, rtol=1e-5)
    point = jnp.zeros((1, 15, 15, 1)).at[0, 7, 7].set(1.0)
    np.testing.assert_allclose(function(point, kernel)[0, 5:10, 5:10, 0], kernel[0], atol=1e-6)
    assert np.isfinite(jax.grad(lambda x: function(x, kernel).sum())(point)).all()
