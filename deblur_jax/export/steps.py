"""A traced network as a flat list of steps, before anything is said of ONNX.

Calls inside calls are inlined, what is known is computed, alternatives by platform are decided, and what nobody reads
is left out. Composites (named jits that have an operator of their own) stay one step.
"""

import collections
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.extend import core

__all__ = ["COMPOSITES", "Constant", "Program", "Size", "Slot", "Step", "flatten"]

COMPOSITES = ("depth_to_space", "space_to_depth", "enlarge")  # of `models.layers`

_CALLS = {
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "custom_jvp_call",
    "custom_vjp_call",
    "remat",
    "remat2",
    "checkpoint",
}
_SAME = {"stop_gradient", "copy", "optimization_barrier", "sharding_constraint", "name"}
_LARGE = 2**16  # a constant that is broadcast to more elements than that stays as small as it is


@dataclass(frozen=True, eq=False)
class Slot:
    """Where a value will be that is known when the graph runs."""

    shape: tuple[Any, ...]
    dtype: np.dtype


@dataclass(frozen=True, eq=False)
class Constant:
    array: np.ndarray
    name: str = ""  # of the parameter that it was made of alone

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype


@dataclass(frozen=True, eq=False)
class Size:
    """A number that follows from the sizes of the picture."""

    value: Any
    dtype: np.dtype
    shape: tuple[Any, ...] = ()


Value = Slot | Constant | Size


@dataclass(frozen=True, eq=False)
class Step:
    name: str  # of the primitive, or of the composite
    inputs: list[Value]
    outputs: list[Slot]
    params: Mapping[str, Any]
    path: str  # of the module, for names
    where: str  # the line of the model


@dataclass(frozen=True)
class Program:
    steps: list[Step]
    outputs: list[Value]

    def readers(self) -> dict[Slot, list[Step | None]]:
        """Who reads each slot; None is the caller."""
        found: dict[Slot, list[Step | None]] = collections.defaultdict(list)
        for step in self.steps:
            for value in step.inputs:
                if isinstance(value, Slot):
                    found[value].append(step)
        for value in self.outputs:
            if isinstance(value, Slot):
                found[value].append(None)
        return found


def flatten(traced: Any, inputs: Sequence[Value]) -> Program:
    """Of what `jax.make_jaxpr` gave; parameters come in as constants."""
    walk = _Walk()
    outputs = walk.jaxpr(traced.jaxpr, [_constant(c) for c in traced.consts], inputs, "", "")
    needed = {value for value in outputs if isinstance(value, Slot)}
    steps = []
    for step in reversed(walk.steps):
        if needed.intersection(step.outputs):
            steps.append(step)
            needed.update(value for value in step.inputs if isinstance(value, Slot))
    return Program(steps[::-1], outputs)


