"""Sizes, borders, precision, the ablation switches, and how it starts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax.errors import UserError
from deblur_jax.metrics import psnr
from deblur_jax.models import facts, layers
from deblur_jax.models.multiscale import MultiScale, MultiScaleConfig

TINY = MultiScaleConfig(widths=(6, 8, 10), blocks=(1, 2, 1))
PICTURE = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)


def shapes(config):
    """{parameter path: shape}"""
    tree = jax.eval_shape(MultiScale(config).init, jax.random.key(0), PICTURE)["params"]
    return {
        f"{layer}/{'/'.join(k.key for k in path)}": leaf.shape
        for layer, sub in tree.items()
        for path, leaf in jax.tree_util.tree_leaves_with_path(sub)
    }


def macs(config):
    module = MultiScale(config)
    return facts.count_macs(
        jax.make_jaxpr(module.apply)(jax.eval_shape(module.init, jax.random.key(0), PICTURE), PICTURE)
    )


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (30, 41), (32, 32)])
def test_any_size_comes_back_at_its_size(size, noise, random_variables):
    network, x = MultiScale(TINY), noise(2, *size, 3)
    variables = random_variables(network)
    estimates = jax.jit(lambda v, x: network.apply(v, x, train=True))(variables, x)
    assert [e.shape for e in estimates] == [(2, -(-size[0] // f), -(-size[1] // f), 3) for f in (1, 2, 4)]
    apply = jax.jit(network.apply)
    alone = apply(variables, x)
    np.testing.assert_allclose(alone, estimates[0], atol=1e-5)
    # An odd size is the reflected picture, cropped.
    reflected = np.pad(x, ((0, 0), (0, -size[0] % 4), (0, -size[1] % 4), (0, 0)), mode="reflect")
    whole = apply(variables, jnp.asarray(reflected))
    np.testing.assert_allclose(alone, whole[:, : size[0], : size[1]], atol=1e-5)


@pytest.mark.slow
def test_it_starts_near_the_identity_at_every_scale(photo, initialise):
    network = MultiScale(TINY)
    odd = photo[:, :33, :21]
    variables = initialise(network, odd)
    estimates = network.apply(variables, odd, train=True)
    for estimate, picture in zip(estimates, layers.pyramid(odd, 3), strict=True):
        assert psnr(estimate, picture)[0] > 35


def test_bf16_computes_near_float32_with_float32_parameters_and_output(noise, random_variables):
    x, variables = noise(1, 32, 32, 3), random_variables(MultiScale(TINY))
    exact = jax.jit(MultiScale(TINY).apply)(variables, x)
    rounded = jax.jit(MultiScale(TINY, dtype=jnp.bfloat16).apply)(variables, x)
    assert rounded.dtype == jnp.float32
    error = float(jnp.abs(rounded - exact).max() / jnp.abs(exact).max())
    assert 1e-5 < error < 0.03  # different, so bf16 was used; near, so nothing broke


def test_batch_and_height_spread_over_eight_devices_give_the_same(noise, random_variables):
    network, x = MultiScale(TINY), noise(4, 64, 32, 3)
    variables = random_variables(network)
    mesh = jax.make_mesh((4, 2), ("data", "space"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    spread = jax.device_put(x, jax.NamedSharding(mesh, jax.P("data", "space")))
    ours = jax.jit(network.apply)(variables, spread)
    assert len(ours.sharding.device_set) == 8
    np.testing.assert_allclose(ours, jax.jit(network.apply)(variables, x), atol=1e-5)


# --- Switches: each changes what it should, and that alone --------------------------------------------------


def test_switch_widths_and_blocks():
    wider = shapes(dataclasses.replace(TINY, widths=(6, 8, 12)))
    assert wider["scale2_block0/conv1/kernel"] == (3, 3, 12, 12)
    assert wider["scale1_block0/conv1/kernel"] == shapes(TINY)["scale1_block0/conv1/kernel"]
    added = set(shapes(dataclasses.replace(TINY, blocks=(1, 3, 1)))) - set(shapes(TINY))
    assert {path.split("/")[0] for path in added} == {"scale1_block2"}


def test_switch_kernel_size():
    large = shapes(dataclasses.replace(TINY, kernel_size=5))
    assert large["scale0_head/kernel"][:2] == large["scale0_block0/conv2/kernel"][:2] == (5, 5)


@pytest.mark.parametrize("scales", [1, 2])
def test_switch_scales(scales, noise, random_variables):
    config = dataclasses.replace(TINY, scales=scales)
    assert config.multiple_of == 2 ** (scales - 1)
    assert len(MultiScale(config).apply(random_variables(MultiScale(config)), noise(1, 8, 8, 3), train=True)) == scales
    fewer, all_three = shapes(config), shapes(TINY)
    assert not any(path.startswith(f"scale{scales}") for path in fewer)
    assert fewer["scale0_head/kernel"][2] == (3 if scales == 1 else 6)
    assert set(fewer) < set(all_three)


def test_switch_passes_features(noise, random_variables):
    config = dataclasses.replace(TINY, passes="features")
    assert shapes(config)["scale2_up/kernel"] == (1, 1, 10, 4 * 8)
    assert shapes(config)["scale1_head/kernel"] == (3, 3, 3 + 8, 8)
    # The coarse estimate is then an output only: its last layer has no say in the fine one.
    for switched, says in ((config, False), (TINY, True)):
        network = MultiScale(switched)
        variables = random_variables(network)
        without = jax.tree.map(lambda x: x, variables)
        without["params"]["scale2_tail"]["bias"] += 0.5
        x = noise(1, 16, 16, 3)
        assert bool(jnp.any(network.apply(variables, x) != network.apply(without, x))) == says


def test_switch_sobel_input(random_variables):
    config = dataclasses.replace(TINY, sobel_input=True)
    assert [shapes(config)[f"scale{s}_head/kernel"][2] for s in range(3)] == [7, 7, 4]
    network = MultiScale(dataclasses.replace(config, scales=1))
    variables = random_variables(network)
    variables["params"]["scale0_head"]["kernel"] = variables["params"]["scale0_head"]["kernel"].at[:, :, :3].set(0)
    flat, edge = jnp.full((1, 16, 16, 3), 0.5), jnp.full((1, 16, 16, 3), 0.5).at[:, :, 8:].set(0.9)
    change = jnp.abs((network.apply(variables, edge) - edge) - (network.apply(variables, flat) - flat)).max((0, 1, 3))
    assert change[8] > 1e-3  # it sees nothing but the edge
    np.testing.assert_array_equal(change[:2], 0)


def test_switch_global_residual(noise, random_variables):
    config = dataclasses.replace(TINY, global_residual=False)
    variables, x = random_variables(MultiScale(TINY)), noise(1, 16, 16, 3)
    silent = jax.tree.map(jnp.zeros_like, variables)
    np.testing.assert_allclose(MultiScale(TINY).apply(silent, x), x, atol=1e-6)
    np.testing.assert_allclose(MultiScale(config).apply(silent, x), 0.5)
    assert macs(config) == macs(TINY)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scales": 4}, "4 scales need"),
        ({"scales": 0}, "0 scales need"),
        ({"kernel_size": 4}, "must be odd"),
        ({"kernel_size": -1}, "must be odd"),
        ({"widths": (6, 0, 10)}, "must be positive"),
        ({"passes": "both"}, "'picture' or 'features'|Literal"),
    ],
)
def test_impossible_configurations_are_refused(change, message):
    # (In tests the type check may speak first.)
    with pytest.raises((UserError, TypeError), match=message):
        dataclasses.replace(TINY, **change)
