"""PyTorch state dicts of convolutional networks -> parameter trees."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from flax.traverse_util import flatten_dict

from deblur_jax.errors import UserError
from deblur_jax.models.matching import Fit, fit


def matched(
    state: Mapping[str, np.ndarray],
    expected: Mapping,
    *,
    names: Mapping[str, str],
    shuffled: Mapping[str, int],
) -> Fit:
    """Fills the tree `expected` of shapes from `state`: `names` says what each layer is called there.

    Kernels go from OIHW to HWIO. `shuffled` are the layers that feed a pixel shuffle, with its factor:
    their output channels go from (channel, row, column) to (row, column, channel).
    """

    def convert(path: str, value: np.ndarray) -> np.ndarray:
        if factor := shuffled.get(path.rpartition("/")[0]):
            parts = value.reshape(-1, factor, factor, *value.shape[1:])
            value = np.moveaxis(parts, 0, 2).reshape(value.shape)
        return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value

    def shape_there(_: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(shape[i] for i in (3, 2, 0, 1)) if len(shape) == 4 else shape

    def name(path: str) -> str:
        layer, kind = path.rsplit("/", 1)
        return f"{names[layer]}.{'weight' if kind == 'kernel' else kind}"

    called = {path: name(path) for path in cast(dict[str, Any], flatten_dict(expected, sep="/"))}
    return fit(state, expected, names=called, convert=convert, shape_there=shape_there)


def convolutions(
    state: Mapping[str, np.ndarray],
    expected: Mapping,
    *,
    names: Mapping[str, str],
    shuffled: Mapping[str, int],
) -> dict:
    """The same, where missing, unexpected and misshapen entries are an error that names the first few of each."""
    found = matched(state, expected, names=names, shuffled=shuffled)
    if not found.whole:
        raise UserError("these weights do not fit the network: " + found.summary())
    return found.params
