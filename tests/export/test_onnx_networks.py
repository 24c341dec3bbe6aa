"""The networks as ONNX: equal, readable, and without a transposition that nobody asked for."""

import collections

import jax
import numpy as np
import onnx
import onnxruntime
import pytest

from deblur_jax import weights
from deblur_jax.export.onnx import convert
from deblur_jax.models import zoo
from deblur_jax.models.maxim import Maxim, MaximConfig

TINY = {"widths": (4, 6, 8), "blocks": (1, 1, 1)}
NETWORKS = {
    "nano": ("nano", {"widths": (6, 8), "down_blocks": (1,), "middle_blocks": 1, "up_blocks": (1,)}, 20),
    "small": ("small", TINY, 36),
    "features": ("small", {**TINY, "passes": "features"}, 30),
    "sobel": ("small", {**TINY, "sobel_input": True}, None),
    "no residual": ("small", {**TINY, "global_residual": False, "scales": 2}, 20),
    "one scale": ("small", {**TINY, "scales": 1, "kernel_size": 5}, 10),
    "deepdeblur": ("deepdeblur", {"blocks": 1, "features": 4}, None),
}


def run(model, x):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"picture": x})[0]


def kinds(model):
    return collections.Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("name", NETWORKS)
def test_equal(name, random_variables):
    base, fields, nodes = NETWORKS[name]
    entry = zoo.get(base).varied(**fields)
    module, multiple = entry.deployed(), entry.config.multiple_of
    variables = random_variables(module)
    model, least = convert(module.apply, variables, multiple=multiple)
    apply = jax.jit(module.apply)
    for n, h, w in ((1, least, least), (2, 3, 5)):
        x = np.random.default_rng(n).random((n, multiple * h, multiple * w, 3), np.float32)
        expected = np.asarray(apply(variables, x))
        assert np.abs(expected - x).max() > 0.1
        np.testing.assert_allclose(run(model, x), expected, atol=5e-6 * np.abs(expected).max())
    found = kinds(model)
    assert found["Transpose"] == 2
    assert found["Cast"] == 0
    assert nodes in (None, found.total())


@pytest.mark.slow
def test_maxim_is_equal_for_any_size():
    """Its blocks and grids take axes apart, which transposes."""
    config = MaximConfig(features=4, stages=1, depth=2, scales=2, groups=1, bottlenecks=1, windows=(4, 2), reduction=2)
    module, multiple = Maxim(config.merged()), config.multiple_of
    shapes = jax.eval_shape(module.init, jax.random.key(0), np.zeros((1, multiple, multiple, 3), np.float32))
    generator = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda s: (generator.normal(size=s.shape) / np.sqrt(max(1, np.prod(s.shape[:-1])))).astype(np.float32), shapes
    )
    model, least = convert(module.apply, variables, multiple=multiple)
    assert least == 1
    for shape in ((1, multiple, multiple, 3), (2, 3 * multiple, 2 * multiple, 3)):
        x = generator.random(shape, np.float32)
        expected = np.asarray(jax.jit(module.apply)(variables, x))
        np.testing.assert_allclose(run(model, x), expected, atol=1e-5 * np.abs(expected).max())


@pytest.fixture
def tiny(random_variables):
    """Its function, compiled, and parameters."""
    module = zoo.get("nano").varied(**NETWORKS["nano"][1]).deployed()
    return jax.jit(module.apply), random_variables(module)


def test_channels_first_outside_too(tiny):
    apply, variables = tiny
    model, _ = convert(apply, variables, multiple=8, layout="nchw")
    assert kinds(model)["Transpose"] == 0
    x = np.random.default_rng(0).random((1, 16, 24, 3), np.float32)
    expected = np.asarray(apply(variables, x)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(run(model, x.transpose(0, 3, 1, 2)), expected, atol=2e-5)


def test_whole_numbers_outside(tiny):
    apply, variables = tiny
    model, _ = convert(apply, variables, multiple=8, whole_numbers=True)
    x = np.random.default_rng(0).integers(0, 256, (1, 16, 24, 3), np.uint8)
    expected = np.asarray(apply(variables, (x / np.float32(255))))
    restored = run(model, x)
    assert restored.dtype == np.uint8
    assert expected.min() < 0
    assert expected.max() > 1
    exact = 255 * np.clip(expected, 0, 1)
    assert np.abs(restored - exact).max() < 0.501
    assert kinds(model)["Cast"] == 2


def test_one_size(tiny):
    apply, variables = tiny
    model, _ = convert(apply, variables, size=(1, 16, 24))
    sizes = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == [1, 16, 24, 3]
    x = np.random.default_rng(0).random((1, 16, 24, 3), np.float32)
    np.testing.assert_allclose(run(model, x), np.asarray(apply(variables, x)), atol=2e-5)


def test_nano_as_it_ships():
    """40 nodes with names that say where they belong; versions that older runtimes read."""
    loaded = weights.resolve("nano")
    model, least = convert(loaded.entry.deployed().apply, {"params": loaded.deployed()}, multiple=16)
    assert least == 1
    assert kinds(model) == {
        "Transpose": 2, "Sub": 1, "SpaceToDepth": 1, "Conv": 16, "Relu": 14, "DepthToSpace": 3, "Add": 3
    }  # fmt: skip
    nodes = {node.name: node for node in model.graph.node}
    assert list(nodes["up0_block1/Conv"].input) == [
        "up0_block0/Relu.out",
        "up0_block1/kernel",
        "up0_block1/bias",
    ]
    constants = {c.name: tuple(c.dims) for c in model.graph.initializer}
    assert constants["down0_out/kernel"] == (64, 48, 3, 3)
    assert (model.opset_import[0].version, model.ir_version) == (17, 8)
    onnx.checker.check_model(model, full_check=True)
    x = np.random.default_rng(0).random((1, 48, 80, 3), np.float32)
    expected = np.asarray(jax.jit(loaded.entry.deployed().apply)({"params": loaded.deployed()}, x))
    np.testing.assert_allclose(run(model, x), expected, atol=1e-5)
