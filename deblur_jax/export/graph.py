"""A graph of ONNX nodes while it is being written, and values in it that know which axis lies where.

The network is traced with channels last and written with channels first. No node moves axes for that: each tensor says
which of the network's axes each of its own dimensions is, so a transposition, an added or a removed axis of size one is
only another way of saying so. Nodes are told the order they need, and tensors that have it already stay as they are.
"""

import collections
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from deblur_jax.export.extra import onnx
from deblur_jax.export.steps import Constant, Size, Step

__all__ = [
    "IR_VERSION",
    "OPSET",
    "Given",
    "Graph",
    "Node",
    "Tensor",
    "Unsupported",
    "first",
    "known",
    "order_of",
    "product",
    "tensor",
]

# Old enough for the runtimes that are about (ONNX Runtime 1.12), new enough for all that is written here.
OPSET = 17
IR_VERSION = 8


class Unsupported(Exception):
    """What the step asks for has no counterpart here; says what."""


@dataclass
class Node:
    op: str
    inputs: list[str]
    outputs: list[str]
    name: str
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Tensor:
    """`axes[i]` is the network's axis that dimension i holds; None is a dimension of size one that is none of them.

    An axis that is nowhere is of size one, or the tensor stands for its copies along it.
    """

    name: str
    axes: tuple[int | None, ...]
    dtype: np.dtype
    sole: bool = False  # nobody but the step at hand reads it

    @property
    def present(self) -> tuple[int, ...]:
        return tuple(a for a in self.axes if a is not None)


Given = Tensor | Constant | Size


def first(rank: int) -> tuple[int, ...]:
    """The order of axes that is written where nothing else asks for another: channels before rows and columns."""
    return (0, rank - 1, *range(1, rank - 1)) if rank >= 3 else tuple(range(rank))


def product(sizes: Sequence[Any]) -> Any:
    total: Any = 1
    for size in sizes:
        total = size * total
    return total


def order_of(step: Step, given: Sequence[Given]) -> tuple[int, ...]:
    """The order of axes in which most of what is given lies already."""
    rank = len(step.outputs[0].shape)
    tensors = [value for value in given if isinstance(value, Tensor)]
    fullest = max(tensors, key=lambda t: len(t.present), default=None)
    if fullest is not None and len(fullest.present) == rank:
        return fullest.present
    return first(rank)


def known(edges: Any) -> bool:
    """Whether all of these pairs of sizes are numbers now."""
    return all(isinstance(n, int | np.integer) for some in edges for n in some)


def tensor(value: Given) -> Tensor:
    """For operations that nothing but a tensor reaches."""
    if not isinstance(value, Tensor):
        raise Unsupported("a constant at this place")
    return value


