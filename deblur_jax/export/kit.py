"""Kits: an artifact whose files lie where a server looks for them, and beside it what runs or asks it."""

import dataclasses
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deblur_jax import __version__
from deblur_jax.errors import UserError
from deblur_jax.export.formats import Kind, Made, Options

__all__ = ["KITS", "check", "files", "placed"]

KITS: dict[str, Kind] = {
    "triton": "onnx",
    "tfserving": "savedmodel",
    "python": "onnx",
    "node": "onnx",
}  # and the format of each
_TEMPLATES = Path(__file__).with_name("kits")
_SERVERS = ("triton", "tfserving")
_WARM = ((256, 256), (720, 1280))  # height and width, before they are rounded to what the network takes


def check(kit: str, options: Options) -> None:
    if options.layout != "nhwc" or options.size or options.batch is not None:
        raise UserError("--layout, --size and --batch are for --to: a kit takes any pictures, channels last")
    if options.whole_numbers and kit not in _SERVERS:
        raise UserError(f"--uint8 is for servers ({', '.join(_SERVERS)}): the {kit} kit reads and writes 8 bits itself")


def placed(kit: str, name: str, made: Made) -> Made:
    """The model where the kit has it."""
    served = f"models/{_served(name)}/1"
    place = {"triton": f"{served}/model.onnx", "tfserving": served}.get(kit, made.model)
    moved = {place + file.removeprefix(made.model): data for file, data in made.files.items()}
    return dataclasses.replace(made, model=place, files=moved)


def files(kit: str, card: dict[str, Any], options: Options) -> dict[str, bytes]:
    """What is beside the artifact."""
    name, multiple = _served(card["name"]), card["input"]["multiple_of"]
    sizes = [(height + -height % multiple, width + -width % multiple) for height, width in _WARM]
    words = _words(card, options, sizes)
    found = {path.name: _filled(path, words) for path in sorted((_TEMPLATES / kit).iterdir()) if path.is_file()}
    if kit == "triton":
        found[f"models/{name}/config.pbtxt"] = found.pop("config.pbtxt")
    elif kit == "tfserving":
        found[f"models/{name}/1/assets.extra/tf_serving_warmup_requests"] = _warm_up(name, options, sizes)
    return found


def _served(name: str) -> str:
    """As part of an address and of a configuration."""
    served = re.sub(r"[^A-Za-z0-9_-]+", "-", name)
    return served if re.search("[A-Za-z0-9]", served) else "deblur"


def _words(card: dict[str, Any], options: Options, sizes: list[tuple[int, int]]) -> dict[str, str]:
    whole, per_pixel = options.whole_numbers, card["network"]["bytes_per_pixel"]
    return {
        "NAME": _served(card["name"]),
        "VERSION": __version__,
        "MULTIPLE": str(card["input"]["multiple_of"]),
        "LEAST": str(card["input"]["least_side"]),
        "RANGE": "uint8, 0 to 255" if whole else "float32, 0 to 1",
        "NUMPY_TYPE": "uint8" if whole else "float32",
        "KSERVE_TYPE": "UINT8" if whole else "FP32",
        "TRITON_TYPE": "TYPE_UINT8" if whole else "TYPE_FP32",
        "WHITE": "255" if whole else "1",
        "SMALL": "{}, {}".format(*sizes[0]),
        "LARGE": "{}, {}".format(*sizes[1]),
        "WARM_SIZES": " and ".join(f"{width}x{height}" for height, width in sizes),
        "MEMORY": f"the network takes about {per_pixel * 1e6 / 2**20:.0f} MiB for every million pixels",
    }


def _filled(path: Path, words: dict[str, str]) -> bytes:
    return re.sub(r"@([A-Z_]+)@", lambda found: words[found[1]], path.read_text(encoding="utf-8")).encode()


def _warm_up(name: str, options: Options, sizes: list[tuple[int, int]]) -> bytes:
    """A TFRecord of prediction logs, each with one grey picture, which a tensor's message can say in one number.

    Their messages (tensorflow_serving/apis) are four nested fields: not worth a package.
    """
    from deblur_jax.export.savedmodel import SIGNATURE, tf

    def log(height: int, width: int) -> bytes:
        kind, grey = (tf.uint8, 128) if options.whole_numbers else (tf.float32, 0.5)
        picture = tf.make_tensor_proto(grey, dtype=kind, shape=(1, height, width, 3)).SerializeToString()
        model = _field(1, name.encode()) + _field(3, SIGNATURE.encode())
        inputs = _field(1, b"picture") + _field(2, picture)  # an entry of a map
        request = _field(1, model) + _field(2, inputs)
        return _field(6, _field(1, request))  # PredictionLog.predict_log.request

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requests"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for height, width in sizes:
                writer.write(log(height, width))
        return path.read_bytes()


def _field(number: int, data: bytes) -> bytes:
    """A field of a protocol buffer that is a message, bytes or a string."""
    return bytes([number << 3 | 2, *_varint(len(data))]) + data


def _varint(value: int) -> Iterator[int]:
    while value > 127:
        yield value & 127 | 128
        value >>= 7
    yield value
