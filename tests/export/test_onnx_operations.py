"""Each operation as ONNX gives what JAX gives, for every size and for one; and moves no axes that need not move."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest

from deblur_jax.errors import UserError
from deblur_jax.export.onnx import convert
from deblur_jax.models import layers

CHANNELS = 8


def conv(x, kernel, strides=(1, 1), padding=((1, 1), (1, 1)), **options):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=numbers, **options)


def transposed(x, kernel, stride, padding, **options):
    return conv(x, kernel, padding=(padding, padding), lhs_dilation=(stride, stride), **options)


def normalised(x, axes, eps):
    mean = x.mean(axes, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(x.var(axes, keepdims=True) + eps)


def batch_normalised(v, x):
    kernel, (mean, deviation, scale, shift) = v
    return (conv(x, kernel) - mean) * jax.lax.rsqrt(deviation**2 + 1e-3) * scale + shift


def attention(v, x):
    """Over channels, as Restormer's, each half of them by itself."""
    b, h, w, c = x.shape
    tokens = x.reshape(b, h * w, 2, c // 2)
    weights = nn.softmax(jnp.einsum("bphc,bphd->bhcd", tokens, tokens) / 10)
    return jnp.einsum("bhcd,bphd->bphc", weights, tokens).reshape(b, h, w, c)


def halved(x):
    """PyTorch's bilinear halving, without antialiasing."""
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4


def arithmetic(v, x):
    y = jnp.sqrt(jnp.abs(x)) + jnp.exp(x) - jnp.log1p(jnp.abs(x)) * jnp.tanh(x) + x**3 - x**2.0 + jnp.expm1(x)
    return y + jnp.minimum(x, v) + jnp.floor(x) + jnp.ceil(x) + jnp.round(x) + jnp.sign(x) * jnp.sin(x) - jnp.cos(x)


# name: the function of parameters and pictures, the parameters' shapes, what sides are multiples of, how many nodes
# beside the transposition at each end
ONE, NONE = 1, 0
OPERATIONS = {
    "stride 2": (lambda v, x: conv(x, v, (2, 2)), (3, 3, 8, 5), 2, ONE),
    "stride 2, even kernel": (lambda v, x: conv(x, v, (2, 2)), (4, 4, 8, 5), 2, ONE),
    "dilated": (lambda v, x: conv(x, v, (1, 1), ((2, 2), (2, 2)), rhs_dilation=(2, 2)), (3, 3, 8, 5), 1, ONE),
    "grouped": (lambda v, x: conv(x, v, feature_group_count=4), (3, 3, 2, 12), 1, ONE),
    "padded unevenly": (lambda v, x: conv(x, v, (1, 1), ((0, 1), (1, 2))), (3, 3, 8, 5), 1, ONE),
    "depthwise": (lambda v, x: layers.depthwise(x, v), (3, 3, 1, 8), 1, ONE),
    "pointwise": (lambda v, x: layers.pointwise(x, v), (1, 1, 8, 5), 1, ONE),
    "matrix product": (lambda v, x: x @ v[:8] + v[8], (9, 5), 1, ONE),
    "matrix product, transposed": (lambda v, x: jnp.einsum("bhwc,dc->bhwd", x, v) + 1, (5, 8), 1, ONE),
    "transposed": (lambda v, x: transposed(x, v, 2, (1, 2)), (3, 3, 8, 6), 1, ONE),
    "transposed, even kernel": (lambda v, x: transposed(x, v, 2, (2, 2)), (4, 4, 8, 6), 1, ONE),
    "transposed, groups": (lambda v, x: transposed(x, v, 2, (1, 1), feature_group_count=2), (2, 2, 4, 6), 1, ONE),
    "transposed by 3": (lambda v, x: transposed(x, v, 3, (4, 5)) + v[0, 0, 0], (5, 5, 8, 6), 1, ONE),
    "depth to space": (lambda v, x: layers.depth_to_space(x, 2), (1,), 1, ONE),
    "space to depth": (lambda v, x: layers.space_to_depth(x, 2), (1,), 2, ONE),
    "area mean": (lambda v, x: layers.area_mean(x, 4), (1,), 4, ONE),
    "pyramid": (lambda v, x: layers.pyramid(x, 3)[2], (1,), 4, ONE),
    "bilinear to half": (lambda v, x: halved(x), (1,), 2, ONE),
    "nearest to half": (lambda v, x: jax.lax.slice(x, (0, 0, 0, 0), x.shape, (1, 2, 2, 1)), (1,), 2, ONE),
    "nearest to double": (lambda v, x: jnp.repeat(jnp.repeat(x, 2, 1), 2, 2), (1,), 1, None),
    "bilinear to double": (lambda v, x: layers.double(x), (1,), 1, ONE),
    "bilinear to double, of halves": (lambda v, x: layers.double(conv(x, v, (2, 2))), (3, 3, 8, 5), 2, 2),
    "max pool": (lambda v, x: nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))), (1,), 2, ONE),
    "average pool": (lambda v, x: nn.avg_pool(x, (2, 2), (2, 2)), (1,), 2, ONE),
    "sum pool": (lambda v, x: 4 * halved(x), (1,), 2, 2),
    "GELU": (lambda v, x: nn.gelu(x, approximate=False), (1,), 1, 6),
    "GELU by tanh": (lambda v, x: nn.gelu(x), (1,), 1, 8),
    "SiLU": (lambda v, x: nn.silu(x), (1,), 1, 2),
    "ReLU": (lambda v, x: nn.relu(x), (1,), 1, ONE),
    "leaky ReLU": (lambda v, x: nn.leaky_relu(x, 0.2), (1,), 1, 3),
    "ELU": (lambda v, x: nn.elu(x), (1,), 1, None),
    "PReLU": (lambda v, x: jnp.where(x > 0, x, v * x), (8,), 1, 3),
    "softplus": (lambda v, x: nn.softplus(x), (1,), 1, None),
    "layer norm": (lambda v, x: normalised(x, -1, 1e-6) * v, (8,), 1, 9),
    "Flax's layer norm": (lambda v, x: nn.LayerNorm().apply({"params": {"scale": v, "bias": v}}, x), (8,), 1, None),
    "layer norm without bias": (lambda v, x: x / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5) * v, (8,), 1, 8),
    "instance norm": (lambda v, x: normalised(x, (1, 2), 1e-5) * v, (8,), 1, 9),
    "batch norm by this batch": (lambda v, x: normalised(x, (0, 1, 2), 1e-5) * v, (8,), 1, 9),
    "batch norm": (batch_normalised, ((3, 3, 8, 8), (4, 8)), 1, ONE),
    "squeeze and excite": (lambda v, x: x * nn.sigmoid(x.mean((1, 2), keepdims=True) @ v), (8, 8), 1, 4),
    "simple gate": (lambda v, x: x[..., :4] * x[..., 4:], (1,), 1, 3),
    "gate of two parts": (lambda v, x: functools.reduce(jnp.multiply, jnp.split(x, 2, -1)), (1,), 1, 3),
    "attention": (attention, (1,), 1, None),
    "mean and maximum": (lambda v, x: jnp.stack([x.max(-1), x.mean(-1)], -1), (1,), 1, 3),
    "mean of all": (lambda v, x: x - x.mean(), (1,), 1, 2),
    "reflected": (lambda v, x: jnp.pad(x, ((0, 0), (2, 2), (3, 3), (0, 0)), mode="reflect"), (1,), 4, 12),
    "repeated at the border": (lambda v, x: jnp.pad(x, ((0, 0), (2, 1), (0, 3), (0, 0)), mode="edge"), (1,), 4, None),
    "zeros at the border": (lambda v, x: jnp.pad(x, ((0, 0), (2, 1), (0, 3), (0, 0))), (1,), 1, ONE),
    "crop": (lambda v, x: x[:, 1:-1, 2:, :], (1,), 4, ONE),
    "flip": (lambda v, x: jax.lax.rev(x, (1,)), (1,), 4, ONE),
    "joined with a constant": (lambda v, x: jnp.concatenate([x, jnp.broadcast_to(v, x.shape)], -1), (8,), 1, None),
    "clip": (lambda v, x: jnp.clip(x, -0.5, 0.5), (1,), 1, 2),
    "arithmetic": (arithmetic, (8,), 1, None),
    "choices": (lambda v, x: jnp.where((x > 0.1) & ~(x > v) | (x == 0), x, -x), (8,), 1, None),
    "rows and columns swapped": (lambda v, x: x.transpose(0, 2, 1, 3), (1,), 1, ONE),
    "no picture": (lambda v, x: x.mean((1, 2)) @ v, (8, 3), 1, None),
    "as it is": (lambda v, x: x, (1,), 1, NONE),
    "nothing of it": (lambda v, x: jnp.zeros_like(x), (1,), 1, None),
}  # fmt: skip