class Graph:
    """Nodes and constants; `sizes` says how each symbol of a size is found from the input's shape."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self.path = ""  # what new nodes are named after
        self.shapes: dict[str, tuple[np.dtype, list[Any]]] = {}  # of tensors, by which runtimes plan their memory
        self.symbols: dict[str, tuple[str, int, int]] = {}  # of which input, dimension, and divided by what
        self._producers: dict[str, Node] = {}
        self._equal: dict[Any, str] = {}
        self._names: collections.Counter[str] = collections.Counter()

    # --- Writing ---------------------------------------------------------------------------------------------

    def named(self, name: str) -> str:
        """The name, or the same with a number if it is taken."""
        self._names[name] += 1
        count = self._names[name]
        return name if count == 1 else self.named(f"{name}_{count}")

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """One node with one output, whose name it returns; the same of the same is not computed twice."""
        # But for convolutions, which take in the bias that follows: each its own.
        key = None if op.startswith("Conv") else (op, inputs, repr(sorted(attributes.items())))
        if key in self._equal:
            return self._equal[key]
        name = self.named(f"{self.path}/{op}" if self.path else op)
        node = Node(op, list(inputs), [f"{name}.out"], name, attributes)
        self.nodes.append(node)
        self._producers[node.outputs[0]] = node
        if key is not None:
            self._equal[key] = node.outputs[0]
        return node.outputs[0]

    def producer(self, tensor: Tensor) -> Node | None:
        return self._producers.get(tensor.name)

    def rename(self, tensor: str, name: str) -> None:
        """Gives the last tensor the name that callers know; one that somebody else reads is passed on."""
        node = self._producers.get(tensor)
        if node is None or any(tensor in other.inputs for other in self.nodes):
            node = self._producers[self.add("Identity", tensor)]
        node.outputs = [name]

    def constant(self, array: Any, name: str = "", dtype: Any = None) -> str:
        """Small ones that are equal are one."""
        array = np.ascontiguousarray(array, dtype) if np.ndim(array) else np.asarray(array, dtype)
        key = (array.dtype.str, array.shape, array.tobytes()) if array.size <= 64 and not name else None
        if key is not None and key in self._equal:
            return self._equal[key]
        if not name:
            name = str(array.item()) if array.size == 1 else f"{self.path}/constant".lstrip("/")
        written = self.named(name)
        self.constants[written] = array
        if key is not None:
            self._equal[key] = written
        return written

    def integers(self, values: Sequence[int | np.integer]) -> str:
        return self.constant(np.array(values, np.int64), dtype=np.int64)

    # --- Sizes -----------------------------------------------------------------------------------------------

    def size(self, expression: Any) -> str:
        """A size as a tensor of one integer, computed when the graph runs if it has to be."""
        if isinstance(expression, int | np.integer):
            return self.integers([int(expression)])
        environment = {name: _Number(self, self._symbol(name)) for name in self.symbols}
        return _evaluate(expression, environment).name

    def shape(self, sizes: Sequence[Any]) -> str:
        if all(isinstance(size, int | np.integer) for size in sizes):
            return self.integers(sizes)
        return self.add("Concat", *(self.size(size) for size in sizes), axis=0)

    def example(self, expression: Any) -> int:
        """The size for one picture whose sides share no factor with anything else, to tell sizes apart."""
        primes = (10007, 10009, 10037, 10039, 10061, 10067)
        return int(_evaluate(expression, dict(zip(self.symbols, primes, strict=False))))

    def _symbol(self, name: str) -> str:
        key = ("size", name)
        if key not in self._equal:
            tensor, dimension, factor = self.symbols[name]
            whole = self.add("Gather", self.add("Shape", tensor), self.integers([dimension]), axis=0)
            self._equal[key] = whole if factor == 1 else self.add("Div", whole, self.integers([factor]))
        return self._equal[key]

    # --- Axes ------------------------------------------------------------------------------------------------

    def aligned(self, value: Given, order: Sequence[int]) -> str:
        """The value with its axes in this order; those in front that it does not have are left out."""
        return self._aligned(value, tuple(order))[0]

    def whole(self, value: Given, order: Sequence[int], shape: Sequence[Any]) -> str:
        """As `aligned`, with every axis there at its full size."""
        if isinstance(value, Constant) and value.shape == tuple(shape):
            return self.constant(value.array.transpose(tuple(order)), value.name)
        full = value.present if isinstance(value, Tensor) else [a for a, n in enumerate(value.shape) if n != 1]
        name, rank = self._aligned(value, tuple(order))
        if any(shape[a] != 1 for a in order if a not in full):
            return self.add("Expand", name, self.shape([shape[a] for a in order]))
        return self.add("Unsqueeze", name, self.integers(range(len(order) - rank))) if rank < len(order) else name

    def _aligned(self, value: Given, order: tuple[int, ...]) -> tuple[str, int]:
        """And how many dimensions it has."""
        if isinstance(value, Size):
            return self._scalar(value), 0
        if isinstance(value, Constant):
            array = value.array.transpose(order) if value.array.ndim else value.array
            while array.ndim and array.shape[0] == 1:
                array = array[0]
            return self.constant(array, value.name), array.ndim
        rank = len(value.axes)
        if rank <= len(order) and all(
            a is None or a == o for a, o in zip(value.axes, order[len(order) - rank :], strict=True)
        ):
            return value.name, rank
        name, present = value.name, value.present
        wanted = [a for a in order if a in present]
        if spare := [i for i, a in enumerate(value.axes) if a is None]:
            name = self.add("Squeeze", name, self.integers(spare))
        if list(present) != wanted:
            name = self.add("Transpose", name, perm=[present.index(a) for a in wanted])
        tail = order[order.index(wanted[0]) :] if wanted else ()
        if missing := [i for i, a in enumerate(tail) if a not in present]:
            name = self.add("Unsqueeze", name, self.integers(missing))
        return name, len(tail)

    def moved(self, tensor: Tensor, order: Sequence[int], shape: Sequence[Any]) -> Tensor:
        """The tensor with every axis, in this order."""
        return replace(tensor, name=self.whole(tensor, order, shape), axes=tuple(order))

    def _scalar(self, value: Size) -> str:
        if isinstance(value.value, int | float):
            return self.constant(np.asarray(value.value, value.dtype))
        whole = self.add("Squeeze", self.size(value.value), self.integers([0]))
        kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        return whole if value.dtype == np.int64 else self.add("Cast", whole, to=kind)

    # --- The model -------------------------------------------------------------------------------------------

    def model(self, inputs: Sequence[Any], outputs: Sequence[Any], *, name: str, about: dict[str, str]) -> Any:
        """Checked in full."""
        helper = onnx.helper
        self._prune([output.name for output in outputs])
        read = {tensor for node in self.nodes for tensor in node.inputs}
        graph = helper.make_graph(
            [helper.make_node(n.op, n.inputs, n.outputs, name=n.name, **n.attributes) for n in self.nodes],
            name,
            list(inputs),
            list(outputs),
            [onnx.numpy_helper.from_array(a, n) for n, a in self.constants.items() if n in read],
            value_info=self._described(),
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="deblur_jax"
        )
        helper.set_model_props(model, about)
        onnx.checker.check_model(model, full_check=True)
        return model

    def _described(self) -> list[Any]:
        """Symbols have equal names where sizes are equal: else ONNX Runtime takes minutes to plan a large graph."""
        found = []
        for name in (node.outputs[0] for node in self.nodes):
            if name in self.shapes:
                dtype, shape = self.shapes[name]
                kind = onnx.helper.np_dtype_to_tensor_dtype(dtype)
                dims = [int(n) if isinstance(n, int | np.integer) else str(n) for n in shape]
                found.append(onnx.helper.make_tensor_value_info(name, kind, dims))
        return found

    def _prune(self, outputs: Sequence[str]) -> None:
        """Leaves out what nobody reads."""
        read, kept = set(outputs), []
        for node in reversed(self.nodes):
            if read.intersection(node.outputs):
                kept.append(node)
                read.update(node.inputs)
        self.nodes = kept[::-1]


class _Number:
    """An integer of the running graph, with the arithmetic that sizes use."""

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph, self.name = graph, name

    def _with(self, op: str, other: Any, *, swapped: bool = False) -> "_Number":
        pair = self.name, other.name if isinstance(other, _Number) else self.graph.integers([other])
        return _Number(self.graph, self.graph.add(op, *(pair[::-1] if swapped else pair)))

    def __add__(self, other: Any) -> "_Number":
        return self._with("Add", other)

    def __sub__(self, other: Any) -> "_Number":
        return self._with("Sub", other)

    def __rsub__(self, other: Any) -> "_Number":
        return self._with("Sub", other, swapped=True)

    def __mul__(self, other: Any) -> "_Number":
        return self._with("Mul", other)

    def __floordiv__(self, other: Any) -> "_Number":
        return self._with("Div", other)  # sizes are not negative, so rounding down and to zero are the same

    def __mod__(self, other: Any) -> "_Number":
        return self._with("Mod", other)

    def __pow__(self, power: int) -> "_Number":
        return self if power == 1 else self * self ** (power - 1)

    def __neg__(self) -> "_Number":
        return 0 - self

    __radd__, __rmul__ = __add__, __mul__


def _evaluate(expression: Any, environment: dict[str, Any]) -> Any:
    """A size of JAX, whose documented text form is an expression that Python can read."""
    if isinstance(expression, int | np.integer):
        return int(expression)
    functions = {"floordiv": lambda a, b: a // b, "mod": lambda a, b: a % b}
    return eval(str(expression).replace("^", "**"), {"__builtins__": {}}, {**functions, **environment})
