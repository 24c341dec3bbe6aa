"""Against plain NumPy that says each piece in its own way."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax.errors import UserError
from deblur_jax.losses import objective
from deblur_jax.models import layers, zoo
from deblur_jax.models.maxim import (
    ChannelBlock,
    CrossGating,
    GatedMlp,
    Maxim,
    MaximConfig,
    SpatialMix,
    checkpoint_names,
    config_of,
    tfjs_names,
    without_coarse_outputs,
)

TINY = MaximConfig(features=4, stages=2, depth=2, scales=2, groups=1, bottlenecks=1, windows=(2, 2), reduction=2)

SMALL = dataclasses.replace(TINY, stages=1, depth=1, scales=1, windows=(2,))


@pytest.fixture(scope="module")
def variables():
    shapes = jax.eval_shape(Maxim(TINY).init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    return filled(shapes)


def filled(shapes, seed=0):
    generator = np.random.default_rng(seed)

    def draw(leaf):
        return jnp.asarray(
            generator.normal(size=leaf.shape) / math.sqrt(max(1, math.prod(leaf.shape[:-1]))), leaf.dtype
        )

    return jax.tree.map(draw, shapes)


def of(module, *inputs):
    """The module's output, and its parameters as NumPy has them."""
    variables = filled(jax.eval_shape(module.init, jax.random.key(0), *inputs))
    return jax.jit(module.apply)(variables, *inputs), jax.tree.map(np.asarray, variables["params"])


# --- The same in NumPy, position by position ----------------------------------------------------------------


def np_norm(x, p):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]


def np_dense(x, p):
    return x @ p["kernel"] + p["bias"]


def np_gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def np_mix(x, p, side, axis):
    """Of each block its pixels, or of each place in the cells the pixels there, row by row."""
    _, h, w, _ = x.shape
    mixed = np.zeros_like(x)
    if axis == "block":
        corners = [(y, z) for y in range(0, h, side) for z in range(0, w, side)]
        groups = [[(y + i, z + j) for i in range(side) for j in range(side)] for y, z in corners]
    else:
        cell = h // side, w // side
        places = [(y, z) for y in range(cell[0]) for z in range(cell[1])]
        groups = [[(y + i * cell[0], z + j * cell[1]) for i in range(side) for j in range(side)] for y, z in places]
    for group in groups:
        rows, columns = map(list, zip(*group, strict=True))
        mixed[:, rows, columns] = np.einsum("bgc,gk->bkc", x[:, rows, columns], p["kernel"]) + p["bias"][:, None]
    return mixed


def np_conv(x, p):
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    h, w = x.shape[1:3]
    return sum(padded[:, i : i + h, j : j + w] @ p["kernel"][i, j] for i in range(3) for j in range(3)) + p["bias"]


def np_sigmoid(x):
    return 1 / (1 + np.exp(-x))


def np_spatial_gate(x, p, side):
    y = np_gelu(np_dense(np_norm(x, p["norm"]), p["expand"]))
    half = y.shape[-1] // 2
    grid, block = np_mix(y[..., :half], p["grid"], side, "grid"), np_mix(y[..., half:], p["block"], side, "block")
    return np_dense(np.concatenate([grid, block], -1), p["project"])


@pytest.mark.parametrize("axis", ["grid", "block"])
def test_pixels_mix_within_blocks_or_over_the_grid(noise, axis):
    x = noise(2, 8, 12, 3)
    ours, p = of(SpatialMix(4, axis, 1.0, jnp.float32), x)
    np.testing.assert_allclose(ours, np_mix(np.asarray(x), p, 4, axis), atol=1e-5)


def test_a_gated_mlp(noise):
    x = noise(1, 8, 4, 6)
    ours, p = of(GatedMlp(2, "grid", jnp.float32), x)
    y = np_gelu(np_dense(np_norm(np.asarray(x), p["norm"]), p["expand"]))
    passing, gate = y[..., :6], y[..., 6:]
    gated = passing * (np_mix(np_norm(gate, p["gate_norm"]), p["mix"], 2, "grid") + 1)
    np.testing.assert_allclose(ours, x + np_dense(gated, p["project"]), atol=1e-5)


def test_a_channel_attention_block(noise):
    x = noise(1, 5, 6, 8)
    ours, p = of(ChannelBlock(4, "convolutions", jnp.float32), x)
    y = np_conv(np_norm(np.asarray(x), p["norm"]), p["conv1"])
    y = np_conv(np.where(y > 0, y, 0.2 * y), p["conv2"])
    weights = np.maximum(np_dense(y.mean((1, 2), keepdims=True), p["squeeze"]), 0)
    np.testing.assert_allclose(ours, x + y * np_sigmoid(np_dense(weights, p["excite"])), atol=1e-5)


