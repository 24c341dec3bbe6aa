"""The pieces that networks share.

Each operation has the lowering that is fastest on the platform it is compiled for: the compiler chooses,
there is no switch to set.
"""

import contextlib
import contextvars
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from deblur_jax.models import winograd

__all__ = [
    "Conv",
    "RepConv",
    "ResidualBlock",
    "area_mean",
    "crop",
    "dense",
    "depth_to_space",
    "depthwise",
    "double",
    "enlarge",
    "for_restoring",
    "in_turn",
    "pad_to_multiple",
    "pointwise",
    "pyramid",
    "shrink",
    "space_to_depth",
    "targets",
]

Dtype = jnp.dtype | type
Size = Any  # a number, or a symbol of one while a network is exported for any size


def _initializer(gain: float):
    """He et al. 2015, the variance times `gain`."""
    return nn.initializers.variance_scaling(2.0 * gain, "fan_in", "truncated_normal")


def _near_identity(gain: float):
    def initial(key: Array, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> Array:
        middle = shape[0] // 2, shape[1] // 2
        return _initializer(gain)(key, shape, dtype).at[middle].add(jnp.eye(*shape[2:], dtype=dtype))

    return initial


# --- Sizes and resolutions -------------------------------------------------------------------------------


def pad_to_multiple(x: Float[Array, "b h w c"], multiple: int) -> Float[Array, "b H W c"]:
    """Pads below and to the right by reflection until both sides are multiples; nothing if they are.

    Pictures smaller than the padding are reflected to and fro; a single row or column is repeated.
    """
    bottom, right = -x.shape[1] % multiple, -x.shape[2] % multiple
    if bottom == 0 and right == 0:
        return x
    return jnp.pad(x, ((0, 0), (0, bottom), (0, right), (0, 0)), mode="reflect")


def crop(x: Float[Array, "b H W c"], height: Size, width: Size) -> Float[Array, "b h w c"]:
    """The upper left part."""
    return x[:, :height, :width]


def area_mean(x: Float[Array, "b h w c"], factor: int) -> Float[Array, "b h//{factor} w//{factor} c"]:
    """Mean over blocks of factor x factor pixels."""
    b, h, w, c = x.shape
    return x.reshape(b, h // factor, factor, w // factor, factor, c).mean((2, 4))


def pyramid(x: Float[Array, "b h w c"], scales: int) -> tuple[Float[Array, "b _h _w c"], ...]:
    """The picture at full, half, quarter ... size by area means, reflected where a block is cut short."""
    h, w = x.shape[1:3]
    padded = pad_to_multiple(x, 2 ** (scales - 1))
    levels = [padded if s == 0 else area_mean(padded, 2**s) for s in range(scales)]
    return tuple(crop(level, -(-h // 2**s), -(-w // 2**s)) for s, level in enumerate(levels))


def targets(
    sharp: Float[Array, "b h w c"], estimates: Sequence[Float[Array, "b _h _w c"]]
) -> tuple[Float[Array, "b _h _w c"], ...]:
    """For each estimate, of any scale and in any order, the sharp picture at its size."""
    scales = 1 + max(round(math.log2(sharp.shape[1] / estimate.shape[1])) for estimate in estimates)
    levels = {level.shape[1:3]: level for level in pyramid(sharp, scales)}
    return tuple(levels[estimate.shape[1:3]] for estimate in estimates)


# Named jits stay one equation in a jaxpr, so that exporters find them. Channel order: row, column, channel
# (ONNX calls it DCR); PyTorch's pixel shuffle has channel, row, column, see `torch_weights`.


@functools.partial(jax.jit, static_argnames="factor")
def depth_to_space(x: Float[Array, "b h w d"], factor: int) -> Float[Array, "b H W c"]:
    """Pixel shuffle: factor x factor groups of channels become blocks of pixels."""
    b, h, w, d = x.shape
    blocks = x.reshape(b, h, w, factor, factor, d // factor**2)
    return blocks.swapaxes(2, 3).reshape(b, h * factor, w * factor, d // factor**2)


@functools.partial(jax.jit, static_argnames="factor")
def space_to_depth(x: Float[Array, "b h w c"], factor: int) -> Float[Array, "b H W d"]:
    """The inverse of `depth_to_space`."""
    b, h, w, c = x.shape
    blocks = x.reshape(b, h // factor, factor, w // factor, factor, c)
    return blocks.swapaxes(2, 3).reshape(b, h // factor, w // factor, factor**2 * c)


@functools.partial(jax.jit, static_argnames="factor")
def enlarge(x: Float[Array, "b h w c"], factor: int) -> Float[Array, "b H W c"]:
    """An even factor as high and wide, bilinear between the middles of pixels, as `jax.image.resize`; for any size."""
    for axis in (1, 2):
        size = x.shape[axis]
        first, last = (jax.lax.slice_in_dim(x, at, at + 1, axis=axis) for at in (0, size - 1))
        before = jnp.concatenate([first, jax.lax.slice_in_dim(x, 0, size - 1, axis=axis)], axis)
        after = jnp.concatenate([jax.lax.slice_in_dim(x, 1, size, axis=axis), last], axis)
        # Where the new pixels lie in the old one, from its middle.
        places = [(i + 0.5) / factor - 0.5 for i in range(factor)]
        phases = [(1 - abs(at)) * x + abs(at) * (before if at < 0 else after) for at in places]
        x = jnp.stack(phases, axis + 1).reshape(*x.shape[:axis], factor * size, *x.shape[axis + 1 :])
    return x


def double(x: Float[Array, "b h w c"]) -> Float[Array, "b H W c"]:
    """Twice as high and wide."""
    return enlarge(x, 2)


def shrink(x: Float[Array, "b h w c"], factor: int) -> Float[Array, "b h//{factor} w//{factor} c"]:
    """An even factor smaller, as `jax.image.resize` does it bilinearly: by a triangle of twice that width.

    A new pixel sees those that it covers and half as many to each side. Beside the border those of one side are
    missing, an eighth of the weight, so there must be two new pixels along each side.
    """
    near = [(1 - abs(k - (factor - 1) / 2) / factor) / factor for k in range(factor)]
    far = [(k + 0.5) / factor**2 for k in range(factor // 2)]  # of the neighbouring blocks, from outside in
    for axis in (1, 2):
        size, count = x.shape[axis], x.shape[axis] // factor
        pixels = [jax.lax.slice_in_dim(x, k, size, stride=factor, axis=axis) for k in range(factor)]
        own = _sum(near, pixels)
        to_next = jax.lax.slice_in_dim(_sum(far, pixels[factor // 2 :]), 0, count - 1, axis=axis)
        to_previous = jax.lax.slice_in_dim(_sum(far, pixels[::-1][factor // 2 :]), 1, count, axis=axis)
        none = jnp.zeros_like(jax.lax.slice_in_dim(x, 0, 1, axis=axis))
        y = own + jnp.concatenate([none, to_next], axis) + jnp.concatenate([to_previous, none], axis)
        first, inner, last = (
            jax.lax.slice_in_dim(y, start, end, axis=axis)
            for start, end in ((0, 1), (1, count - 1), (count - 1, count))
        )
        x = jnp.concatenate([first * (8 / 7), inner, last * (8 / 7)], axis)
    return x


def _sum(weights: Sequence[float], terms: Sequence[Array]) -> Array:
    return functools.reduce(jnp.add, [w * term for w, term in zip(weights, terms, strict=True)])


# --- Convolutions ----------------------------------------------------------------------------------------


def compiler_options(platform: str) -> dict[str, str]:
    """What `jax.jit` shall be told for a network on the platform.

    XLA for CPUs takes what the backward pass computes anew, to hold less, for something it has already, unless a pass
    is left out. That is what `remat` asks for, and `dense`: Large takes 0.8 GB for two crops of 128x128 and not 1.5.

    On a CPU jax 0.10 hands convolutions and what is around them to YNNPACK, which takes up to twice the time of XLA's
    own. (With other work on the same cores it takes less: this is to be measured on quiet ones.) From 0.11 on it takes
    as long, and 0.86 of the time for Small. For the network alone: there may be other work in the process, and the
    environment is its user's.
    """
    if platform != "cpu":
        return {}
    anew = {"xla_disable_hlo_passes": "cse_barrier_expander"}
    return anew | ({"xla_cpu_experimental_ynn_fusion_type": ""} if jax.__version_info__ < (0, 11) else {})


def _convolve(x: Array, kernel: Array, stride: int = 1, groups: int = 1) -> Array:
    # Explicit symmetric padding: at stride 2, "SAME" would put the odd pixel on the other side. (An even size, which
    # halves the picture at stride 2, has one pixel less to each side than reaches to its end.)
    padding = [((size - 1) // 2, (size - 1) // 2) for size in kernel.shape[:2]]
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
    )


_restoring = contextvars.ContextVar("restoring", default=False)


@contextlib.contextmanager
def for_restoring(fast: bool = True) -> Iterator[None]:
    """A network traced inside may be what is fastest here, and not what exporters know."""
    before = _restoring.set(fast)
    try:
        yield
    finally:
        _restoring.reset(before)


def dense(x: Float[Array, "b h w c"], kernel: Float[Array, "k k c d"]) -> Float[Array, "b h w d"]:
    """Convolution with an odd-sized kernel. Learning on a CPU takes ours: XLA's gradients take up to thrice as long."""
    if _restoring.get() and _by_tiles(x, kernel, least=64):
        return jax.lax.platform_dependent(x, kernel, cpu=winograd.forward, default=_convolve)
    return _learning(x, kernel)


@jax.custom_vjp
def _learning(x: Array, kernel: Array) -> Array:
    return _convolve(x, kernel)


def _by_tiles(x: Array, kernel: Array, least: int = 16) -> bool:
    """Whether `winograd` takes less time on a CPU: with fewer channels its passes over memory outweigh the products.

    Sooner for large pictures, which no cache holds, than for a batch to learn from.
    """
    return kernel.shape[:2] == (3, 3) and min(kernel.shape[2:]) >= least and x.dtype == jnp.float32


def _kernel_gradient(x: Float[Array, "b h w c"], kernel: Array, dy: Float[Array, "b h w d"]) -> Array:
    """One matrix product: all columns' shifts of x, side by side, with all rows' shifts of dy.

    That copies each 2 k times; the k^2 shifts of one of them would be k^2 copies.
    """
    size, (h, w), c, d = kernel.shape[0], x.shape[1:3], x.shape[-1], dy.shape[-1]
    r = size // 2
    x = jnp.pad(x, ((0, 0), (0, 0), (r, r), (0, 0)))
    dy = jnp.pad(dy, ((0, 0), (r, r), (0, 0), (0, 0)))
    x = jnp.stack([x[:, :, j : j + w] for j in range(size)], -2).reshape(-1, size * c)
    dy = jnp.stack([dy[:, size - 1 - i : size - 1 - i + h] for i in range(size)], -2).reshape(-1, size * d)
    x, dy = jax.lax.optimization_barrier((x, dy))  # or the copies are made inside the product, over and over
    # This way round, and not transposed, and of two-dimensional operands: each is a factor of up to 1.5.
    product = jnp.einsum("nd,nc->dc", dy, x)
    return product.reshape(size, d, size, c).transpose(0, 2, 3, 1)


def _dense_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    cpu = winograd.forward if _by_tiles(x, kernel) else _convolve
    return jax.lax.platform_dependent(x, kernel, cpu=cpu, default=_convolve), (x, kernel)


def _dense_backward(given: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    def by_shifts(x, kernel, dy):
        # What is a transposed convolution to XLA is a convolution with the turned kernel, and faster as such.
        return _convolve(dy, jnp.swapaxes(kernel[::-1, ::-1], 2, 3)), _kernel_gradient(x, kernel, dy)

    def default(x, kernel, dy):
        (dx,) = jax.linear_transpose(lambda x: _convolve(x, kernel), x)(dy)
        return dx, jax.linear_transpose(lambda k: _convolve(x, k), kernel)(dy)[0]

    def cpu(x, kernel, dy):
        # Or what needs x or the kernel alone would be made in the forward pass, and held.
        x, kernel, dy = jax.lax.optimization_barrier((x, kernel, dy))
        return (winograd.backward if _by_tiles(x, kernel) else by_shifts)(x, kernel, dy)

    return jax.lax.platform_dependent(*given, dy, cpu=cpu, default=default)


_learning.defvjp(_dense_forward, _dense_backward)


@jax.custom_vjp
def _biased(x: Float[Array, "b h w c"], bias: Float[Array, " c"]) -> Float[Array, "b h w c"]:
    return x + bias


def _bias_gradient(dy: Float[Array, "b h w c"]) -> Float[Array, " c"]:
    """The sum; on a CPU as a matrix product, which takes a quarter of the time."""

    def product(dy):
        return jnp.einsum("n,nc->c", jnp.ones(dy.size // dy.shape[-1], dy.dtype), dy.reshape(-1, dy.shape[-1]))

    return jax.lax.platform_dependent(dy, cpu=product, default=lambda dy: dy.sum((0, 1, 2)))


_biased.defvjp(lambda x, bias: (x + bias, None), lambda _, dy: (dy, _bias_gradient(dy)))


def depthwise(x: Float[Array, "b h w c"], kernel: Float[Array, "k k 1 c"]) -> Float[Array, "b h w c"]:
    """Each channel with its own odd-sized kernel. On a CPU as a sum of shifted products: XLA's is slow there."""

    def shifted_products(x, kernel):
        size, (h, w) = kernel.shape[0], x.shape[1:3]
        r = size // 2
        padded = jnp.pad(x, ((0, 0), (r, r), (r, r), (0, 0)))
        total = jnp.zeros_like(x)
        for i in range(size):
            for j in range(size):
                total += padded[:, i : i + h, j : j + w] * kernel[i, j, 0]
        return total

    def convolution(x, kernel):
        return _convolve(x, kernel, groups=x.shape[-1])

    return jax.lax.platform_dependent(x, kernel, cpu=shifted_products, default=convolution)


def pointwise(x: Float[Array, "b h w c"], kernel: Float[Array, "1 1 c d"]) -> Float[Array, "b h w d"]:
    """1x1 convolution; on a CPU as a matrix product."""

    def product(x, kernel):
        return jnp.einsum("bhwc,cd->bhwd", x, kernel[0, 0])

    return jax.lax.platform_dependent(x, kernel, cpu=product, default=_convolve)


class Conv(nn.Module):
    """Dense convolution with zero padding and a bias; parameters are float32. The size is odd, or even at stride 2."""

    features: int
    size: int = 3
    stride: int = 1
    gain: float = 1.0  # scales the variance of the initial kernel
    identity: bool = False  # added to the initial kernel
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b H W d"]:
        shape = (self.size, self.size, x.shape[-1], self.features)
        initial = _near_identity(self.gain) if self.identity else _initializer(self.gain)
        kernel = self.param("kernel", initial, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        x, kernel, bias = (v.astype(self.dtype) for v in (x, kernel, bias))
        if self.stride > 1:
            return _biased(_convolve(x, kernel, self.stride), bias)
        return _biased((pointwise if self.size == 1 else dense)(x, kernel), bias)


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), without normalisation; the branch starts small so that deep stacks train."""

    features: int
    size: int = 3
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        y = nn.relu(Conv(self.features, self.size, dtype=self.dtype, name="conv1")(x))
        return x + Conv(self.features, self.size, gain=0.01, dtype=self.dtype, name="conv2")(y)


def in_turn(
    parent: nn.Module, block: Callable[[nn.Module, int, Array], Array], count: int, x: Array, *, remat: bool
) -> Array:
    """Blocks 0 to count - 1 of the parent, one after the other.

    With `remat` the backward pass holds what goes into every few of them and computes what is between anew: about
    one more forward pass. Held at once are count / few inputs and the two activations a block of the few at hand,
    fewest at few = sqrt(count / 2).
    """
    few = max(1, round(math.sqrt(count / 2)))

    def some(parent: nn.Module, x: Array, start: int) -> Array:
        for b in range(start, min(start + few, count)):
            x = block(parent, b, x)
        return x

    if remat:
        some = nn.remat(some, static_argnums=2)
    for start in range(0, count, few):
        x = some(parent, x, start)
    return x


class RepConv(nn.Module):
    """A 3x3 convolution learned as a sum of branches: 3x3, 1x1, 1x1 then 3x3, and identity.

    All are linear, so their sum *is* one 3x3 kernel, which is put together from the parameters before
    the picture is touched, and `merged` gives that kernel for good. Putting it together takes 18 c^3 MACs for
    c channels, once a step: for all of Nano 0.25 G, against 11 G for the forward pass of 16 crops of 256x256.
    """

    features: int
    expansion: int = 2  # width of the 1x1-then-3x3 branch, in input channels; 0: without that branch
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        channels, inner = x.shape[-1], self.expansion * x.shape[-1]
        shapes = {"kernel": (3, 3, channels, self.features), "point": (1, 1, channels, self.features)}
        if inner:
            shapes["expand"] = (1, 1, channels, inner)
            shapes["squeeze"] = (3, 3, inner, self.features)
        # The branches share the variance that one convolution would have; beside an identity they start small.
        gain = 0.01 if channels == self.features else 1 / 3
        params = {
            name: self.param(name, _initializer(1.0 if name == "expand" else gain), shape, jnp.float32)
            for name, shape in shapes.items()
        }
        params["bias"] = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        kernel, bias = (v.astype(self.dtype) for v in self.merged(params).values())
        return _biased(dense(x.astype(self.dtype), kernel), bias)

    @staticmethod
    def merged(params: dict[str, Array]) -> dict[str, Array]:
        """The parameters of the equal plain `Conv`."""
        kernel = params["kernel"]
        if "squeeze" in params:
            kernel += jnp.einsum("cm,klmd->klcd", params["expand"][0, 0], params["squeeze"], precision="highest")
        centre = params["point"][0, 0]
        if centre.shape[0] == centre.shape[1]:
            centre = centre + jnp.eye(centre.shape[0])
        return {"kernel": kernel.at[1, 1].add(centre), "bias": params["bias"]}
