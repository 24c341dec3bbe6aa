"""A set of weights on disk: one safetensors file with the parameters and a card that says where they come from."""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import save as to_bytes

from deblur_jax.errors import UserError
from deblur_jax.files import is_address, store, write_whole
from deblur_jax.models import mean, zoo
from deblur_jax.weights import artifact
from deblur_jax.weights.artifact import Artifact
from deblur_jax.weights.tensors import read_about, read_file

_FORMAT = "deblur_jax 1"
# NAME.safetensors, of a mean NAME.json; NAME.md: its model card. Where both are, NAME.json has what is newer on the
# card: figures are measured again when the code changes, and weights stay.
BUNDLED = Path(__file__).parent / "bundled"
_MERGED = {"branches"}  # fields of a network's config that make no difference once it is merged
_IN_A_WORKDIR = ("best.safetensors", "final.safetensors")  # what training leaves; the first one there is taken


@dataclass(frozen=True)
class Weights:
    """Parameters of a network of the zoo: of `training()`, or of `deployed()` if they are `merged`.

    `variant` has the fields of the network's config that differ.
    """

    network: str
    params: dict[str, Any]  # nested, float32 arrays of NumPy
    card: dict[str, Any]  # what whoever saved them says of them: data, steps, scores, licence ...
    merged: bool = False
    variant: dict[str, Any] = field(default_factory=dict)

    @property
    def entry(self) -> zoo.Network:
        return zoo.get(self.network).varied(**self.variant)

    def deployed(self) -> dict[str, Any]:
        """The parameters of the network as it is run."""
        params = jax.tree.map(jnp.asarray, self.params)
        return params if self.merged else jax.jit(self.entry.merge)(params)


def save(
    path: str | Path,
    *,
    network: str,
    params: Mapping[str, Any],
    card: Mapping[str, Any],
    merged: bool = False,
    half: bool = False,
    variant: Mapping[str, Any] | None = None,
) -> None:
    """Writes the file whole or not at all, in float32 or half precision. Parameters that do not fit are refused."""
    path = Path(path)
    flat = {name: np.asarray(value) for name, value in _flat(params).items()}
    _check(flat, network, merged, variant or {}, path)
    dtype = np.float16 if half else np.float32
    with np.errstate(over="ignore"):
        flat = {name: np.ascontiguousarray(value, dtype) for name, value in flat.items()}
    for name, value in flat.items():
        if not np.isfinite(value).all():
            reason = "values that half precision cannot hold, or none" if half else "values that are no numbers"
            raise UserError(f"{path}: not written, {name} has {reason}")
    about = {
        "format": _FORMAT,
        "network": network,
        "merged": json.dumps(merged),
        "variant": json.dumps(dict(variant or {})),
        "card": json.dumps(dict(card)),  # in ASCII: names of files in it may be no text
    }
    write_whole(path, to_bytes(flat, metadata=about))


def load(path: str | Path) -> Weights:
    """Reads what `save` wrote; half precision becomes float32."""
    flat, about = read_file(path)
    if not is_ours(about):
        raise UserError(f"{path}: a safetensors file, but not a set of weights that deblur_jax wrote")
    try:
        network, merged, card = about["network"], about["merged"] == "true", parsed(about["card"])
        variant = parsed(about.get("variant", "{}"))
        if about["merged"] not in ("true", "false"):
            raise ValueError
    except (KeyError, ValueError):
        raise UserError(f"{path}: what the file says about itself is damaged") from None
    _check(flat, network, merged, variant, path)
    with np.errstate(over="ignore"):
        flat = {name: value.astype(np.float32) for name, value in flat.items()}
    for name, value in flat.items():
        if not np.isfinite(value).all():
            raise UserError(f"{path}: {name} has values that are no numbers")
    return Weights(network, unflatten_dict(flat, sep="/"), card, merged, variant)


def parsed(text: str | bytes) -> dict[str, Any]:
    """An object of JSON, such as a card; ValueError of anything else, and of what is nested too deep to be written.

    NaN and infinities, which Python writes and nobody else reads, become null.
    """
    try:
        found = json.loads(text, parse_constant=lambda _: None)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(found, dict):
        raise ValueError("not an object")
    level: list[Any] = [found]
    for _ in range(100):
        inner = (one.values() if isinstance(one, dict) else one for one in level)
        level = [one for values in inner for one in values if isinstance(one, dict | list)]
    if level:
        raise ValueError("nested too deep")
    return found


