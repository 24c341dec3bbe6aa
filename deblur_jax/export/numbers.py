"""Operations on each number by itself."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from deblur_jax.export.extra import onnx
from deblur_jax.export.graph import Given, Tensor, Unsupported, order_of, product, tensor
from deblur_jax.export.steps import Constant, Step

if TYPE_CHECKING:
    from deblur_jax.export.lower import Lowering


def each(op: str) -> Callable[["Lowering", Step, list[Given]], Given]:
    """An operator that takes numbers at the same place, copies of what is smaller."""

    def lower(to: "Lowering", step: Step, given: list[Given]) -> Given:
        return apply(to, step, op, given)

    return lower


def apply(to: "Lowering", step: Step, op: str, given: Sequence[Given], **attributes: Any) -> Tensor:
    tensors = [value for value in given if isinstance(value, Tensor)]
    numbers = [value for value in given if not isinstance(value, Tensor)]
    alike = len({t.axes for t in tensors}) == 1 and all(product(v.shape) == 1 for v in numbers)
    order = order_of(step, given)
    names = [v.name if alike and isinstance(v, Tensor) else to.graph.aligned(v, order) for v in given]
    axes = tensors[0].axes if alike else _covered(given, order)
    return Tensor(to.graph.add(op, *names, **attributes), axes, step.outputs[0].dtype)


def _covered(given: Sequence[Given], order: tuple[int, ...]) -> tuple[int | None, ...]:
    """The dimensions of the result, the axes that nobody has being None."""
    rank, held = 0, set()
    for value in given:
        if isinstance(value, Tensor):
            held.update(value.present)
            ranks = [len(order) - order.index(a) for a in value.present]
            matches = len(value.axes) <= len(order)
            rank = max(rank, *ranks, len(value.axes) if matches else 0, 0)
        elif isinstance(value, Constant):
            here = [a for a, n in enumerate(value.shape) if n != 1]
            held.update(here)
            rank = max(rank, *(len(order) - order.index(a) for a in here), 0)
    return tuple(a if a in held else None for a in order[len(order) - rank :])


def add(to: "Lowering", step: Step, given: list[Given]) -> Given:
    """A bias goes into the convolution that it follows; adding zero is nothing."""
    for one, other in ((given[0], given[1]), (given[1], given[0])):
        if isinstance(one, Tensor) and isinstance(other, Constant):
            if not other.array.any():
                return one
            if _biased(to, step, one, other):
                return one
    return apply(to, step, "Add", given)


def _by_channel(to: "Lowering", step: Step, x: Tensor, values: Constant) -> np.ndarray | None:
    """One number a channel, if it goes with a convolution that nobody else reads."""
    node = to.graph.producer(x)
    if node is None or not x.sole or node.op not in ("Conv", "ConvTranspose") or x.axes[1] is None:
        return None
    if any(n != 1 for a, n in enumerate(values.shape) if a != x.axes[1]):
        return None
    return np.broadcast_to(values.array.reshape(-1), (step.outputs[0].shape[x.axes[1]],))


def _biased(to: "Lowering", step: Step, x: Tensor, bias: Constant) -> bool:
    values, node = _by_channel(to, step, x, bias), to.graph.producer(x)
    if values is None or node is None:
        return False
    if len(node.inputs) == 2:
        node.inputs.append(to.graph.constant(values, bias.name))
    else:  # the second one
        node.inputs[2] = to.graph.constant(to.graph.constants[node.inputs[2]] + values, node.inputs[2])
    return True


def _scaled(to: "Lowering", step: Step, x: Tensor, scale: Constant) -> bool:
    """Normalisation by known statistics is part of the convolution before it."""
    values, node = _by_channel(to, step, x, scale), to.graph.producer(x)
    if values is None or node is None or node.op != "Conv" or node.inputs[1] not in to.graph.constants:
        return False
    for i, name in enumerate(node.inputs[1:], 1):
        old = to.graph.constants[name]
        node.inputs[i] = to.graph.constant(old * values.reshape(-1, *[1] * (old.ndim - 1)), name)
    return True


def maximum(to: "Lowering", step: Step, given: list[Given]) -> Given:
    for one, other in ((given[0], given[1]), (given[1], given[0])):
        if isinstance(one, Tensor) and isinstance(other, Constant) and other.array.size == 1:
            if other.array.item() == 0 and one.dtype.kind == "f":
                return replace(one, name=to.graph.add("Relu", one.name))
            if other.array.item() == -math.inf:
                return one
    return apply(to, step, "Max", given)


def mul(to: "Lowering", step: Step, given: list[Given]) -> Given:
    for one, other in ((given[0], given[1]), (given[1], given[0])):
        if isinstance(one, Tensor) and isinstance(other, Constant) and (other.array == 1).all():
            return one
        if isinstance(one, Tensor) and isinstance(other, Constant) and _scaled(to, step, one, other):
            return one
    return apply(to, step, "Mul", given)


def sub(to: "Lowering", step: Step, given: list[Given]) -> Given:
    one, other = given
    if (
        isinstance(one, Tensor)
        and isinstance(other, Constant)
        and _biased(to, step, one, Constant(np.asarray(-other.array)))
    ):
        return one
    return apply(to, step, "Sub", given)


def of_one(op: str) -> Callable[["Lowering", Step, list[Given]], Given]:
    def lower(to: "Lowering", step: Step, given: list[Given]) -> Given:
        x = tensor(given[0])
        return replace(x, name=to.graph.add(op, x.name), dtype=step.outputs[0].dtype)

    return lower


def chain(*ops: str) -> Callable[["Lowering", Step, list[Given]], Given]:
    def lower(to: "Lowering", step: Step, given: list[Given]) -> Given:
        for op in ops:
            given = [of_one(op)(to, step, given)]
        return given[0]

    return lower


def square(to: "Lowering", step: Step, given: list[Given]) -> Given:
    return apply(to, step, "Mul", [given[0], given[0]])


def power(to: "Lowering", step: Step, given: list[Given]) -> Given:
    power = step.params["y"]
    if power == 2:
        return square(to, step, given)
    return apply(to, step, "Pow", [given[0], Constant(np.asarray(power, step.outputs[0].dtype))])


def erfc(to: "Lowering", step: Step, given: list[Given]) -> Given:
    x = of_one("Erf")(to, step, given)
    return apply(to, step, "Sub", [Constant(np.ones((), step.outputs[0].dtype)), x])


def log1p(to: "Lowering", step: Step, given: list[Given]) -> Given:
    one = Constant(np.ones((), step.outputs[0].dtype))
    return of_one("Log")(to, step, [apply(to, step, "Add", [given[0], one])])


def expm1(to: "Lowering", step: Step, given: list[Given]) -> Given:
    one = Constant(np.ones((), step.outputs[0].dtype))
    return apply(to, step, "Sub", [of_one("Exp")(to, step, given), one])


def rounded(to: "Lowering", step: Step, given: list[Given]) -> Given:
    if step.params["rounding_method"] != jax.lax.RoundingMethod.TO_NEAREST_EVEN:
        raise Unsupported("rounding halves away from zero")
    return of_one("Round")(to, step, given)


def not_equal(to: "Lowering", step: Step, given: list[Given]) -> Given:
    return of_one("Not")(to, step, [apply(to, step, "Equal", given)])


def clamp(to: "Lowering", step: Step, given: list[Given]) -> Given:
    low, x, high = given
    return apply(to, step, "Min", [apply(to, step, "Max", [x, low]), high])


def select(to: "Lowering", step: Step, given: list[Given]) -> Given:
    if len(given) != 3 or step.inputs[0].dtype != np.bool_:
        raise Unsupported("a choice among more than two")
    return apply(to, step, "Where", [given[0], given[2], given[1]])


def cast(to: "Lowering", step: Step, given: list[Given]) -> Given:
    x, dtype = tensor(given[0]), step.outputs[0].dtype
    if x.dtype == dtype:
        return x
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return replace(x, name=to.graph.add("Cast", x.name, to=kind), dtype=dtype)
