"""Shared pieces against PyTorch's numbers (single operations, recorded with torch 2.13) and by their laws."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax.models import layers

OPERATIONS = np.load(Path(__file__).parent / "torch-operations.npz")


def nhwc(x):
    return jnp.asarray(x.transpose(0, 2, 3, 1))


@pytest.mark.parametrize(("name", "size", "stride"), [("conv3s1p1", 3, 1), ("conv3s2p1", 3, 2), ("conv5s2p2", 5, 2)])
@pytest.mark.parametrize("parity", ["", "_odd"])
def test_convolutions_are_torchs(name, size, stride, parity):
    kernel = OPERATIONS[f"{name}.w"].transpose(2, 3, 1, 0)
    params = {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(OPERATIONS[f"{name}.b"])}
    ours = layers.Conv(8, size, stride).apply({"params": params}, nhwc(OPERATIONS[f"{name}.x{parity}"]))
    np.testing.assert_allclose(ours, nhwc(OPERATIONS[f"{name}.y{parity}"]), atol=2e-5)


def test_depthwise_is_torchs():
    kernel = jnp.asarray(OPERATIONS["dw3s1p1.w"].transpose(2, 3, 1, 0))
    ours = layers.depthwise(nhwc(OPERATIONS["dw3s1p1.x"]), kernel) + OPERATIONS["dw3s1p1.b"]
    np.testing.assert_allclose(ours, nhwc(OPERATIONS["dw3s1p1.y"]), atol=1e-5)


def test_double_is_jaxs_bilinear(noise):
    for shape in ((2, 5, 7, 3), (1, 1, 4, 2), (1, 1, 1, 1)):
        x = noise(*shape)
        expected = jax.image.resize(x, (shape[0], 2 * shape[1], 2 * shape[2], shape[3]), "bilinear")
        np.testing.assert_allclose(layers.double(x), expected, atol=1e-6)


@pytest.mark.parametrize("factor", [2, 4])
def test_enlarging_and_shrinking_are_jaxs_bilinear(noise, factor):
    for h, w in ((2, 3), (5, 4)):
        x = noise(2, factor * h, factor * w, 3)
        large, small = ((2, factor**2 * h, factor**2 * w, 3), (2, h, w, 3))
        np.testing.assert_allclose(layers.enlarge(x, factor), jax.image.resize(x, large, "bilinear"), atol=1e-6)
        np.testing.assert_allclose(layers.shrink(x, factor), jax.image.resize(x, small, "bilinear"), atol=1e-6)


def test_targets_are_the_picture_at_each_estimates_size(noise):
    x = noise(1, 9, 14, 3)
    full, half, quarter = layers.pyramid(x, 3)
    for target, level in zip(layers.targets(x, [half, full, quarter, full]), [half, full, quarter, full], strict=True):
        np.testing.assert_array_equal(target, level)


def test_depth_to_space_undoes_space_to_depth_and_is_torchs_but_for_the_channels_order(noise):
    x = noise(2, 8, 12, 3)
    np.testing.assert_array_equal(layers.depth_to_space(layers.space_to_depth(x, 4), 4), x)
    unshuffled = nhwc(OPERATIONS["pixel_unshuffle2.y"])
    reordered = unshuffled.reshape(*unshuffled.shape[:3], 3, 4).swapaxes(3, 4).reshape(unshuffled.shape)
    np.testing.assert_array_equal(layers.space_to_depth(nhwc(OPERATIONS["pixel_unshuffle2.x"]), 2), reordered)
    np.testing.assert_array_equal(layers.depth_to_space(reordered, 2), nhwc(OPERATIONS["pixel_unshuffle2.x"]))


OPERATORS = [(layers.depthwise, (5, 5, 1, 6)), (layers.pointwise, (1, 1, 6, 4))]


@pytest.mark.parametrize(("operator", "shape"), OPERATORS)
def test_each_platform_has_its_own_lowering(operator, shape):
    x, kernel = jax.ShapeDtypeStruct((1, 16, 16, 6), jnp.float32), jax.ShapeDtypeStruct(shape, jnp.float32)
    text = {
        platform: jax.jit(operator).trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
        for platform in ("cpu", "cuda", "tpu")
    }
    assert {platform: "stablehlo.convolution" in t for platform, t in text.items()} == {
        "cpu": False,
        "cuda": True,
        "tpu": True,
    }


@pytest.mark.parametrize(("operator", "shape"), OPERATORS)
def test_both_lowerings_agree_with_a_convolution_and_so_do_their_gradients(noise, operator, shape):
    x, kernel = noise(2, 9, 11, 6), noise(*shape, seed=1)

    def native(x, kernel):
        return layers._convolve(x, kernel, groups=6 if shape[2] == 1 else 1)

    np.testing.assert_allclose(operator(x, kernel), native(x, kernel), rtol=1e-5)
    ours, theirs = (jax.grad(lambda *a, f=f: (f(*a) ** 2).sum(), argnums=(0, 1))(x, kernel) for f in (operator, native))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)


@pytest.mark.parametrize(("size", "shape", "channels"), [(3, (2, 9, 11), 4), (5, (2, 1, 3), 4), (3, (2, 6, 5), 16)])
def test_a_dense_kernels_gradient_is_the_convolutions(noise, size, shape, channels):
    x, kernel = noise(*shape, channels), noise(size, size, channels, 16, seed=1)
    weight = noise(*shape, 16, seed=2)
    np.testing.assert_allclose(layers.dense(x, kernel), layers._convolve(x, kernel), rtol=1e-6)
    ours, theirs = (
        jax.jit(jax.grad(lambda *a, f=f: (weight * f(*a)).sum(), argnums=(0, 1)))(x, kernel)
        for f in (layers.dense, layers._convolve)
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (3, 1), (3, 2)])
def test_a_biases_gradient_is_the_sum(noise, size, stride):
    x, conv = noise(2, 6, 10, 4), layers.Conv(5, size, stride)
    params = conv.init(jax.random.key(0), x)
    weight = noise(2, 6 // stride, 10 // stride, 5, seed=1)
    gradient = jax.grad(lambda p: (weight * conv.apply(p, x)).sum())(params)["params"]["bias"]
    np.testing.assert_allclose(gradient, np.asarray(weight, np.float64).sum((0, 1, 2)), rtol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (3, 2), (4, 4), (17, 30), (2, 40)])
def test_padding_reflects_and_repeats_as_numpy_does(noise, size):
    x = noise(1, *size, 3)
    padded = layers.pad_to_multiple(x, 16)
    bottom, right = -size[0] % 16, -size[1] % 16
    expected = np.pad(np.asarray(x), ((0, 0), (0, bottom), (0, right), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(padded, expected)
    np.testing.assert_array_equal(layers.crop(padded, *size), x)


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (8, 12)])
def test_pyramid_levels_are_area_means_and_a_flat_picture_stays_flat_to_its_borders(noise, size):
    x = noise(1, *size, 3)
    full, half, quarter = layers.pyramid(x, 3)
    assert [level.shape[1:3] for level in (full, half, quarter)] == [
        (-(-size[0] // f), -(-size[1] // f)) for f in (1, 2, 4)
    ]
    np.testing.assert_array_equal(full, x)
    if size == (8, 12):
        np.testing.assert_allclose(half[0, 1, 2], x[0, 2:4, 4:6].mean((0, 1)), rtol=1e-6)
        np.testing.assert_allclose(quarter[0, 1, 2], x[0, 4:8, 8:12].mean((0, 1)), rtol=1e-6)
    for level in layers.pyramid(jnp.full((1, *size, 3), 0.75), 3):
        np.testing.assert_allclose(level, 0.75, rtol=1e-6)