def test_cross_gating(noise):
    x, y = noise(1, 8, 4, 3), noise(1, 8, 4, 5, seed=1)
    (ours, passed), p = of(CrossGating(6, 2, jnp.float32), x, y)
    short_x, short_y = np_dense(np.asarray(x), p["x_in"]), np_dense(np.asarray(y), p["y_in"])
    wide_x = np_gelu(np_dense(np_norm(short_x, p["x_norm"]), p["x_expand"]))
    wide_y = np_gelu(np_dense(np_norm(short_y, p["y_norm"]), p["y_expand"]))
    gate_x, gate_y = np_spatial_gate(wide_x, p["x_gate"], 2), np_spatial_gate(wide_y, p["y_gate"], 2)
    new_y = np_dense(wide_y * gate_x, p["y_project"]) + short_y
    new_x = np_dense(wide_x * gate_y, p["x_project"]) + new_y + short_x
    np.testing.assert_allclose(passed, new_y, atol=1e-5)
    np.testing.assert_allclose(ours, new_x, atol=1e-5)


# --- The whole network --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_sizes_that_are_no_multiple_are_padded_by_reflection(noise):
    x, apply = noise(1, 3, 7, 3), jax.jit(Maxim(SMALL).apply)
    variables = filled(jax.eval_shape(Maxim(SMALL).init, jax.random.key(0), x))
    padded = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)), mode="reflect")
    assert SMALL.multiple_of == 4
    np.testing.assert_allclose(apply(variables, x), apply(variables, padded)[:, :3, :7], atol=1e-5)
    np.testing.assert_allclose(apply(variables, padded), Maxim(SMALL).apply(variables, padded), atol=1e-5)


def test_every_stage_restores_every_size_in_training(variables, noise):
    x = noise(2, 7, 16, 3)
    every = jax.jit(Maxim(TINY).apply, static_argnames="train")(variables, x, train=True)
    assert [e.shape[1:3] for e in every] == [(7, 16), (4, 8)] * 2
    assert all(e.dtype == jnp.float32 for e in every)
    for estimate, target in zip(every, layers.targets(x, every), strict=True):
        np.testing.assert_array_equal(target, layers.pyramid(x, 2)[0 if estimate.shape[1] == 7 else 1])


@pytest.mark.slow
def test_deployed_it_lacks_what_only_training_looks_at(variables, noise):
    x = noise(1, 8, 8, 3)
    kept = without_coarse_outputs(variables["params"])
    assert set(variables["params"]) - set(kept) == {"stage1_output1"}
    every = jax.jit(lambda params: Maxim(TINY.merged()).apply({"params": params}, x, train=True))(kept)
    np.testing.assert_allclose(jax.jit(Maxim(TINY).apply)(variables, x), every[0], atol=1e-6)
    assert [e.shape[1] for e in every] == [8, 8, 4]


@pytest.mark.slow
@pytest.mark.parametrize("remat", [False, True])
def test_every_parameter_gets_a_finite_gradient(variables, noise, remat):
    x, module = noise(1, 8, 8, 3), Maxim(TINY, remat=remat)

    def loss(params):
        every = module.apply({"params": params}, x, train=True)
        return objective(every, layers.targets(1 - x, every), weights={"charbonnier": 1.0})[0]

    gradient = jax.jit(jax.grad(loss))(variables["params"])
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.isfinite(leaf).all(), path
        # With two channels inside of channel attention its ReLUs can all be off.
        assert np.any(leaf) or path[-2].key in ("squeeze", "excite"), path


def test_half_precision_computes_and_gives_float32(noise):
    module, x = Maxim(SMALL, dtype=jnp.bfloat16), noise(1, 4, 4, 3)
    restored = jax.jit(module.apply)(filled(jax.eval_shape(module.init, jax.random.key(0), x)), x)
    assert restored.dtype == jnp.float32
    assert np.isfinite(restored).all()


def test_as_initialised_it_gives_back_the_picture(initialise, noise):
    x = noise(1, 4, 4, 3)
    np.testing.assert_allclose(jax.jit(Maxim(SMALL).apply)(initialise(Maxim(SMALL), x), x), x, atol=0.1)


# --- Sizes and names ----------------------------------------------------------------------------------------


def test_the_published_sizes():
    assert [MaximConfig.s1().stages, MaximConfig.s2().stages, MaximConfig.s3().stages] == [1, 2, 3]
    assert MaximConfig.s3().multiple_of == 64
    assert zoo.get("maxim").config == MaximConfig.s3()


@pytest.mark.parametrize(
    "wrong", [{"windows": (16, 16)}, {"scales": 4}, {"features": 0}, {"features": 30}, {"bottlenecks": -1}]
)
def test_configurations_that_cannot_be_are_refused(wrong):
    with pytest.raises(UserError):
        dataclasses.replace(MaximConfig(), **wrong)


def test_every_parameter_has_one_name_of_the_authors(variables):
    paths = {"/".join(k.key for k in path) for path, _ in jax.tree_util.tree_leaves_with_path(variables["params"])}
    for names in (checkpoint_names(TINY), tfjs_names(TINY)):
        assert set(names) == paths
        assert len(set(names.values())) == len(paths)


def test_the_configuration_is_seen_from_the_lengths_of_biases(variables):
    flat = {
        "/".join(k.key for k in path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"])
    }
    names = checkpoint_names(TINY)
    lengths = {names[path].removesuffix("/bias"): leaf.size for path, leaf in flat.items() if path.endswith("/bias")}
    assert config_of(lengths) == TINY
    assert config_of({name: n for name, n in lengths.items() if "stage_1_output_conv_1" not in name}) == TINY.merged()
    assert config_of({"head": 8}) is None
