"""Pixel shuffles, sums, means and pools."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from deblur_jax.export import numbers
from deblur_jax.export.graph import Given, Tensor, Unsupported, first, product, tensor
from deblur_jax.export.steps import Constant, Step

if TYPE_CHECKING:
    from deblur_jax.export.lower import Lowering


def depth_to_space(to: "Lowering", step: Step, given: list[Given]) -> Given:
    """Ours has the order row, column, channel, which ONNX calls DCR and takes where nothing is said."""
    (x,) = given
    block = math.isqrt(step.inputs[0].shape[-1] // step.outputs[0].shape[-1])
    x = to.graph.moved(tensor(x), first(4), step.inputs[0].shape)
    return replace(x, name=to.graph.add("DepthToSpace", x.name, blocksize=block, mode="DCR"))


def space_to_depth(to: "Lowering", step: Step, given: list[Given]) -> Given:
    (x,) = given
    block = math.isqrt(step.outputs[0].shape[-1] // step.inputs[0].shape[-1])
    x = to.graph.moved(tensor(x), first(4), step.inputs[0].shape)
    return replace(x, name=to.graph.add("SpaceToDepth", x.name, blocksize=block))


def enlarge(to: "Lowering", step: Step, given: list[Given]) -> Given:
    x = to.graph.moved(tensor(given[0]), first(4), step.inputs[0].shape)
    before, after = (to.graph.example(v.shape[1]) for v in (step.inputs[0], step.outputs[0]))
    factor = after // before
    scales = to.graph.constant(np.array([1, 1, factor, factor], np.float32))
    how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return replace(x, name=to.graph.add("Resize", x.name, "", scales, **how))


def reduce(op: str) -> Callable[["Lowering", Step, list[Given]], Given]:
    def lower(to: "Lowering", step: Step, given: list[Given]) -> Given:
        x, shape = tensor(given[0]), step.inputs[0].shape
        axes = [a for a in step.params["axes"] if shape[a] != 1]
        if set(axes) - set(x.present):
            x = to.graph.moved(x, first(len(shape)), shape)
        left = [a for a in range(len(shape)) if a not in step.params["axes"]]
        at = {a: i for i, a in enumerate(left)}
        after = tuple(None if a is None else at.get(a) for a in x.axes)
        places = [i for i, a in enumerate(x.axes) if a in axes]
        if not places:
            return replace(x, axes=after)
        mean = op == "ReduceSum" and to.divided_by(step, product([shape[a] for a in axes]))
        if mean and (pooled := _pooled(to, x, places)):
            return replace(x, name=pooled, axes=tuple(a for a in after if a is not None))
        if op == "ReduceSum" and not mean:
            name = to.graph.add(op, x.name, to.graph.integers(places), keepdims=1)
        elif mean and len(x.axes) == 4 and places == [2, 3]:
            name = to.graph.add("GlobalAveragePool", x.name)
        else:
            name = to.graph.add("ReduceMean" if mean else op, x.name, axes=places, keepdims=1)
        return replace(x, name=name, axes=after)

    return lower


def _pooled(to: "Lowering", x: Tensor, places: list[int]) -> str | None:
    """The mean over blocks that a reshape has just set apart, of its input: an average pool."""
    source, sizes = to.blocks.get(x.name, (None, []))
    if source is None or source.axes != (0, 3, 1, 2) or x.axes != (0, 5, 1, 2, 3, 4) or places != [3, 5]:
        return None
    block = [sizes[3], sizes[5]]
    return to.graph.add("AveragePool", source.name, kernel_shape=block, strides=block)


def divide(to: "Lowering", step: Step, given: list[Given]) -> Given:
    if step in to.done:  # by the mean that took its place
        return given[0]
    return numbers.apply(to, step, "Div", given)


def window(op: str) -> Callable[["Lowering", Step, list[Given]], Given]:
    def lower(to: "Lowering", step: Step, given: list[Given]) -> Given:
        p, shape = step.params, step.inputs[0].shape
        window, strides, padding = p["window_dimensions"], p["window_strides"], p["padding"]
        dilated = set(p["base_dilation"]) | set(p["window_dilation"]) != {1}
        if len(shape) != 4 or dilated or window[0] != 1 or window[3] != 1 or strides[0] != 1 or strides[3] != 1:
            raise Unsupported("a window over other than rows and columns")
        x = to.graph.moved(tensor(given[0]), first(4), shape)
        pads = [padding[1][0], padding[2][0], padding[1][1], padding[2][1]]
        how = {"kernel_shape": list(window[1:3]), "strides": list(strides[1:3]), "pads": pads}
        if op == "MaxPool":
            return replace(x, name=to.graph.add(op, x.name, **how))
        x = replace(x, name=to.graph.add("AveragePool", x.name, count_include_pad=1, **how))
        count = window[1] * window[2]
        if to.divided_by(step, count):
            return x
        return numbers.apply(to, step, "Mul", [x, Constant(np.asarray(count, x.dtype))])

    return lower