class _Walk:
    def __init__(self) -> None:
        self.steps: list[Step] = []

    def jaxpr(self, jaxpr: Any, consts: Sequence[Value], inputs: Sequence[Value], path: str, where: str) -> list[Value]:
        values: dict[Any, Value] = dict(zip(jaxpr.constvars, consts, strict=True))
        values.update(zip(jaxpr.invars, inputs, strict=True))

        def read(atom: Any) -> Value:
            if isinstance(atom, core.Literal):
                aval: Any = atom.aval
                return _constant(atom.val, aval.dtype)
            return values[atom]

        for equation in jaxpr.eqns:
            given = [read(atom) for atom in equation.invars]
            inner = "/".join(part for part in (path, str(equation.source_info.name_stack)) if part)
            made = self.equation(equation, given, inner, _line(equation) or where)
            values.update(zip(equation.outvars, made, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def equation(self, equation: Any, given: list[Value], path: str, where: str) -> Sequence[Value]:
        name, params = equation.primitive.name, equation.params
        if name in _CALLS and params.get("name") in COMPOSITES:
            name = params["name"]
        elif name in _CALLS:
            return self.call(params.get("jaxpr") or params["call_jaxpr"], given, path, where)
        elif name == "platform_index":
            return [_constant(0)]
        elif name == "cond":
            branch = _branch(params, given[0])
            if branch is not None:
                return self.call(branch, given[1:], path, where)
        elif name == "dim_as_value":
            return [Size(params["dim"], np.dtype(np.int32))]
        elif name in _SAME:
            return given
        elif known := _known(name, params, given, equation):
            return known
        outputs = [Slot(v.aval.shape, np.dtype(v.aval.dtype)) for v in equation.outvars]
        self.steps.append(Step(name, given, outputs, params, path, where))
        return outputs

    def call(self, jaxpr: Any, given: Sequence[Value], path: str, where: str) -> list[Value]:
        if isinstance(jaxpr, core.ClosedJaxpr):
            return self.jaxpr(jaxpr.jaxpr, [_constant(c) for c in jaxpr.consts], given, path, where)
        return self.jaxpr(jaxpr, [], given, path, where)


def _constant(value: Any, dtype: Any = None) -> Constant:
    return Constant(np.asarray(value, dtype))


def _branch(params: Mapping[str, Any], index: Value) -> Any:
    """The branch that any platform could take, which is the plain operation; or the one that is known to be taken."""
    platforms = params.get("branches_platforms")
    if platforms is not None:
        by_platform = list(platforms)
        at = (
            by_platform.index(None)
            if None in by_platform
            else next((i for i, names in enumerate(by_platform) if names and "cpu" in names), 0)
        )
        return params["branches"][at]
    return params["branches"][int(index.array)] if isinstance(index, Constant) else None


def _known(name: str, params: Mapping[str, Any], given: list[Value], equation: Any) -> list[Value] | None:
    """The results, where everything that they depend on is known."""
    if name == "select_n" and isinstance(given[0], Constant) and given[0].array.size == 1:
        chosen = given[1 + int(given[0].array.reshape(()))]
        return [chosen] if chosen.shape == equation.outvars[0].aval.shape else None
    if any(isinstance(value, Size) for value in given):
        return _of_sizes(name, params, given, equation)
    constants = [value for value in given if isinstance(value, Constant)]
    shapes = [v.aval.shape for v in equation.outvars]
    if len(constants) < len(given) or not all(isinstance(n, int) for shape in shapes for n in shape):
        return None
    enlarged = sum(int(np.prod(shape)) for shape in shapes) > _LARGE
    if name == "broadcast_in_dim" and enlarged:
        return None
    with jax.ensure_compile_time_eval():
        made = equation.primitive.bind(*(c.array for c in constants), **params)
    results = made if equation.primitive.multiple_results else [made]
    # What is only another form of a parameter keeps its name.
    kept = constants[0].name if len(constants) == 1 else ""
    return [Constant(np.asarray(result), kept) for result in results]


def _of_sizes(name: str, params: Mapping[str, Any], given: list[Value], equation: Any) -> list[Value] | None:
    def number(value: Value) -> Any:
        return value.value if isinstance(value, Size) else value.array.item()  # pyright: ignore

    dtype = np.dtype(equation.outvars[0].aval.dtype)
    if name == "convert_element_type":
        return [Size(number(given[0]), dtype)]
    if any(value.shape != () or isinstance(value, Slot) for value in given):
        return None
    a, *rest = (number(value) for value in given)
    b = rest[0] if rest else None
    if isinstance(b, float) and b.is_integer():
        b = int(b)
    try:
        match name:
            case "add":
                return [Size(a + b, dtype)]
            case "sub":
                return [Size(a - b, dtype)]
            case "mul":
                return [Size(a * b, dtype)]
            case "gt":
                return [_constant(bool(a > b))]
            case "ge":
                return [_constant(bool(a >= b))]
    except Exception:
        return None  # it depends on more than the sign of sizes: said where the step is converted
    return None


def _line(equation: Any) -> str:
    """The line of the model that asked for it: the first that is neither JAX's nor Flax's."""
    traceback = equation.source_info.traceback
    for frame in traceback.frames if traceback else ():
        parts = Path(frame.file_name).parts
        if not {"jax", "jaxlib", "flax", "jaxtyping", "beartype"}.intersection(parts) and "<" not in frame.file_name:
            return f"{frame.file_name}:{frame.line_num}"
    return ""
