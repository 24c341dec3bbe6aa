"""PyTorch state dicts of convolutional networks -> parameter trees."""

from collections.abc import Mapping
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from deblur_jax.errors import UserError


def convolutions(
    state: Mapping[str, np.ndarray],
    expected: Mapping,
    *,
    names: Mapping[str, str],
    shuffled: Mapping[str, int],
) -> dict:
    """Fills the tree `expected` of shapes from `state`: `names` says what each layer is called there.

    Kernels go from OIHW to HWIO. `shuffled` are the layers that feed a pixel shuffle, with its factor:
    their output channels go from (channel, row, column) to (row, column, channel).
    Missing, unexpected and misshapen entries are an error that names the first few of each.
    """
    missing, misshapen, used, tree = [], [], set(), {}
    for path, leaf in cast(dict[str, Any], flatten_dict(expected, sep="/")).items():
        layer, kind = path.rsplit("/", 1)
        name = f"{names[layer]}.{'weight' if kind == 'kernel' else kind}"
        used.add(name)
        if name not in state:
            missing.append(name)
            continue
        value = np.asarray(state[name], np.float32)
        expected_shape = leaf.shape if value.ndim != 4 else tuple(leaf.shape[i] for i in (3, 2, 0, 1))
        if value.shape != expected_shape:
            misshapen.append(f"{name} {value.shape} instead of {expected_shape}")
            continue
        if factor := shuffled.get(layer):
            parts = value.reshape(-1, factor, factor, *value.shape[1:])
            value = np.moveaxis(parts, 0, 2).reshape(value.shape)
        if kind == "kernel" and value.ndim == 4:
            value = value.transpose(2, 3, 1, 0)
        tree[path] = jnp.asarray(value)
    unexpected = sorted(set(state) - used)
    problems = [
        f"{len(entries)} {kind} ({', '.join(entries[:3])}{', ...' if len(entries) > 3 else ''})"
        for kind, entries in (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen))
        if entries
    ]
    if problems:
        raise UserError("these weights do not fit the network: " + "; ".join(problems))
    return unflatten_dict(tree, sep="/")
