"""Walks the steps of a traced network and writes the graph."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from deblur_jax.errors import UserError
from deblur_jax.export.graph import Graph, Tensor, Unsupported
from deblur_jax.export.operations import TABLE
from deblur_jax.export.steps import Constant, Program, Size, Slot, Step, Value

__all__ = ["Lowering"]

_SAME_AXES = ("broadcast_in_dim", "reshape", "squeeze", "convert_element_type")


class Lowering:
    """What the functions of `operations` share: the graph, and what is known of the steps around theirs."""

    def __init__(self, program: Program, graph: Graph, inputs: dict[Slot, Tensor]) -> None:
        self.graph = graph
        self.done: set[Step] = set()  # divisions that a mean has made already
        self.blocks: dict[str, tuple[Tensor, list[Any]]] = {}  # of reshaped tensors: of what, and their sizes
        self._program, self._readers = program, program.readers()
        self._tensors = {slot: self._bound(slot, tensor, []) for slot, tensor in inputs.items()}

    def run(self) -> list[Tensor | Constant | Size]:
        for step in self._program.steps:
            given = [self._given(value) for value in step.inputs]
            self.graph.path = self._path(step, given)
            try:
                if step.name == "iota":
                    raise Unsupported("positions along a side of any size (jax.lax.slice and jax.lax.rev need none)")
                if step.name not in TABLE:
                    raise Unsupported("this operation")
                made = TABLE[step.name](self, step, given)
            except Unsupported as error:
                at = f" ({step.where})" if step.where else ""
                raise UserError(f"{step.name}{at}: the ONNX exporter has no counterpart for {error}") from None
            results: Sequence[Any] = made if isinstance(made, list) else [made]
            for slot, result in zip(step.outputs, results, strict=True):
                self._tensors[slot] = self._bound(slot, result, given)
        self.graph.path = ""
        return [self._given(value) for value in self._program.outputs]

    def divided_by(self, step: Step, count: Any) -> bool:
        """Whether all that is done with the step's result is to divide it by this: then that needs no node."""
        while True:
            readers = self._readers[step.outputs[0]]
            if len(readers) != 1 or readers[0] is None:
                return False
            step = readers[0]
            if step.name not in _SAME_AXES:
                break
        if step.name != "div" or len(step.inputs) != 2 or isinstance(step.inputs[1], Slot):
            return False
        divisor = step.inputs[1]
        if isinstance(divisor, Constant):
            if divisor.array.size != 1 or not isinstance(count, int) or divisor.array.item() != count:
                return False
        elif divisor.value != count:
            return False
        self.done.add(step)
        return True

    def _path(self, step: Step, given: Sequence[Any]) -> str:
        """The module's name without classes and methods; outside of all modules that of where its input is from."""
        own = [part for part in step.path.split("/") if part and "." not in part and not part[0].isupper()]
        if own:
            return "/".join(own)
        for value in given:
            node = self.graph.producer(value) if isinstance(value, Tensor) else None
            if node is not None:
                return node.name.rpartition("/")[0]
        return ""

    def _given(self, value: Value) -> Tensor | Constant | Size:
        return self._tensors[value] if isinstance(value, Slot) else value

    def _bound(self, slot: Slot, result: Any, given: Sequence[Any]) -> Any:
        if not isinstance(result, Tensor):
            return result
        before = [value for value in given if isinstance(value, Tensor) and value.name == result.name]
        if result.name not in self.graph.shapes:
            self.graph.shapes[result.name] = (
                np.dtype(slot.dtype),
                [1 if a is None else slot.shape[a] for a in result.axes],
            )
        sole = len(self._readers[slot]) == 1 and all(value.sole for value in before)
        return replace(result, sole=sole, dtype=np.dtype(slot.dtype))
