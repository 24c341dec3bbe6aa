"""A TensorFlow.js graph model run by TensorFlow itself: what a network computed before it was written anew here.

Of the format: `model.json` holds the graph as JSON (`modelTopology`, a GraphDef whose constants are empty), and the
names, types and shapes of the constants (`weightsManifest`), which lie one after the other in the files beside it.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deblur_jax.errors import UserError

__all__ = ["Graph", "constants", "read", "runnable"]

_TYPES = {"float32": np.dtype("<f4"), "int32": np.dtype("<i4"), "bool": np.dtype("?")}


class Graph(NamedTuple):
    """TensorFlow's own GraphDef, whole, and the names of its one input and its one output."""

    definition: bytes
    given: str
    result: str


def read(package: Path) -> Graph:
    """The graph of an unpacked package, or of a `model.json`."""
    file = _model(package)
    model = _parsed(file)
    try:
        values = constants(file.parent, model["weightsManifest"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file}: its list of weights is damaged ({type(error).__name__}: {error})") from None
    tf = _tensorflow()
    from google.protobuf import json_format  # pyright: ignore[reportMissingImports, reportMissingModuleSource]

    graph = tf.compat.v1.GraphDef()
    try:
        json_format.ParseDict(model["modelTopology"], graph, ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise UserError(f"{file}: not a graph that this TensorFlow reads: {str(error).splitlines()[0]}") from None
    for node in graph.node:
        if node.op == "Const":
            if node.name not in values:
                raise UserError(f"{file}: the value of {node.name} is missing")
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(values[node.name]))
    given, result = _ends(graph, file)
    return Graph(graph.SerializeToString(), given, result)


def runnable(graph: Graph) -> Callable[[Any], Any]:
    """As a function of pictures `(b h w 3)`, which TensorFlow prepares when it is first called."""
    tf = _tensorflow()
    definition = tf.compat.v1.GraphDef.FromString(graph.definition)

    def restore(pictures: Any) -> Any:
        ends = {graph.given: pictures}, [f"{graph.result}:0"]
        return tf.graph_util.import_graph_def(definition, *ends, name="")[0]

    pictures = tf.TensorSpec((None, None, None, 3), tf.float32)
    return tf.function(restore, input_signature=[pictures], autograph=False)


def constants(folder: Path, manifest: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Every constant by name. Quantised ones are refused: they would not be what the network was trained to."""
    found = {}
    for group in manifest:
        data = b"".join(_bytes(folder / name) for name in group["paths"])
        at = 0
        for about in group["weights"]:
            name, kind, shape = about["name"], about["dtype"], tuple(about["shape"])
            if "quantization" in about or kind not in _TYPES:
                raise UserError(f"{folder}: {name} is quantised or of the type {kind}, which is not read here")
            dtype, count = _TYPES[kind], math.prod(shape)
            if at + count * dtype.itemsize > len(data):
                raise UserError(f"{folder}: the files of constants are not whole, {name} is missing")
            found[name] = np.frombuffer(data, dtype, count, at).reshape(shape)
            at += count * dtype.itemsize
        if at != len(data):
            raise UserError(f"{folder}: the files of constants hold {len(data) - at} bytes more than they should")
    return found


def _tensorflow() -> Any:
    try:
        import tensorflow  # pyright: ignore[reportMissingModuleSource]
    except ImportError as error:
        raise UserError(f"the original graph needs the tf extra ({error}): pip install 'deblur-jax[tf]'") from None
    return tensorflow


def _model(package: Path) -> Path:
    places = ("model.json", "models/model.json", "package/models/model.json")
    for file in (package, *(package / place for place in places)):
        if file.is_file():
            return file
    raise UserError(f"{package}: no model.json of TensorFlow.js; name the folder that its package was unpacked to")


def _parsed(file: Path) -> dict[str, Any]:
    try:
        model = json.loads(_bytes(file))
        if isinstance(model["modelTopology"]["node"], list) and isinstance(model["weightsManifest"], list):
            return model
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(f"{file}: not a graph model of TensorFlow.js, or not whole")


def _ends(graph: Any, file: Path) -> tuple[str, str]:
    """The names of the one input, and of the one node that no other takes."""
    given = [node.name for node in graph.node if node.op == "Placeholder"]
    taken = {name.lstrip("^").partition(":")[0] for node in graph.node for name in node.input}
    last = [node.name for node in graph.node if node.name not in taken and node.op != "Const"]
    if len(given) != 1 or len(last) != 1:
        raise UserError(f"{file}: takes {len(given)} inputs and gives {len(last)} outputs, where one and one are known")
    return given[0], last[0]


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: {error.strerror or error}") from None
