"""Named tensors of others, matched with a network's parameters."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

__all__ = ["Fit", "fit"]

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Fit:
    """The parameters as a tree, and every entry that does not fit, in words."""

    params: dict[str, Any]
    missing: list[str]
    unexpected: list[str]
    misshapen: list[str]

    @property
    def whole(self) -> bool:
        return not (self.missing or self.unexpected or self.misshapen)

    def lines(self) -> list[str]:
        """One line an entry."""
        return [f"{kind}: {entry}" for kind, entries in self._kinds() for entry in entries]

    def summary(self) -> str:
        """The first few of each kind, in one line."""
        return "; ".join(
            f"{len(entries)} {kind} ({', '.join(entries[:3])}{', ...' if len(entries) > 3 else ''})"
            for kind, entries in self._kinds()
        )

    def _kinds(self) -> list[tuple[str, list[str]]]:
        kinds = (("missing", self.missing), ("unexpected", self.unexpected), ("misshapen", self.misshapen))
        return [(kind, entries) for kind, entries in kinds if entries]


def fit(
    state: Mapping[str, np.ndarray],
    expected: Mapping,
    *,
    names: Mapping[str, str],
    convert: Callable[[str, np.ndarray], np.ndarray] = lambda _, value: value,
    shape_there: Callable[[str, Shape], Shape] | None = None,
) -> Fit:
    """Fills the tree `expected` of shapes from `state`.

    `names` says what each parameter (by its path) is called there; `convert` gets the path and makes ours of it.
    `shape_there` says what shape a parameter of ours has there, where that follows from its own.
    """
    missing, misshapen, found = [], [], {}
    leaves = cast(dict[str, Any], flatten_dict(expected, sep="/"))
    for path, leaf in leaves.items():
        name = names[path]
        if name not in state:
            missing.append(name)
            continue
        value = np.asarray(state[name], np.float32)
        made = _converted(convert, path, value, leaf.shape)
        if made is not None:
            found[path] = jnp.asarray(made)
        elif shape_there:
            misshapen.append(f"{name} {value.shape} instead of {shape_there(path, leaf.shape)}")
        else:
            misshapen.append(f"{name} {value.shape}, which is to make {leaf.shape}")
    unexpected = sorted(set(state) - {names[path] for path in leaves})
    return Fit(unflatten_dict(found, sep="/"), missing, unexpected, misshapen)


def _converted(convert: Any, path: str, value: np.ndarray, shape: Shape) -> np.ndarray | None:
    try:
        made = convert(path, value)
    except ValueError:  # another number of axes than it has
        return None
    return made if made.shape == shape else None
