"""Convolutions and matrix products."""

from typing import TYPE_CHECKING, Any

from deblur_jax.export.graph import Given, Tensor, Unsupported, first, known
from deblur_jax.export.steps import Constant, Step

if TYPE_CHECKING:
    from deblur_jax.export.lower import Lowering


def conv(to: "Lowering", step: Step, given: list[Given]) -> Given:
    x, kernel = given
    p, spec = step.params, step.params["dimension_numbers"]
    padding = p["padding"]
    if p["batch_group_count"] != 1:
        raise Unsupported("a convolution in groups of pictures")
    if not known(padding):
        raise Unsupported("padding by a size that is not known")
    sizes = [step.inputs[1].shape[a] for a in spec.rhs_spec[2:]]
    x = to.graph.whole(x, spec.lhs_spec, step.inputs[0].shape)
    groups, dilations = p["feature_group_count"], list(p["rhs_dilation"])
    how: dict[str, Any] = {"group": groups, "dilations": dilations}
    if set(p["lhs_dilation"]) == {1}:
        weights = to.graph.whole(kernel, spec.rhs_spec, step.inputs[1].shape)
        pads = [low for low, _ in padding] + [high for _, high in padding]
        how |= {"kernel_shape": sizes, "strides": list(p["window_strides"]), "pads": pads}
        name = to.graph.add("Conv", x, weights, **_unlike_default(how))
    else:
        name = to.graph.add("ConvTranspose", x, _turned(to, step, kernel, groups), **_transposed(p, sizes, how))
    return Tensor(name, tuple(spec.out_spec), step.outputs[0].dtype)


def _unlike_default(how: dict[str, Any]) -> dict[str, Any]:
    """A viewer shows what is special."""
    plain = {"group": 1, "dilations": [1, 1], "strides": [1, 1], "pads": [0, 0, 0, 0], "output_padding": [0, 0]}
    return {name: value for name, value in how.items() if value != plain.get(name)}


def _turned(to: "Lowering", step: Step, kernel: Given, groups: int) -> str:
    """The kernel of the convolution with zeros between its pixels, as that of the transposed one: flipped, IOHW."""
    if not isinstance(kernel, Constant):
        raise Unsupported("a transposed convolution whose kernel is computed")
    array = kernel.array.transpose(step.params["dimension_numbers"].rhs_spec)  # OIHW
    out, into, *sides = array.shape
    array = array.reshape(groups, out // groups, into, *sides).swapaxes(1, 2).reshape(groups * into, -1, *sides)
    return to.graph.constant(array[:, :, ::-1, ::-1], kernel.name)


def _transposed(p: Any, sizes: list[int], how: dict[str, Any]) -> dict[str, Any]:
    if set(p["window_strides"]) != {1}:
        raise Unsupported("a transposed convolution with a stride")
    before, after, more = [], [], []
    for size, dilation, (low, high) in zip(sizes, how["dilations"], p["padding"], strict=True):
        reach = dilation * (size - 1)
        before.append(reach - low)
        after.append(max(0, reach - high))
        more.append(max(0, high - reach))
    if min(before) < 0:
        raise Unsupported("a transposed convolution with that much padding in front")
    strides = list(p["lhs_dilation"])
    return _unlike_default(
        {**how, "kernel_shape": sizes, "strides": strides, "pads": before + after, "output_padding": more}
    )


def dot(to: "Lowering", step: Step, given: list[Given]) -> Given:
    (left, right), (batch_left, batch_right) = step.params["dimension_numbers"]
    a, b = given
    shapes = [value.shape for value in step.inputs]
    ranks = [len(shape) for shape in shapes]
    if isinstance(b, Constant) and ranks == [4, 2] and tuple(left) == (3,) and not batch_left:
        # Of each pixel's channels: a convolution of size one, which needs no axis moved.
        kernel = b.array if right[0] == 0 else b.array.T
        x = to.graph.whole(a, first(4), shapes[0])
        weights = to.graph.constant(kernel.T[:, :, None, None], b.name)
        return Tensor(to.graph.add("Conv", x, weights, kernel_shape=[1, 1]), first(4), step.outputs[0].dtype)
    free = [
        [d for d in range(rank) if d not in (*used, *batch)]
        for rank, used, batch in zip(ranks, (left, right), (batch_left, batch_right), strict=True)
    ]
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    names: list[dict[int, str]] = [{}, {}]
    for d, e in [*zip(batch_left, batch_right, strict=True), *zip(left, right, strict=True)]:
        names[0][d] = names[1][e] = next(letters)
    for side in (0, 1):
        for d in free[side]:
            names[side][d] = next(letters)
    result = [names[0][d] for d in (*batch_left, *free[0])] + [names[1][d] for d in free[1]]
    if len(left) == len(free[0]) == len(free[1]) == 1:
        lhs = to.graph.whole(a, [*batch_left, free[0][0], left[0]], shapes[0])
        rhs = to.graph.whole(b, [*batch_right, right[0], free[1][0]], shapes[1])
        return Tensor(to.graph.add("MatMul", lhs, rhs), tuple(range(len(result))), step.outputs[0].dtype)
    orders = [_present_order(value, rank) for value, rank in zip(given, ranks, strict=True)]
    operands = [to.graph.whole(v, o, s) for v, o, s in zip(given, orders, shapes, strict=True)]
    texts = ["".join(names[side][d] for d in orders[side]) for side in (0, 1)]
    name = to.graph.add("Einsum", *operands, equation=f"{texts[0]},{texts[1]}->{''.join(result)}")
    return Tensor(name, tuple(range(len(result))), step.outputs[0].dtype)


def _present_order(value: Given, rank: int) -> tuple[int, ...]:
    return value.present if isinstance(value, Tensor) and len(value.present) == rank else tuple(range(rank))
