"""MAXIM (Tu et al. 2022, arXiv:2201.02973): multi-axis gated MLPs in a U, stage after stage.

Pixels talk in two ways. In *blocks* of neighbours, and over *grids*: a picture of 16x16 equal cells has 256 pixels at
the same place in their cells, which a grid mixes, so that every layer reaches across the whole picture at a cost that
grows with its area alone. Each stage is a U-Net that restores the picture at full, half and quarter size; the next one
starts from the blurred picture again and sees the features of the one before. Encoder and decoder exchange all
resolutions through gates that the deepest features open.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from deblur_jax.errors import UserError
from deblur_jax.models import layers

Axis = Literal["grid", "block"]
Mixer = Literal["convolutions", "mlp"]
_Features = Float[Array, "b h w c"]
_Levels = dict[int, Array]  # from full size down


@dataclasses.dataclass(frozen=True)
class MaximConfig:
    """Levels are numbered from full size down; each is half the one before and twice as wide."""

    features: int = 32
    stages: int = 3
    depth: int = 3  # levels of the U, above its bottleneck
    scales: int = 3  # of them restore the picture, from full size down
    groups: int = 2  # of mixing and channel attention in each encoder, decoder and bottleneck block
    bottlenecks: int = 2
    windows: tuple[int, ...] = (16, 16, 8)  # side of blocks, and of grids, at each level; the bottleneck has the last
    reduction: int = 4  # of channels inside of channel attention
    coarse_outputs: bool = True  # the last stage restores the smaller sizes too, which only training looks at

    def __post_init__(self):
        if min(self.features, self.stages, self.depth, self.groups, self.reduction, *self.windows) < 1:
            raise UserError(f"sizes and counts must be positive: {self}")
        if not 1 <= self.scales <= self.depth == len(self.windows) or self.bottlenecks < 0:
            raise UserError(f"needs a window for each of {self.depth} levels, and no more scales than levels: {self}")
        if self.features % self.reduction:
            raise UserError(f"features must be a multiple of reduction, not {self.features} and {self.reduction}")

    @property
    def multiple_of(self) -> int:
        """Every level, and the bottleneck, must be whole blocks and whole cells."""
        sides = [2**level * window for level, window in enumerate((*self.windows, self.windows[-1]))]
        return math.lcm(*sides)

    @property
    def tiling(self) -> dict[str, int]:
        """Grids reach across whatever picture they are given, so tiles are as large as fits, up to the area at which
        the published scores were taken (GoPro's 1280x720, padded).

        With the published weights, a photograph of 512x512 pixels with a line of 17 gained 4.23 dB as a whole and
        4.08 dB in tiles of 384, which were 41 dB from the whole. The memory is that of S-3, by XLA's own account and by
        what the process held before and after.
        """
        return {"tile": 1024, "overlap": 64, "working": 4800, "compiling": 900_000_000}

    # The published sizes: S-1, S-2, S-3 (the one for deblurring).

    @classmethod
    def s1(cls) -> "MaximConfig":
        return cls(stages=1)

    @classmethod
    def s2(cls) -> "MaximConfig":
        return cls(stages=2)

    @classmethod
    def s3(cls) -> "MaximConfig":
        return cls(stages=3)

    def merged(self) -> "MaximConfig":
        return dataclasses.replace(self, coarse_outputs=False)

    def width(self, level: int) -> int:
        return self.features * 2**level


class _Passed(NamedTuple):
    """What a stage hands to the next."""

    encoded: _Levels
    decoded: _Levels
    attended: _Levels


class Maxim(nn.Module):
    config: MaximConfig
    dtype: layers.Dtype = jnp.float32  # of the computation; parameters, normalisation and output are float32
    remat: bool = False  # less memory in training, more time: groups and gates are computed anew going back

    @nn.compact
    def __call__(
        self, blurred: Float[Array, "b h w 3"], *, train: bool = False
    ) -> Float[Array, "b h w 3"] | tuple[Float[Array, "b _h _w 3"], ...]:
        """Training gets all that every stage restores: the last stage first, of each the full size first."""
        c, (h, w) = self.config, blurred.shape[1:3]
        padded = layers.pad_to_multiple(blurred, c.multiple_of)
        pictures = [padded] + [_nearest(padded, 2**level) for level in range(1, c.scales)]
        restored: list[_Levels] = []
        before = None
        for stage in range(c.stages):
            estimates, before = self._stage(stage, pictures, before)
            restored.insert(0, estimates)
        every = tuple(
            layers.crop(estimates[level], -(-h // 2**level), -(-w // 2**level))
            for estimates in restored
            for level in sorted(estimates)
        )
        return every if train else every[0]

    def _stage(self, stage: int, pictures: list[Array], before: _Passed | None) -> tuple[_Levels, _Passed]:
        """One U: what it restored at each level, and what the next stage sees of it."""
        c, name = self.config, f"stage{stage}"
        inputs = [self._conv(c.width(level), f"{name}_input{level}", p) for level, p in enumerate(pictures)]
        if before is not None:
            inputs = [self._gate(f"{name}_fuse{s}", s)(x, before.attended[s])[0] for s, x in enumerate(inputs)]
        x, encoded = inputs[0], {}
        for level in range(c.depth):
            if level < c.scales:
                x = jnp.concatenate([x, inputs[level]], -1)
            seen = None if before is None else before.encoded[level] + before.decoded[level]
            encoded[level] = self._block(f"{name}_encoder{level}", level)(x, seen)
            down = layers.Conv(c.width(level), size=4, stride=2, dtype=self.dtype, name=f"{name}_down{level}")
            x = down(encoded[level])
        for b in range(c.bottlenecks):
            x = self._block(f"{name}_bottleneck{b}", c.depth - 1, mixer="mlp")(x)
        skips = self._skips(name, x, encoded)
        decoded, attended, estimates = {}, {}, {}
        for level in reversed(range(c.depth)):
            x = Up(c.width(level), dtype=self.dtype, name=f"{name}_decoder{level}_up")(x)
            x = jnp.concatenate([x, self._gathered(f"{name}_signal{level}", level, skips)], -1)
            decoded[level] = x = self._block(f"{name}_decoder{level}", level)(x)
            if level < c.scales and stage < c.stages - 1:
                attention = SupervisedAttention(dtype=self.dtype, name=f"{name}_attention{level}")
                attended[level], estimates[level] = attention(x, pictures[level])
            elif level == 0 or (level < c.scales and c.coarse_outputs):
                change = self._conv(3, f"{name}_output{level}", x, gain=1e-6)
                estimates[level] = pictures[level] + change.astype(jnp.float32)
        return estimates, _Passed(encoded, decoded, attended)

    def _skips(self, name: str, deepest: Array, encoded: _Levels) -> _Levels:
        """What the encoder found, at every level through a gate with what was found below, deepest first."""
        skips = {}
        for level in reversed(range(self.config.depth)):
            signal = self._gathered(f"{name}_skip{level}", level, encoded)
            up = Up(self.config.width(level), dtype=self.dtype, name=f"{name}_gate{level}_up")
            skips[level], deepest = self._gate(f"{name}_gate{level}", level)(signal, up(deepest))
        return skips

    def _gathered(self, name: str, level: int, features: _Levels) -> Array:
        """The features of all levels at the size and width of this one, side by side, in the order they were made."""
        width = self.config.width(level)
        return jnp.concatenate(
            [self._resized(width, f"{name}_from{other}", level - other, x) for other, x in features.items()], -1
        )

    def _resized(self, width: int, name: str, down: int, x: Array) -> Array:
        """So many levels down, or up. The 1x1 convolution, which commutes with resizing, comes where it costs less."""
        if down > 0:
            x = layers.shrink(x, 2**down)
        x = _dense(width, name, x, self.dtype)
        return layers.enlarge(x, 2**-down) if down < 0 else x

    def _conv(self, features: int, name: str, x: Array, *, gain: float = 1.0) -> Array:
        return layers.Conv(features, gain=gain, dtype=self.dtype, name=name)(x)

    def _gate(self, name: str, level: int) -> "CrossGating":
        kind = nn.remat(CrossGating) if self.remat else CrossGating
        return kind(self.config.width(level), self.config.windows[level], dtype=self.dtype, name=name)

    def _block(self, name: str, level: int, mixer: Mixer = "convolutions") -> "Block":
        c = self.config
        width, window = c.width(level), c.windows[level]
        return Block(width, window, c.groups, c.reduction, mixer, dtype=self.dtype, remat=self.remat, name=name)


class Block(nn.Module):
    """Of the encoder, the decoder and the bottleneck: groups of spatial mixing and channel attention, around which
    the features pass; then a gate with what the stage before has seen."""

    features: int
    window: int
    groups: int
    reduction: int
    mixer: Mixer
    dtype: layers.Dtype
    remat: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b h w d"], seen: _Features | None = None) -> _Features:
        entered = _dense(self.features, "in", x, self.dtype)

        def group(_: nn.Module, g: int, x: Array) -> Array:
            x = MultiAxisMlp(self.window, dtype=self.dtype, name=f"mlp{g}")(x)
            return ChannelBlock(self.reduction, self.mixer, dtype=self.dtype, name=f"channels{g}")(x)

        x = entered + layers.in_turn(self, group, self.groups, entered, remat=self.remat)
        if seen is not None:
            kind = nn.remat(CrossGating) if self.remat else CrossGating
            x = kind(self.features, self.window, dtype=self.dtype, name="gate")(x, seen)[0]
        return x


class MultiAxisMlp(nn.Module):
    """Half of the channels mix over the grid and half within blocks, both gated (figure 2 of the paper)."""

    window: int
    dtype: layers.Dtype

    @nn.compact
    def __call__(self, x: _Features) -> _Features:
        features = x.shape[-1]
        y = nn.gelu(_dense(2 * features, "expand", _norm("norm", x, self.dtype), self.dtype))
        grid, block = jnp.split(y, 2, -1)
        grid = GatedMlp(self.window, "grid", dtype=self.dtype, name="grid")(grid)
        block = GatedMlp(self.window, "block", dtype=self.dtype, name="block")(block)
        return x + _dense(features, "project", jnp.concatenate([grid, block], -1), self.dtype)


class GatedMlp(nn.Module):
    """One channel half decides, from all pixels it is mixed with, how much of the other half passes (gMLP)."""

    window: int
    axis: Axis
    dtype: layers.Dtype

    @nn.compact
    def __call__(self, x: _Features) -> _Features:
        features = x.shape[-1]
        y = nn.gelu(_dense(2 * features, "expand", _norm("norm", x, self.dtype), self.dtype))
        passing, gate = jnp.split(y, 2, -1)
        # Starts near one: all passes.
        mix = SpatialMix(self.window, self.axis, gain=0.01, dtype=self.dtype, name="mix")
        y = passing * (1 + mix(_norm("gate_norm", gate, self.dtype)))
        return x + _dense(features, "project", y, self.dtype)


class SpatialMix(nn.Module):
    """A linear layer over the pixels of each block, or over those at one place in all cells of the grid."""

    window: int
    axis: Axis
    gain: float
    dtype: layers.Dtype

    @nn.compact
    def __call__(self, x: _Features) -> _Features:
        side = self.window
        init = nn.initializers.variance_scaling(self.gain, "fan_in", "truncated_normal")
        kernel = self.param("kernel", init, (side**2, side**2), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (side**2,), jnp.float32)
        kernel, bias = kernel.reshape([side] * 4).astype(self.dtype), bias.reshape(side, side).astype(self.dtype)
        b, h, w, c = x.shape
        if self.axis == "grid":  # row and column of the cell come first
            parts = x.reshape(b, side, h // side, side, w // side, c)
            mixed = jnp.einsum("biyjxc,ijkl->bkylxc", parts, kernel) + bias[:, None, :, None, None]
        else:
            parts = x.reshape(b, h // side, side, w // side, side, c)
            mixed = jnp.einsum("byixjc,ijkl->bykxlc", parts, kernel) + bias[:, None, :, None]
        return mixed.reshape(b, h, w, c)


class ChannelBlock(nn.Module):
    """x + attention(mixer(norm(x))), the mixer two 3x3 convolutions, or in the bottleneck an MLP of each pixel."""

    reduction: int
    mixer: Mixer
    dtype: layers.Dtype

    @nn.compact
    def __call__(self, x: _Features) -> _Features:
        features, y = x.shape[-1], _norm("norm", x, self.dtype)
        if self.mixer == "convolutions":
            y = nn.leaky_relu(layers.Conv(features, dtype=self.dtype, name="conv1")(y), 0.2)
            y = layers.Conv(features, dtype=self.dtype, name="conv2")(y)
        else:
            y = _dense(features, "dense2", nn.gelu(_dense(features, "dense1", y, self.dtype)), self.dtype)
        weights = nn.relu(_dense(features // self.reduction, "squeeze", y.mean((1, 2), keepdims=True), self.dtype))
        return x + y * nn.sigmoid(_dense(features, "excite", weights, self.dtype))


class CrossGating(nn.Module):
    """Two signals that open each other's gates; what comes of x has y's added (figure 3 of the paper)."""

    features: int
    window: int
    dtype: layers.Dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b h w d"], y: Float[Array, "b h w e"]) -> tuple[_Features, _Features]:
        x, y = _dense(self.features, "x_in", x, self.dtype), _dense(self.features, "y_in", y, self.dtype)
        wide_x, wide_y = self._expanded("x", x), self._expanded("y", y)
        gate_x, gate_y = (
            SpatialGate(self.window, dtype=self.dtype, name=name)(wide)
            for name, wide in (("x_gate", wide_x), ("y_gate", wide_y))
        )
        y = y + _dense(self.features, "y_project", wide_y * gate_x, self.dtype)
        x = x + _dense(self.features, "x_project", wide_x * gate_y, self.dtype)
        return x + y, y

    def _expanded(self, name: str, x: _Features) -> _Features:
        return nn.gelu(_dense(self.features, f"{name}_expand", _norm(f"{name}_norm", x, self.dtype), self.dtype))


class SpatialGate(nn.Module):
    """How much of each number shall pass: half of the channels ask the grid, half the block."""

    window: int
    dtype: layers.Dtype

    @nn.compact
    def __call__(self, x: _Features) -> _Features:
        features = x.shape[-1]
        y = nn.gelu(_dense(2 * features, "expand", _norm("norm", x, self.dtype), self.dtype))
        grid, block = jnp.split(y, 2, -1)
        grid = SpatialMix(self.window, "grid", gain=1.0, dtype=self.dtype, name="grid")(grid)
        block = SpatialMix(self.window, "block", gain=1.0, dtype=self.dtype, name="block")(block)
        return _dense(features, "project", jnp.concatenate([grid, block], -1), self.dtype)


class Up(nn.Module):
    """A transposed 2x2 convolution with stride 2: every pixel becomes a block."""

    features: int
    dtype: layers.Dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b H W d"]:
        shape = (x.shape[-1], 4 * self.features)  # the outputs' order: row, column, channel
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        x, kernel, bias = (v.astype(self.dtype) for v in (x, kernel, bias))
        return layers.depth_to_space(jnp.einsum("bhwc,cd->bhwd", x, kernel), 2) + bias


class SupervisedAttention(nn.Module):
    """Restores the picture, and lets the features pass where the restored picture says so (after MPRNet)."""

    dtype: layers.Dtype

    @nn.compact
    def __call__(self, x: _Features, picture: Float[Array, "b h w 3"]) -> tuple[_Features, Float[Array, "b h w 3"]]:
        features = x.shape[-1]
        change = layers.Conv(3, gain=1e-6, dtype=self.dtype, name="picture")(x)
        restored = picture + change.astype(jnp.float32)
        mask = nn.sigmoid(layers.Conv(features, dtype=self.dtype, name="mask")(restored))
        return x + mask * layers.Conv(features, dtype=self.dtype, name="features")(x), restored


def _norm(name: str, x: _Features, dtype: layers.Dtype) -> _Features:
    return nn.LayerNorm(epsilon=1e-6, dtype=jnp.float32, name=name)(x).astype(dtype)


def _dense(features: int, name: str, x: Array, dtype: layers.Dtype) -> Array:
    """Of each pixel's channels: also what the authors write as a 1x1 convolution."""
    return nn.Dense(features, dtype=dtype, name=name)(x)


def _nearest(x: Float[Array, "b h w c"], factor: int) -> Float[Array, "b _h _w c"]:
    """One pixel of each factor x factor: the one right and below of the middle."""
    for axis in (1, 2):
        x = jax.lax.slice_in_dim(x, factor // 2, x.shape[axis], stride=factor, axis=axis)
    return x


# --- What the authors call the parameters -----------------------------------------------------------------

_GATE = {
    **{f"{x}_in": f"Conv_{n}" for n, x in enumerate("xy")},
    **{f"{x}_norm": f"LayerNorm_{x}" for x in "xy"},
    **{f"{x}_expand": f"in_project_{x}" for x in "xy"},
    **{f"{x}_project": f"out_project_{x}" for x in "xy"},
    **{
        f"{x}_gate/{ours}": f"SplitHeadMultiAxisGating_{x}/{theirs}"
        for x in "xy"
        for ours, theirs in {
            "norm": "LayerNorm_in",
            "expand": "in_project",
            "grid": "Dense_0",
            "block": "Dense_1",
            "project": "out_project",
        }.items()
    },
}
_MLP = {
    "norm": "LayerNorm_in",
    "expand": "in_project",
    "project": "out_project",
    **{
        f"{axis.lower()}/{ours}": f"{axis}GmlpLayer/{theirs}"
        for axis in ("Grid", "Block")
        for ours, theirs in {
            "norm": "LayerNorm",
            "expand": "in_project",
            "gate_norm": f"{axis}GatingUnit/intermediate_layernorm",
            "mix": f"{axis}GatingUnit/Dense_0",
            "project": "out_project",
        }.items()
    },
}
_ATTENTION = {"norm": "LayerNorm", "squeeze": "channel_attention/Conv_0", "excite": "channel_attention/Conv_1"}
_CONVOLUTIONS = {**_ATTENTION, "conv1": "conv1", "conv2": "conv2"}
_PIXEL_MLP = {**_ATTENTION, "dense1": "channel_mixing/Dense_0", "dense2": "channel_mixing/Dense_1"}


def official_names(config: MaximConfig) -> dict[str, str]:
    """What each of our layers is called in the authors' Flax checkpoints."""
    names: dict[str, str] = {}
    resized = itertools.count()

    def add(ours: str, theirs: str, inside: Mapping[str, str]) -> None:
        names.update({f"{ours}/{a}": f"{theirs}/{b}" for a, b in inside.items()})

    def block(ours: str, theirs: str, *, entry: str = "Conv_0", prefix: str = "1", inside: Any = _CONVOLUTIONS) -> None:
        names[f"{ours}/in"] = f"{theirs}/{entry}"
        for g in range(config.groups):
            add(f"{ours}/mlp{g}", f"{theirs}/SplitHeadMultiAxisGmlpLayer_{g}", _MLP)
            add(f"{ours}/channels{g}", f"{theirs}/channel_attention_block_{prefix}{g}", inside)

    for s in range(config.stages):
        ours, theirs = f"stage{s}", f"stage_{s}"
        for i in range(config.scales):
            names[f"{ours}_input{i}"] = f"{theirs}_input_conv_{i}"
            if s > 0:
                add(f"{ours}_fuse{i}", f"{theirs}_input_fuse_sam_{i}", _GATE)
            if s < config.stages - 1:
                for n, part in enumerate(("features", "picture", "mask")):
                    names[f"{ours}_attention{i}/{part}"] = f"{theirs}_supervised_attention_module_{i}/Conv_{n}"
            elif i == 0 or config.coarse_outputs:
                names[f"{ours}_output{i}"] = f"{theirs}_output_conv_{i}"
        for i in range(config.depth):
            encoder, gate, decoder = (f"{theirs}_{k}_block_{i}" for k in ("encoder", "cross_gating", "decoder"))
            block(f"{ours}_encoder{i}", encoder)
            if s > 0:
                add(f"{ours}_encoder{i}/gate", f"{encoder}/cross_gating_block", _GATE)
            names[f"{ours}_down{i}"] = f"{encoder}/Conv_1"
            names[f"{ours}_gate{i}_up"] = f"{gate}/ConvTranspose_0"
            add(f"{ours}_gate{i}", gate, _GATE)
            names[f"{ours}_decoder{i}_up"] = f"{decoder}/ConvTranspose_0"
            block(f"{ours}_decoder{i}", f"{decoder}/UNetEncoderBlock_0")
        for b in range(config.bottlenecks):
            theirs_here = f"{theirs}_global_block_{b}"
            block(f"{ours}_bottleneck{b}", theirs_here, entry="input_proj", prefix="1_", inside=_PIXEL_MLP)
        # Numbered as they are made, over all stages.
        finest_first, deepest_first = range(config.depth), range(config.depth)[::-1]
        for kind, others in (("skip", finest_first), ("signal", deepest_first)):
            for level, other in itertools.product(deepest_first, others):
                names[f"{ours}_{kind}{level}_from{other}"] = f"UpSampleRatio_{next(resized)}/Conv_0"
    return names


def checkpoint_names(config: MaximConfig) -> dict[str, str]:
    """What each of our parameters is called in the authors' Flax checkpoints."""
    return {
        f"{ours}/{kind}": f"{theirs}/{kind}"
        for ours, theirs in official_names(config).items()
        for kind in (("scale" if "norm" in ours.rpartition("/")[2] else "kernel"), "bias")
    }


def tfjs_names(config: MaximConfig) -> dict[str, str]:
    """What each of our parameters is called in the graph that jax2tf and the TensorFlow.js converter make of them.

    Kernels of convolutions, biases and scales are folded constants of their module. Kernels of dense layers have
    kept nothing but their number among all arguments: the checkpoint's parameters, sorted by their names.
    """
    every = checkpoint_names(dataclasses.replace(config, coarse_outputs=True)).values()
    numbers = {name: n for n, name in enumerate(sorted(every, key=lambda name: name.split("/")))}

    def constant(theirs: str) -> str:
        module, _, kind = theirs.rpartition("/")
        if "norm" in module.rpartition("/")[2].lower():
            return f"{module}/{'Reshape_2' if kind == 'scale' else 'Reshape_3'}"
        if kind == "bias":
            return f"{module}/Reshape"
        if re.search(r"(Dense_\d+|(in|out)_project(_[xy])?)$", module):
            return f"jax2tf_arg_{numbers[theirs]}"
        return f"{module}/{'transpose_4' if 'ConvTranspose' in module else 'transpose_3'}"

    return {ours: constant(theirs) for ours, theirs in checkpoint_names(config).items()}


def from_checkpoint(ours: str, value: np.ndarray) -> np.ndarray:
    """A parameter of theirs as ours: a 1x1 convolution is a matrix, as is a transposed one, which Flax turns round."""
    if ours.endswith("_up/kernel"):  # row, column, in, out
        value = value[::-1, ::-1].transpose(2, 0, 1, 3)
        return value.reshape(value.shape[0], -1)
    return value[0, 0] if value.ndim == 4 and value.shape[:2] == (1, 1) else value


def from_tfjs(ours: str, value: np.ndarray) -> np.ndarray:
    """The same of the graph's constants: biases and scales are (1, 1, 1, c) there."""
    if ours.endswith("_up/kernel"):  # row, column, out, in
        value = value.transpose(3, 0, 1, 2)
        return value.reshape(value.shape[0], -1)
    if ours.endswith(("/bias", "/scale")):
        return value.reshape(-1)
    return value[0, 0] if value.ndim == 4 and value.shape[:2] == (1, 1) else value


def config_of(lengths: Mapping[str, int]) -> MaximConfig | None:
    """The configuration, from the lengths of the biases of the authors' modules; None if they are not MAXIM's.

    What cannot be told, because an entry is missing, is as published.
    """
    if not any(re.fullmatch(r"stage_\d+_(input_conv|encoder_block)_\d+(/.*)?", name) for name in lengths):
        return None

    def count(pattern: str, default: int) -> int:
        found = [int(match[1]) for name in lengths if (match := re.fullmatch(pattern, name))]
        return 1 + max(found) if found else default

    known = MaximConfig()
    first, mlp = "stage_0_encoder_block_0", "SplitHeadMultiAxisGmlpLayer_"
    stages, depth = count(r"stage_(\d+)_.*", 1), count(r"stage_\d+_encoder_block_(\d+)/.*", known.depth)
    scales = count(r"stage_\d+_input_conv_(\d+)", depth)
    features = lengths.get("stage_0_input_conv_0", known.features)
    mixed = f"{mlp}0/GridGmlpLayer/GridGatingUnit/Dense_0"
    windows = [lengths.get(f"stage_0_encoder_block_{level}/{mixed}", 256) for level in range(depth)]
    return MaximConfig(
        features=features,
        stages=stages,
        depth=depth,
        scales=scales,
        groups=count(rf"{first}/{mlp}(\d+)/.*", known.groups),
        bottlenecks=count(r"stage_\d+_global_block_(\d+)/.*", 0),
        windows=tuple(math.isqrt(n) for n in windows),
        reduction=features
        // lengths.get(f"{first}/channel_attention_block_10/channel_attention/Conv_0", features // 4),
        coarse_outputs=scales == 1 or any(f"stage_{stages - 1}_output_conv_{i}" in lengths for i in range(1, scales)),
    )


def without_coarse_outputs(params: dict) -> dict:
    """The parameters of `config.merged()`."""
    return {name: layer for name, layer in params.items() if not re.fullmatch(r"stage\d+_output[1-9]\d*", name)}