def is_ours(about: Mapping[str, str]) -> bool:
    """Whether a safetensors file that says this about itself is one that `save` wrote."""
    return about.get("format") == _FORMAT


def find(model: str) -> Weights | Artifact:
    """What `--model` names where networks are only run: what `resolve` takes, or an exported artifact."""
    exported = model and model not in bundled() and artifact.is_artifact(model)
    return artifact.read(model) if exported else resolve(model)


def resolve(model: str) -> Weights:
    """What `--model` names: weights of the package by name, a weights file, a training workdir, or the user's by name;
    with a plus between them, the mean of what several answer.

    What happens to be called nano in the working folder does not change what `nano` means; ./nano is that.
    """
    from deblur_jax.weights import library, published  # which are built on this

    if not model:  # which as a path would be the working folder
        raise UserError("no model is named; there are nano, your own weights file, a training workdir")
    if model in bundled():
        file = bundled_file(model)
        card = read_card(file)[1]
        return replace(load(file), card=card) if file.suffix == ".safetensors" else _mean(model, card)
    if is_address(model.partition("+")[0]):
        return _fetched(model)
    path = Path(model)
    if artifact.is_artifact(path):
        raise UserError(f"{path}: an exported network, without weights of its own; deblur restore runs it by itself")
    if path.is_file():
        return _of_file(path)
    for name in _IN_A_WORKDIR:
        if (path / name).is_file():
            return load(path / name)
    if model in library.names():
        return library.load(model)
    if "+" in model and not path.exists():
        return _mean(model)
    there = f"there are {', '.join([*bundled(), *library.names()])}"
    if hint := published.hint(model):
        raise UserError(f"{model}: its weights do not come with the package ({there}); {hint}")
    if model in zoo.NETWORKS:
        raise UserError(f"{model}: its weights do not come with the package ({there}); name a file or a workdir")
    if path.is_dir():
        raise UserError(f"{path}: holds neither {' nor '.join(_IN_A_WORKDIR)}; is it a training workdir?")
    raise UserError(f"{model}: no such weights file or training workdir, and no weights by that name ({there})")


def _of_file(path: Path) -> Weights:
    try:
        return load(path)
    except UserError as error:
        if path.suffix != ".safetensors" and artifact.is_artifact(path.parent):
            raise UserError(f"{error}; an exported network is named by its folder, {path.parent}") from None
        raise


def read_card(path: Path) -> tuple[str, dict[str, Any]]:
    """The network's name and the card alone, without reading or checking the parameters."""
    if path.suffix == ".json":  # what comes with the package is whole
        return path.stem, json.loads(path.read_text())
    about = read_about(path)
    try:
        if not is_ours(about):
            raise ValueError
        newer = path.with_suffix(".json")
        since = json.loads(newer.read_text()) if path.parent == BUNDLED and newer.is_file() else {}
        return about["network"], {**parsed(about["card"]), **since}
    except (KeyError, ValueError):
        raise UserError(f"{path}: not a set of weights that deblur_jax wrote, or damaged") from None


def _fetched(address: str) -> Weights:
    """From an object store."""
    with store(address) as there, tempfile.TemporaryDirectory() as folder:
        found = [there] if there.suffix else [there / name for name in _IN_A_WORKDIR if (there / name).exists()]
        if not found:
            raise UserError(f"{address}: holds neither {' nor '.join(_IN_A_WORKDIR)}; is it a training workdir?")
        here = Path(folder) / found[0].name
        here.write_bytes(found[0].read_bytes())
        return load(here)


