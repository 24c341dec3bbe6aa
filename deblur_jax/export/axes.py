"""Operations that only move, name, cut or join axes: mostly no node at all."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from deblur_jax.export.graph import Given, Tensor, Unsupported, first, known, order_of, tensor
from deblur_jax.export.steps import Constant, Size, Step

if TYPE_CHECKING:
    from deblur_jax.export.lower import Lowering

_END = np.iinfo(np.int64).max


def transpose(to: "Lowering", step: Step, given: list[Given]) -> Given:
    x = tensor(given[0])
    at = {a: i for i, a in enumerate(step.params["permutation"])}
    return replace(x, axes=tuple(None if a is None else at[a] for a in x.axes))


def broadcast(to: "Lowering", step: Step, given: list[Given]) -> Given:
    """Copies are never made, only meant, until somebody needs them."""
    (x,) = given
    shape, axes = step.params["shape"], step.params["broadcast_dimensions"]
    if isinstance(x, Constant):
        before = [1] * len(shape)
        for a, n in zip(axes, x.shape, strict=True):
            before[a] = n
        return Constant(x.array.reshape(before), x.name)
    if isinstance(x, Size):
        return x
    same = {i: a for i, a in enumerate(axes) if step.inputs[0].shape[i] == shape[a]}
    return replace(x, axes=tuple(None if a is None else same.get(a) for a in x.axes))


def squeeze(to: "Lowering", step: Step, given: list[Given]) -> Given:
    x = tensor(given[0])
    left = [a for a in range(len(step.inputs[0].shape)) if a not in step.params["dimensions"]]
    at = {a: i for i, a in enumerate(left)}
    return replace(x, axes=tuple(None if a is None else at.get(a) for a in x.axes))


def _groups(to: "Lowering", before: Sequence[Any], after: Sequence[Any]) -> list[tuple[list[int], list[int]]]:
    """Which axes become which, as the smallest groups of neighbours of equal size.

    Axes of size one, which any group could have, are left out, but for those at the front that stay what they are.
    """
    groups, front = [], 0
    while front < min(len(before), len(after)) and before[front] == after[front]:
        groups.append(([front], [front]))
        front += 1
    old = [(a, to.graph.example(n)) for a, n in enumerate(before) if a >= front and n != 1]
    new = [(a, to.graph.example(n)) for a, n in enumerate(after) if a >= front and n != 1]
    i = j = 0
    while i < len(old) or j < len(new):
        left, right = [old[i][0]], [new[j][0]]
        size, other = old[i][1], new[j][1]
        i, j = i + 1, j + 1
        while size != other:
            if size < other:
                left.append(old[i][0])
                size, i = size * old[i][1], i + 1
            else:
                right.append(new[j][0])
                other, j = other * new[j][1], j + 1
        groups.append((left, right))
    return groups


def reshape(to: "Lowering", step: Step, given: list[Given]) -> Given:
    """Within the order of axes that is there, if those that are merged lie side by side."""
    x = tensor(given[0])
    if step.params.get("dimensions") is not None:
        raise Unsupported("a reshape that transposes")
    before, after = step.inputs[0].shape, step.outputs[0].shape
    groups = _groups(to, before, after)
    if all(len(left) == len(right) == 1 for left, right in groups):
        at = {left[0]: right[0] for left, right in groups}
        return replace(x, axes=tuple(None if a is None else at.get(a) for a in x.axes))
    merged = {a for left, _ in groups for a in left}
    if merged - set(x.present):
        x = to.graph.moved(x, first(len(before)), before)
    order = _merged(groups, [a for a in x.present if a in merged])
    if order is None:  # what is merged lies apart
        x = to.graph.moved(x, range(len(before)), before)
        order = [a for _, right in groups for a in right]
    reshaped = Tensor(to.graph.add("Reshape", x.name, _target(to, x, order, before, after)), tuple(order), x.dtype)
    if all(isinstance(after[a], int) for _, right in groups for a in right[1:]):
        to.blocks[reshaped.name] = x, [after[a] for a in order]
    return reshaped


def _merged(groups: list[tuple[list[int], list[int]]], places: list[int]) -> list[int] | None:
    """The axes after, in the order of those before."""
    by_first = {left[0]: (left, right) for left, right in groups}
    order: list[int] = []
    while places:
        left, right = by_first.get(places[0], ([], []))
        if not left or places[: len(left)] != left:
            return None
        order, places = order + right, places[len(left) :]
    return order


def _target(to: "Lowering", x: Tensor, order: Sequence[int], before: Sequence[Any], after: Sequence[Any]) -> str:
    """The sizes; one of those that are not known follows from the others, and those that stay are 0."""
    held = [1 if a is None else before[a] for a in x.axes]
    sizes = [after[a] for a in order]
    kept = [0 if i < len(held) and held[i] == n and not isinstance(n, int) else n for i, n in enumerate(sizes)]
    if sum(not isinstance(n, int) for n in kept) <= 1:
        return to.graph.integers([n if isinstance(n, int) else -1 for n in kept])
    return to.graph.shape(sizes)


def concatenate(to: "Lowering", step: Step, given: list[Given]) -> Given:
    order = order_of(step, given)
    axis = step.params["dimension"]
    pairs = [(value, s.shape) for value, s in zip(given, step.inputs, strict=True) if s.shape[axis] != 0]
    name = to.graph.add("Concat", *(to.graph.whole(v, order, shape) for v, shape in pairs), axis=order.index(axis))
    return Tensor(name, order, step.outputs[0].dtype)


def stack(to: "Lowering", step: Step, given: list[Given]) -> Given:
    axis, shape = step.params["axis"], step.outputs[0].shape
    order = order_of(step, [])
    at = [a for a in range(len(shape)) if a != axis]
    single = [1 if a == axis else n for a, n in enumerate(shape)]
    parts = []
    for value in given:
        if isinstance(value, Tensor):
            value = replace(value, axes=tuple(None if a is None else at[a] for a in value.axes))
        elif isinstance(value, Constant):
            value = Constant(np.expand_dims(value.array, axis), value.name)
        parts.append(to.graph.whole(value, order, single))
    return Tensor(to.graph.add("Concat", *parts, axis=order.index(axis)), order, step.outputs[0].dtype)


def _cut(to: "Lowering", x: Tensor, shape: Sequence[Any], starts: Any, limits: Any, strides: Any) -> Tensor:
    """Slices along the axes that it has and that are not taken whole."""
    begins, ends, places, steps = [], [], [], []
    for place, a in enumerate(x.axes):
        if a is None or (starts[a] == 0 and limits[a] == shape[a] and strides[a] == 1):
            continue
        places.append(place)
        steps.append(strides[a])
        begins.append(_from_the_end(starts[a], shape[a]))
        ends.append(_END if limits[a] == shape[a] else _from_the_end(limits[a], shape[a]))
    if not places:
        return x
    numbers = [to.graph.shape(n) for n in (begins, ends)] + [to.graph.integers(n) for n in (places, steps)]
    return replace(x, name=to.graph.add("Slice", x.name, *numbers))


def _from_the_end(at: Any, size: Any) -> Any:
    """A place that lies a fixed number before the end, as ONNX counts it: below zero."""
    if isinstance(at, int):
        return at
    before = at - size
    return before if isinstance(before, int) and before < 0 else at


def window(to: "Lowering", step: Step, given: list[Given]) -> Given:
    x, params, shape = tensor(given[0]), step.params, step.inputs[0].shape
    return _cut(to, x, shape, params["start_indices"], params["limit_indices"], params["strides"] or (1,) * len(shape))


def gather(to: "Lowering", step: Step, given: list[Given]) -> Given:
    """One window at a known place, which is what indexing and slicing are where sizes are symbols."""
    x, at = given
    numbers, sizes, shape = step.params["dimension_numbers"], step.params["slice_sizes"], step.inputs[0].shape
    left = [a for a in range(len(shape)) if a not in numbers.collapsed_slice_dims]
    if not isinstance(x, Tensor) or not isinstance(at, Constant) or at.array.ndim != 1 or numbers.operand_batching_dims:
        raise Unsupported("a gather of other than one window at a known place (jax.lax.slice has a stride)")
    if tuple(numbers.offset_dims) != tuple(range(len(step.outputs[0].shape))):
        raise Unsupported("a gather that moves axes")
    starts = [0] * len(shape)
    for a, start in zip(numbers.start_index_map, at.array.tolist(), strict=True):
        starts[a] = start
    limits = [start + size for start, size in zip(starts, sizes, strict=True)]
    cut = _cut(to, x, shape, starts, limits, (1,) * len(shape))
    places = {a: i for i, a in enumerate(left)}
    return replace(cut, axes=tuple(None if a is None else places.get(a) for a in cut.axes))


def reverse(to: "Lowering", step: Step, given: list[Given]) -> Given:
    x, shape = tensor(given[0]), step.inputs[0].shape
    turned = [a for a in step.params["dimensions"] if shape[a] != 1]
    places = [i for i, a in enumerate(x.axes) if a in turned]
    if not places:
        return x
    many = len(places)
    numbers = [to.graph.integers(n) for n in ([-1] * many, [-_END] * many, places, [-1] * many)]
    return replace(x, name=to.graph.add("Slice", x.name, *numbers))


def pad(to: "Lowering", step: Step, given: list[Given]) -> Given:
    x, value = given
    config = step.params["padding_config"]
    if any(inner != 0 for *_, inner in config) or not known(config):
        raise Unsupported("padding between pixels, or by a size that is not known")
    if not isinstance(x, Tensor) or not isinstance(value, Constant):
        raise Unsupported("padding of this kind")
    order = x.present if len(x.present) == len(config) else first(len(config))
    x = to.graph.moved(x, order, step.inputs[0].shape)
    pads = [config[a][0] for a in order] + [config[a][1] for a in order]
    name = to.graph.add("Pad", x.name, to.graph.integers(pads), to.graph.constant(value.array), mode="constant")
    return replace(x, name=name)


def split(to: "Lowering", step: Step, given: list[Given]) -> list[Given]:
    x, axis, start, parts = tensor(given[0]), step.params["axis"], 0, []
    shape = step.inputs[0].shape
    for size in step.params["sizes"]:
        starts = [start if a == axis else 0 for a in range(len(shape))]
        limits = [start + size if a == axis else n for a, n in enumerate(shape)]
        parts.append(_cut(to, x, shape, starts, limits, (1,) * len(shape)))
        start += size
    return parts
