"""ONNX with convolutions in 8 bits: activations 0 to 255 with one scale each, weights -127 to 127 with one a channel.

Written as QuantizeLinear and DequantizeLinear around what stays a float convolution in the file (QDQ), from which every
runtime makes its own fast kernels. Ranges are those of calibration pictures, cut where that lessens the squared error.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax import blur, samples
from deblur_jax.errors import UserError
from deblur_jax.export import parity
from deblur_jax.export.extra import onnx
from deblur_jax.export.shuffles import channels_last
from deblur_jax.restore.exported import onnx_network

__all__ = ["FEW", "quantised", "whole"]

_SIDE = 256  # of the pieces that are run for calibration and for measuring
FEW = 12  # pictures at most to calibrate with
_KEPT = 20_000  # values of a tensor, to find the best range with
# ONNX Runtime's fast 8-bit convolution takes channels in fours and gives sixteen at least; any other takes two to three
# times as long. So kernels are filled up with zeros.
_INPUTS, _OUTPUTS = 4, 16
# Layers stay float, the most sensitive first, until blurred pictures come out this near to what they were in float32:
# at 48 dB Nano lost 0.13 dB on Gaussian pairs, at 50 dB 0.013.
_AIM = 50.0


def whole(model: Any, options: Any, *, multiple: int) -> Any:
    """The model with every convolution in 8 bits, whatever that does to its pictures: for taking its time."""
    ranges = _ranges(model, [_as_given(piece, options) for piece in _pieces(options, multiple)])
    return _rewritten(model, ranges, set(_layers(model)))


def quantised(model: Any, options: Any, *, multiple: int) -> tuple[Any, dict[str, Any]]:
    """The model in 8 bits, and what the card says of it: each layer's cost, and which stay float."""
    pieces = _pieces(options, multiple)
    ranges = _ranges(model, [_as_given(piece, options) for piece in pieces])
    layers = _layers(model)
    if not layers:
        raise UserError("--precision int8: the network has no convolutions to quantise")

    def network(made: Any) -> Callable[[np.ndarray], np.ndarray]:
        return onnx_network(made.SerializeToString(), layout=options.layout, whole_numbers=options.whole_numbers)

    exact, held = network(model), pieces[-6:]
    expected = [exact(piece) for piece in held]

    def error(made: Any) -> float:
        given = network(made)
        return float(np.mean([((given(p) - e) ** 2).mean() for p, e in zip(held, expected, strict=True)]))

    alone = {layer: error(_rewritten(model, ranges, {layer})) for layer in layers}
    worst_first, kept = sorted(layers, key=lambda layer: -alone[layer]), []
    made = _rewritten(model, ranges, set(layers))
    while len(kept) < len(layers) - 1 and -10 * np.log10(max(error(made), 1e-20)) < _AIM:
        kept.append(worst_first[len(kept)])
        made = _rewritten(model, ranges, set(layers) - set(kept))
    onnx.checker.check_model(made, full_check=True)
    about = {
        "calibration": {
            "pictures": len(options.calibration[:FEW]) or len(samples.PICTURES),
            "source": "given" if options.calibration else "the package's samples",
            "pieces": len(pieces),
        },
        "layers_left_in_float": kept,
        "sensitivity": {
            "unit": "mean squared error of the restored picture, in [0, 1], with this layer alone in 8 bits",
            "layers": dict(sorted(alone.items(), key=lambda item: -item[1])),
        },
    }
    return made, {"quantisation": about}


# --- Pictures ------------------------------------------------------------------------------------------------