def drawn(shape, generator):
    if isinstance(shape[0], tuple):
        return tuple(drawn(s, generator) for s in shape)
    return jnp.asarray(generator.normal(size=shape) / 3, jnp.float32)


def run(model):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"picture": x})[0]


@pytest.mark.parametrize("name", OPERATIONS)
def test_as_in_jax(name):
    function, shapes, multiple, nodes = OPERATIONS[name]
    generator = np.random.default_rng(0)
    v = drawn(shapes, generator)
    sizes = [(n, multiple * h, multiple * w, CHANNELS) for n, h, w in ((2, 4, 6), (1, 5, 7))]
    pictures = [generator.normal(size=size).astype(np.float32) for size in sizes]
    any_size, least = convert(function, v, multiple=multiple, channels=CHANNELS)
    assert least == 1
    one_size, _ = convert(function, v, channels=CHANNELS, size=sizes[1][:3])
    runs = {None: run(any_size), sizes[1]: run(one_size)}
    for x in pictures:
        expected = np.asarray(jax.jit(function)(v, x))
        assert np.isfinite(expected).all()
        for given in (runs[None](x), runs[x.shape](x)) if x.shape in runs else (runs[None](x),):
            assert given.shape == expected.shape
            np.testing.assert_allclose(given, expected, atol=2e-6 * max(1.0, np.abs(expected).max()))
    if nodes is not None:
        kinds = [node.op_type for node in any_size.graph.node]
        assert len(kinds) == nodes + 2
        assert kinds.count("Transpose") == (3 if "swapped" in name else 2)


def test_what_cannot_be_written_names_the_operation_and_the_line():
    with pytest.raises(UserError, match=r"^sort \(.*test_onnx_operations\.py:\d+\): .* counterpart for this operation"):
        convert(lambda v, x: jnp.sort(x, -1), (), channels=CHANNELS)
    with pytest.raises(UserError, match=r"^iota \(.*jax\.lax\.slice"):
        convert(lambda v, x: x[:, ::2], (), channels=CHANNELS)


def test_small_pictures_that_a_border_cannot_be_reflected_in():
    """The least multiple of a side is found; what is smaller is not promised."""
    border = ((0, 0), (1, 1), (1, 1), (0, 0))
    model, least = convert(lambda v, x: jnp.pad(x, border, mode="reflect"), (), channels=CHANNELS)
    assert least == 2
    x = np.random.default_rng(0).normal(size=(1, 2, 3, CHANNELS)).astype(np.float32)
    np.testing.assert_array_equal(run(model)(x), np.pad(x, border, mode="reflect"))