def _mean(model: str, card: Mapping[str, Any] | None = None) -> Weights:
    """Of what the sets with a plus between them answer, merged into one network."""
    names = _apart(model)
    if not all(names):
        raise UserError(f"{model}: a plus stands between two sets of weights, as in nano+small")
    found = [resolve(name) for name in names]
    for name, one in zip(names, found, strict=True):
        if "+" in one.network:
            raise UserError(f"{name}: is a mean already ({one.network}); name its members")
        if left := sorted(one.variant.keys() - _MERGED):
            raise UserError(f"{name}: differs from {one.network} in {left[0]}; a mean takes networks as they are")
    params = {mean.member(i): jax.device_get(one.deployed()) for i, one in enumerate(found)}
    cards = [{"weights": name, "network": one.network, **one.card} for name, one in zip(names, found, strict=True)]
    return Weights("+".join(one.network for one in found), params, dict(card or {"mean_of": cards}), merged=True)


def _apart(model: str) -> list[str]:
    """At its pluses, but for those in the path of what is there. (An address may hold some where it stands alone.)"""
    parts, names = model.split("+"), []
    while parts:
        many = next((n for n in range(len(parts), 1, -1) if os.path.exists("+".join(parts[:n]))), 1)
        names.append("+".join(parts[:many]))
        del parts[:many]
    return names


def bundled() -> list[str]:
    """The names of the weights that come with the package, means last."""
    names = (path.stem for end in (".safetensors", ".json") for path in sorted(BUNDLED.glob(f"*{end}")))
    return list(dict.fromkeys(names))


def bundled_file(name: str) -> Path:
    """Of weights the file, of a mean of them its card."""
    return next(path for end in (".safetensors", ".json") if (path := BUNDLED / f"{name}{end}").is_file())


def pack(source: str | Path, path: str | Path, *, card: Mapping[str, Any]) -> None:
    """The weights of a file or a training workdir as they are shipped: branches merged, half precision.

    `card` is added to what training noted, from which the folders of the machine are taken out.
    """
    found = resolve(str(source))
    noted = json.loads(json.dumps(found.card))
    try:
        for one in (noted, *noted.get("mean_of", ())):
            for side in ("train", "val"):
                if folders := one.get("config", {}).get("data", {}).get(side):
                    one["config"]["data"][side] = [Path(folder).name for folder in folders]
            if start := one.get("config", {}).get("start_from"):
                one["config"]["start_from"] = _run_and_file(start)
            if "weights" in one:
                one["weights"] = _run_and_file(one["weights"])
    except (AttributeError, TypeError):
        raise UserError(f"{source}: its card's config, mean_of or weights are not as training notes them") from None
    save(
        path,
        network=found.network,
        params=jax.device_get(found.deployed()),
        card={**noted, **card},
        merged=True,
        half=True,
        variant={name: value for name, value in found.variant.items() if name not in _MERGED},  # there are none now
    )


def _run_and_file(path: str) -> str:
    """Such as run/best.safetensors."""
    return "/".join(Path(path).parts[-2:])


def _flat(params: Any) -> dict[str, Any]:
    found: Any = flatten_dict(params, sep="/")
    return found


def _check(
    flat: Mapping[str, np.ndarray], network: str, merged: bool, variant: Mapping[str, Any], path: Path | str
) -> None:
    """Every tensor must be the network's, by name, shape and kind of number."""
    try:
        known = zoo.get(network)
    except UserError as error:
        raise UserError(f"{path}: weights of {network!r}, a network that this version does not have: {error}") from None
    try:
        entry = known.varied(**variant)
    except (TypeError, UserError) as error:
        raise UserError(f"{path}: {network} has no such variant: {error}") from None
    if words := misfit(flat, entry.deployed() if merged else entry.training()):
        raise UserError(f"{path}: does not fit {network}: {words}")


def misfit(params: Mapping[str, Any], module: Any) -> str:
    """The first tensor that is not as the network wants it, in words; "" if all are. Flat or as a tree."""
    flat = _flat(params)
    picture = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    wanted = _flat(jax.eval_shape(module.init, jax.random.key(0), picture)["params"])
    for name, leaf in wanted.items():
        if name not in flat:
            return f"{name} is missing"
        if flat[name].shape != leaf.shape:
            return f"{name} has the shape {flat[name].shape}, the network's has {leaf.shape}"
        if not jnp.issubdtype(flat[name].dtype, jnp.floating):
            return f"{name} holds {flat[name].dtype}, no real numbers"
    return next((f"the network has no {name}" for name in flat if name not in wanted), "")