def _pieces(options: Any, multiple: int) -> list[np.ndarray]:
    """Pieces `(n h w 3)` of the pictures given, or of the samples, cut or continued to what the graph takes.

    Each as it is, shaken and softened: in sharp ones, where there is nothing to do, activations stay small.
    """
    side = multiple * max(1, _SIDE // multiple)
    h, w = options.size or (side, side)
    pieces = []
    for picture in options.calibration[:FEW] or [None] * len(samples.PICTURES):
        if picture is None:
            piece = parity.natural(h, w, index=len(pieces) // 3)
        else:
            top, left = (max(0, (have - want) // 2) for have, want in zip(picture.shape[:2], (h, w), strict=True))
            cut = picture[top : top + h, left : left + w]
            piece = np.pad(cut, ((0, h - cut.shape[0]), (0, w - cut.shape[1]), (0, 0)), mode="symmetric")[None]
        number = len(pieces) // 3
        trajectory = blur.random_trajectory(jax.random.key(number), extent=5.0 + 4 * number % 21)
        kernels = blur.trajectory_kernel(trajectory, size=33), blur.gaussian_kernel(0.7 + 0.6 * number % 2.9, size=33)
        piece = piece.astype(np.float32)
        several = piece, *(_blurred(piece, kernel) for kernel in kernels)
        pieces += [np.repeat(one, options.batch or 1, 0) for one in several]
    return pieces


def _blurred(piece: np.ndarray, kernel: Any) -> np.ndarray:
    light = blur.convolve_fft(blur.srgb_to_linear(jnp.asarray(piece)), kernel[None])
    return np.asarray(blur.linear_to_srgb(jnp.clip(light, 0.0, 1.0)))


def _as_given(piece: np.ndarray, options: Any) -> np.ndarray:
    if options.whole_numbers:
        piece = np.rint(255 * piece).astype(np.uint8)
    return np.ascontiguousarray(piece.transpose(0, 3, 1, 2)) if options.layout == "nchw" else piece


# --- Ranges --------------------------------------------------------------------------------------------------


def _layers(model: Any) -> list[str]:
    """The convolutions that can be in 8 bits."""
    constants = {c.name for c in model.graph.initializer}
    return [node.name for node in model.graph.node if node.op_type == "Conv" and node.input[1] in constants]


def _results(model: Any) -> dict[str, str]:
    """Of each convolution what is rounded behind it: its result, or that of the ReLU that alone reads it."""
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = {}
    for node in model.graph.node:
        if node.op_type == "Conv":
            after = readers.get(node.output[0], [])
            relu = len(after) == 1 and after[0].op_type == "Relu"
            found[node.name] = after[0].output[0] if relu else node.output[0]
    return found


def _ranges(model: Any, pictures: Sequence[np.ndarray]) -> dict[str, tuple[float, int]]:
    """Scale and zero point of every tensor that goes into or comes out of a convolution."""
    import onnxruntime

    outputs = {output.name for output in model.graph.output}
    results = _results(model)
    wanted = {node.input[0] for node in model.graph.node if node.op_type == "Conv"} | set(results.values())
    wanted -= {model.graph.input[0].name, *outputs}
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    names = sorted(wanted)
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(opened.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(0)
    values: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for picture in pictures:
        for name, value in zip(names, session.run(names, {model.graph.input[0].name: picture}), strict=True):
            flat = np.asarray(value, np.float32).ravel()
            some = flat if flat.size <= _KEPT else generator.choice(flat, _KEPT)
            # The extremes always, whatever was drawn.
            values[name].append(np.concatenate([some, [flat.min(), flat.max()]]))
    return {name: _best_range(np.concatenate(some)) for name, some in values.items()}


def _best_range(values: np.ndarray) -> tuple[float, int]:
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    if low == high:
        return 1.0, 0
    best = None
    for share in np.linspace(1.0, 0.4, 25):
        scale = share * (high - low) / 255
        zero = int(np.clip(np.rint(-share * low / scale), 0, 255))
        rounded = (np.clip(np.rint(values / scale) + zero, 0, 255) - zero) * scale
        error = float(((rounded - values) ** 2).mean())
        if best is None or error < best[0]:
            best = error, (float(scale), zero)
    assert best is not None
    return best[1]


# --- Rewriting -----------------------------------------------------------------------------------------------


def _rewritten(model: Any, ranges: dict[str, tuple[float, int]], layers: set[str]) -> Any:
    """With these convolutions in 8 bits."""
    made, helper = onnx.ModelProto(), onnx.helper
    made.CopyFrom(model)
    graph = made.graph
    constants = {c.name: onnx.numpy_helper.to_array(c) for c in graph.initializer}
    results = _results(model)
    rounded = {node.input[0] for node in graph.node if node.name in layers} | {results[layer] for layer in layers}
    rounded &= set(ranges)
    ranges = dict(ranges)
    for node in graph.node:  # moving pixels about rounds nothing: what was in 8 bits stays so, for the additions behind
        if node.op_type == "DepthToSpace" and node.input[0] in rounded:
            ranges[node.output[0]] = ranges[node.input[0]]
            rounded.add(node.output[0])
    added: dict[str, np.ndarray] = {}
    widened: dict[str, int] = {}  # how many channels results really have
    nodes = []

    def dequantised(name: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(
            helper.make_node("DequantizeLinear", list(inputs), [f"{name}.float"], f"{name}/Dequantize", **attributes)
        )
        return f"{name}.float"

    def filled_up(name: str, count: int, rank: int) -> str:
        """With more channels, which only zeros of the kernel meet."""
        filled = f"{name}.filled"
        if not any(node.name == f"{name}/Fill" for node in nodes):  # another convolution may read it too
            added[f"fill {count}"] = np.array([*[0] * (rank + 1), count, *[0] * (rank - 2)], np.int64)
            nodes.append(helper.make_node("Pad", [stored(name), f"fill {count}"], [f"{filled}.uint8"], f"{name}/Fill"))
            dequantised(filled, f"{filled}.uint8", f"{name}.scale", f"{name}.zero")
        return f"{filled}.float"

    def narrow(name: str) -> None:
        """Takes off the channels that were added to the kernel."""
        bounds = {"first": 0, f"last {widened[name]}": widened[name], "channels": 1}
        added.update({bound: np.array([value], np.int64) for bound, value in bounds.items()})
        nodes.append(helper.make_node("Slice", [f"{name}.uint8", *bounds], [stored(name)], f"{name}/Narrow"))

    def stored(name: str) -> str:
        return f"{name}.narrow.uint8" if name in widened else f"{name}.uint8"

    for node in graph.node:
        raw = list(node.input)
        for i, name in enumerate(raw):
            if name in rounded:
                node.input[i] = f"{name}.float"
        result = results.get(node.name)
        if node.name in layers and raw[0] in ranges:
            scale = ranges[raw[0]][0]
            kernel = constants[raw[1]]
            dense = all(a.i == 1 for a in node.attribute if a.name == "group")
            inputs = -kernel.shape[1] % _INPUTS if dense else 0
            outputs = max(0, _OUTPUTS - len(kernel)) if dense and result in rounded else 0
            kernel = np.pad(kernel, ((0, outputs), (0, inputs), *[(0, 0)] * (kernel.ndim - 2)))
            if inputs:
                node.input[0] = filled_up(raw[0], inputs, kernel.ndim)
            if outputs:
                widened[result] = len(kernel) - outputs
            largest = np.abs(kernel).reshape(len(kernel), -1).max(1)
            each = np.where(largest > 0, largest / 127, 1.0).astype(np.float32)
            shape = (-1, *[1] * (kernel.ndim - 1))
            added[f"{raw[1]}.int8"] = np.clip(np.rint(kernel / each.reshape(shape)), -127, 127).astype(np.int8)
            added[f"{raw[1]}.scale"], added[f"{raw[1]}.zero"] = each, np.zeros(len(each), np.int8)
            parts = [f"{raw[1]}.{part}" for part in ("int8", "scale", "zero")]
            node.input[1] = dequantised(raw[1], *parts, axis=0)
            if len(raw) > 2:
                steps = (each * np.float32(scale)).astype(np.float32)
                bias = np.pad(constants[raw[2]], (0, outputs))
                added[f"{raw[2]}.int32"] = np.rint(bias / steps.astype(np.float64)).astype(np.int32)
                added[f"{raw[2]}.scale"], added[f"{raw[2]}.zero"] = steps, np.zeros(len(steps), np.int32)
                parts = [f"{raw[2]}.{part}" for part in ("int32", "scale", "zero")]
                node.input[2] = dequantised(raw[2], *parts, axis=0)
        nodes.append(node)
        for name in node.output:
            if name in rounded:
                scale, zero = ranges[name]
                added[f"{name}.scale"], added[f"{name}.zero"] = np.array(scale, np.float32), np.array(zero, np.uint8)
                about = [f"{name}.scale", f"{name}.zero"]
                nodes.append(helper.make_node("QuantizeLinear", [name, *about], [f"{name}.uint8"], f"{name}/Quantize"))
                if name in widened:
                    narrow(name)
                dequantised(name, stored(name), *about)
    read = {name for node in nodes for name in node.input} | {output.name for output in graph.output}
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes if read & set(node.output)]
    kept = [c for c in graph.initializer if c.name in read]
    kept += [onnx.numpy_helper.from_array(array, name) for name, array in added.items()]
    kept = [type(c).FromString(c.SerializeToString()) for c in kept]
    del graph.node[:]
    del graph.initializer[:]
    graph.node.extend(copies)
    graph.initializer.extend(kept)
    return channels_last(made)
