"""How much memory a graph takes for each pixel of its input."""

import math
from typing import Any

from deblur_jax.export.extra import onnx

__all__ = ["bytes_per_pixel"]

_SIDE = 256


def bytes_per_pixel(model: Any, layout: str) -> float:
    """The most that tensors take which are needed at one time; doubled, for what the runtime copies and keeps."""
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    dims = sized.graph.input[0].type.tensor_type.shape.dim
    rows = 1 if layout == "nhwc" else 2
    for place, side in ((0, 1), (rows, _SIDE), (rows + 1, _SIDE)):
        if not dims[place].dim_value:
            dims[place].dim_value = side
    pixels = math.prod(dims[place].dim_value for place in (0, rows, rows + 1))
    for output in sized.graph.output:
        output.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(sized).graph
    sizes = {value.name: _bytes(value) for value in [*graph.input, *graph.value_info, *graph.output]}
    last = {name: i for i, node in enumerate(graph.node) for name in node.input}
    held = {graph.input[0].name: sizes[graph.input[0].name]}
    most = 0
    for i, node in enumerate(graph.node):
        held.update({name: sizes.get(name, 0) for name in node.output})
        most = max(most, sum(held.values()))
        held = {name: size for name, size in held.items() if last.get(name, len(graph.node)) > i}
    return 2 * most / pixels


def _bytes(value: Any) -> int:
    kind = value.type.tensor_type
    width = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize if kind.elem_type else 4
    return width * math.prod(dim.dim_value or 1 for dim in kind.shape.dim)
