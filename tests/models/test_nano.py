"""Merging, sizes, and that it learns from where it starts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from deblur_jax import filters, losses
from deblur_jax.errors import UserError
from deblur_jax.metrics import psnr
from deblur_jax.models import layers
from deblur_jax.models.nano import Nano, NanoConfig, merge

TINY = NanoConfig(widths=(6, 8), down_blocks=(1,), middle_blocks=2, up_blocks=(1,))


@pytest.mark.parametrize("features", [5, 6])
def test_the_one_kernel_is_the_sum_of_its_branches(features, noise):
    """Branch by branch with XLA's convolution; at the borders too."""
    x, block = noise(2, 9, 10, 5) - 0.5, layers.RepConv(features)
    params = jax.tree.map(
        lambda s: jnp.asarray(np.random.default_rng(0).normal(size=s.shape), jnp.float32),
        jax.eval_shape(block.init, jax.random.key(0), x)["params"],
    )
    branches = layers._convolve(x, params["kernel"]) + layers._convolve(x, params["point"])
    branches += layers._convolve(layers._convolve(x, params["expand"]), params["squeeze"]) + params["bias"]
    if features == 5:
        branches += x
    together = block.apply({"params": params}, x)
    np.testing.assert_allclose(together, branches, rtol=1e-5, atol=1e-5 * float(jnp.abs(branches).max()))


@pytest.mark.parametrize("config", [NanoConfig.nano(), TINY])
def test_the_merged_network_is_equal(config, photo, random_variables):
    trained = random_variables(Nano(config), scale=0.3)["params"]
    merged = merge(trained)
    shipped = jax.eval_shape(Nano(config.merged()).init, jax.random.key(0), photo)["params"]
    assert jax.tree.map(jnp.shape, merged) == jax.tree.map(jnp.shape, dict(shipped))
    before = jax.jit(Nano(config).apply)({"params": trained}, photo)
    after = jax.jit(Nano(config.merged()).apply)({"params": merged}, photo)
    assert float(jnp.abs(before - photo).max()) > 0.05  # it does something
    np.testing.assert_allclose(before, after, atol=1e-5)


def test_without_branches_it_begins_as_they_would_merged(photo):
    """From the first step on the deep levels get what the fine ones see; from plain kernels they learn less."""
    config = NanoConfig.nano()
    merged = merge(Nano(config).init(jax.random.key(0), photo[:, :32, :32])["params"])
    plain = Nano(config.merged()).init(jax.random.key(1), photo[:, :32, :32])["params"]
    for name, layer in merged.items():
        expected, kernel = (np.asarray(p["kernel"]) for p in (layer, plain[name]))
        assert np.sqrt(np.mean(kernel**2)) == pytest.approx(np.sqrt(np.mean(expected**2)), rel=0.15), name
        if "block" in name:
            centres = np.einsum("cc->c", kernel[1, 1])
            np.testing.assert_allclose(centres, 1.0, atol=0.15)


@pytest.mark.parametrize("size", [(1, 1), (1, 19), (16, 16), (33, 7)])
def test_any_size_comes_back_at_its_size(size, noise, random_variables):
    network, x = Nano(TINY), noise(1, *size, 3)
    variables = random_variables(network)
    restored = network.apply(variables, x)
    assert restored.shape == x.shape
    assert restored.dtype == jnp.float32
    (same,) = network.apply(variables, x, train=True)
    np.testing.assert_array_equal(restored, same)
    reflected = np.pad(x, ((0, 0), (0, -size[0] % 8), (0, -size[1] % 8), (0, 0)), mode="reflect")
    whole = network.apply(variables, jnp.asarray(reflected))
    np.testing.assert_allclose(restored, whole[:, : size[0], : size[1]], atol=1e-6)


def test_it_is_made_for_int8_and_browsers():
    """Only convolutions, ReLUs, additions and pixel shuffles, each in the form that exporters know."""
    network = Nano(NanoConfig.nano().merged())
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    graph = jax.make_jaxpr(network.apply)(jax.eval_shape(network.init, jax.random.key(0), x), x)
    found = set()
    for equation in graph.eqns:
        if equation.primitive.name in ("custom_jvp_call", "custom_vjp_call"):  # ReLU and convolution have their own
            equation = equation.params["call_jaxpr"].eqns[0]
        found.add(equation.params.get("name", equation.primitive.name))
    # A 1x1 convolution is a choice of lowerings: `cond` on the platform.
    assert found == {
        "conv_general_dilated", "relu", "add", "sub", "broadcast_in_dim", "cond", "platform_index",
        "depth_to_space", "space_to_depth",
    }  # fmt: skip


def test_every_convolution_but_the_first_and_the_last_reads_rectified_values(noise, random_variables, monkeypatch):
    network, least = Nano(TINY.merged()), []
    variables = random_variables(network)

    def record(name):
        original = getattr(layers, name)

        def recorded(x, *rest):
            least.append(float(x.min()))
            return original(x, *rest)

        monkeypatch.setattr(layers, name, recorded)

    record("_convolve")  # also of `dense`
    record("pointwise")
    network.apply(variables, noise(1, 32, 32, 3))
    assert len(least) == 8  # head, a block, down, two blocks, up, a block, tail
    assert least[0] < 0
    assert least[-1] < 0
    assert min(least[1:-1]) >= 0


def test_its_shape_is_configurable_and_an_impossible_one_refused():
    assert dataclasses.replace(TINY, unshuffle=2).multiple_of == 4
    assert NanoConfig(widths=(8,), down_blocks=(), middle_blocks=1, up_blocks=()).multiple_of == 4
    with pytest.raises(UserError, match="must be positive"):
        dataclasses.replace(TINY, unshuffle=0)
    with pytest.raises(UserError, match="2 levels need 1"):
        NanoConfig(widths=(8, 8), down_blocks=(1, 1), up_blocks=(1,))


@pytest.mark.slow
def test_it_starts_near_the_identity_and_learns(photo, initialise):
    """Small networks without normalisation die in their first steps unless they start right."""
    network, sharp = Nano(TINY), photo[:, :64, :64]
    blurred = filters.gaussian_blur(sharp, sigma=1.5)
    variables = initialise(network, blurred)
    assert psnr(network.apply(variables, blurred), blurred)[0] > 35
    optimiser = optax.adam(optax.linear_schedule(0.0, 3e-3, 30))

    @jax.jit
    def step(_, state):
        variables, moments = state

        def loss(variables):
            return losses.objective(network.apply(variables, blurred, train=True), (sharp,), weights={"l1": 1.0})[0]

        updates, moments = optimiser.update(jax.grad(loss)(variables), moments, variables)
        return optax.apply_updates(variables, updates), moments

    trained, _ = jax.lax.fori_loop(0, 150, step, (variables, optimiser.init(variables)))
    assert psnr(network.apply(trained, blurred), sharp)[0] > psnr(blurred, sharp)[0] + 1.0
