"""Pixel shuffles of an 8-bit graph as what its kernels, which keep channels last, do fast: the same values."""

from typing import Any

import numpy as np

from deblur_jax.export.extra import onnx

__all__ = ["channels_last"]


def channels_last(model: Any) -> Any:
    """DepthToSpace and SpaceToDepth of graphs with channels first, as one transposition that moves runs of channels.

    ONNX Runtime's 8-bit convolutions keep channels last and its DepthToSpace wants them first. Written like this, the
    transpositions at both ends meet those that it puts around convolutions, and vanish.
    """
    made = onnx.shape_inference.infer_shapes(model)
    graph = made.graph
    values = [*graph.input, *graph.value_info]
    channels = {v.name: v.type.tensor_type.shape.dim[1].dim_value for v in values if _rank(v) == 4}
    shapes: dict[str, np.ndarray] = {}
    nodes = []
    for node in graph.node:
        if node.op_type not in ("DepthToSpace", "SpaceToDepth"):
            nodes.append(type(node).FromString(node.SerializeToString()))
            continue
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        r, c = attributes["blocksize"], channels[node.input[0]]
        assert attributes.get("mode", b"DCR") == b"DCR", "the order that our networks are written in"
        # In a Reshape 0 keeps the size at its place: heights and widths stay unknown.
        if node.op_type == "DepthToSpace":
            run = c // r
            steps = [[0, 0, 0, r, run], (0, 1, 3, 2, 4), [0, -1, 1, 0, run], [0, 0, -1, run // r]]
        else:
            run = c * r
            steps = [[0, 0, 1, -1, run], [0, -1, r, 0, run], (0, 1, 3, 2, 4), [0, 0, 0, r * run]]
        name = node.input[0]
        steps = [(0, 2, 3, 1), *steps, (0, 3, 1, 2)]
        for i, step in enumerate(steps):
            given, name = name, node.output[0] if i == len(steps) - 1 else f"{node.name}/{i}.out"
            if isinstance(step, tuple):
                nodes.append(onnx.helper.make_node("Transpose", [given], [name], f"{node.name}/{i}", perm=step))
            else:
                shape = f"shape {' '.join(map(str, step))}"
                shapes[shape] = np.array(step, np.int64)
                nodes.append(onnx.helper.make_node("Reshape", [given, shape], [name], f"{node.name}/{i}"))
    del graph.node[:]
    del graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(onnx.numpy_helper.from_array(shape, name) for name, shape in shapes.items())
    return made


def _rank(value: Any) -> int:
    return len(value.type.tensor_type.shape.dim)
