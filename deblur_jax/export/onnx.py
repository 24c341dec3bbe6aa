"""Networks as ONNX: traced for any size, written with channels first."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax.export.extra import onnx
from deblur_jax.export.graph import Graph, Tensor, first
from deblur_jax.export.lower import Lowering
from deblur_jax.export.steps import Constant, Slot, flatten

__all__ = ["INPUT", "OUTPUT", "Layout", "convert", "symbolic"]

INPUT, OUTPUT = "picture", "restored"
Layout = Literal["nhwc", "nchw"]
_SYMBOLS = ("n", "h", "w")


def symbolic(multiple: int, *, least: int = 1, channels: int = 3, scope: Any = None) -> tuple[Any, ...]:
    """The shape of any pictures whose sides are multiples, at least `least` times `multiple`."""
    constraints = [f"{side} >= {least}" for side in "hw"] if least > 1 else []
    n, h, w = jax.export.symbolic_shape("n, h, w", constraints=constraints)
    return n, multiple * h, multiple * w, channels


def convert(
    function: Callable[..., Any],
    variables: Any,
    *,
    multiple: int = 1,
    channels: int = 3,
    size: tuple[int, int, int] | None = None,
    batch: int | None = None,
    layout: Layout = "nhwc",
    whole_numbers: bool = False,
    about: Mapping[str, str] | None = None,
) -> tuple[Any, int]:
    """`function(variables, pictures)` as a checked ONNX model, and the least multiple that a side may be.

    Of any number of pictures (or `batch` at a time) whose sides are multiples of `multiple`, or of `size` alone:
    number, height, width. With `whole_numbers` the graph takes and gives 0 to 255 as uint8.
    """
    if size is not None:
        shape, least = (*size, channels), 1
        traced = _trace(function, variables, shape)
    else:
        shape, least, traced = _least(function, variables, multiple, channels, batch)
    picture = Slot(shape, np.dtype(np.float32))
    named = [Constant(np.asarray(leaf), _name(path)) for path, leaf in jax.tree_util.tree_leaves_with_path(variables)]
    program = flatten(traced, [*named, picture])
    graph = Graph()
    if size is None:
        rows = 1 if layout == "nhwc" else 2
        graph.symbols = {"n": (INPUT, 0, 1), "h": (INPUT, rows, multiple), "w": (INPUT, rows + 1, multiple)}
    values = Lowering(program, graph, {picture: _begin(graph, layout, whole_numbers)}).run()
    (result,) = values
    wanted = program.outputs[0].shape
    _end(graph, result, wanted, layout, whole_numbers)
    kind = onnx.TensorProto.UINT8 if whole_numbers else onnx.TensorProto.FLOAT
    sizes = {str(n): text for n, text in zip(shape, ("n", "height", "width"), strict=False)}

    def described(name: str, shape: tuple[Any, ...]) -> Any:
        ordered = shape if layout == "nhwc" or len(shape) != 4 else [shape[a] for a in first(4)]
        dims = [n if isinstance(n, int) else sizes.get(str(n), str(n)) for n in ordered]
        return onnx.helper.make_tensor_value_info(name, kind, dims)

    outputs = [described(OUTPUT, wanted)]
    return graph.model([described(INPUT, shape)], outputs, name="deblur", about=dict(about or {})), least


def _trace(function: Callable[..., Any], variables: Any, shape: tuple[Any, ...]) -> Any:
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), np.asarray(leaf).dtype), variables)
    return jax.make_jaxpr(function)(shapes, jax.ShapeDtypeStruct(shape, jnp.float32))


def _least(
    function: Callable[..., Any], variables: Any, multiple: int, channels: int, batch: int | None
) -> tuple[Any, int, Any]:
    """Some networks look around the border, for which the smallest of their levels must have a few pixels."""
    for least in (1, 2, 4):
        n, *rest = symbolic(multiple, least=least, channels=channels)
        shape = (batch or n, *rest)
        try:
            return shape, least, _trace(function, variables, shape)
        except ValueError as error:
            if "Shape polymorphism" not in str(error) and "inconclusive" not in str(error):
                raise
            reason = error
    raise reason


def _name(path: Any) -> str:
    keys = [str(getattr(key, "key", getattr(key, "idx", key))) for key in path]
    return "/".join(keys[1:] if keys[:1] == ["params"] else keys)


def _begin(graph: Graph, layout: Layout, whole_numbers: bool) -> Tensor:
    name = INPUT
    if layout == "nhwc":
        name = graph.add("Transpose", name, perm=[0, 3, 1, 2])
    if whole_numbers:
        name = graph.add("Cast", name, to=onnx.TensorProto.FLOAT)
        name = graph.add("Mul", name, graph.constant(np.float32(1 / 255)))
    return Tensor(name, first(4), np.dtype(np.float32))


def _end(graph: Graph, result: Any, shape: tuple[Any, ...], layout: Layout, whole_numbers: bool) -> None:
    order = first(len(shape)) if layout == "nchw" or len(shape) == 4 else tuple(range(len(shape)))
    name = graph.whole(result, order, shape)
    if whole_numbers:
        name = graph.add("Mul", name, graph.constant(np.float32(255)))
        name = graph.add("Round", graph.add("Clip", name, *(graph.constant(np.float32(n)) for n in (0, 255))))
        name = graph.add("Cast", name, to=onnx.TensorProto.UINT8)
    if layout == "nhwc" and len(shape) == 4:
        name = graph.add("Transpose", name, perm=[0, 2, 3, 1])
    graph.rename(name, OUTPUT)
