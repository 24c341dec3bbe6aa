"""Writes an exported network as a folder that a product can take: checked, described, whole or not at all."""

import dataclasses
import io
import json
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax import __version__
from deblur_jax.errors import UserError
from deblur_jax.export import parity
from deblur_jax.models import facts
from deblur_jax.restore.exported import onnx_network, stablehlo_network
from deblur_jax.weights import Weights
from deblur_jax.weights.artifact import CARD, FORMAT, VERSION, digest

__all__ = ["KINDS", "PRECISIONS", "Options", "write"]

KINDS = ("onnx", "stablehlo")
PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Options:
    to: Literal["onnx", "stablehlo"] = "onnx"
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    layout: Literal["nhwc", "nchw"] = "nhwc"
    whole_numbers: bool = False
    size: tuple[int, int] | None = None  # height and width; any if not given
    batch: int | None = None
    calibration: Sequence[np.ndarray] = ()  # pictures (h w 3) for int8
    # What a precision loses is measured on these: each reads a blurred and a sharp picture, 8-bit RGB.
    validation: Sequence[Callable[[], tuple[np.ndarray, np.ndarray]]] = ()


@dataclass(frozen=True)
class _Model:
    """What an exporter hands over."""

    file: str
    data: bytes
    least: int
    runtime: dict[str, Any]
    bytes_per_pixel: float
    about: dict[str, Any] = dataclasses.field(default_factory=dict)  # what else the card says


def write(weights: Weights, name: str, folder: Path, options: Options) -> dict[str, Any]:
    """Exports, compares with JAX and writes; returns the card. On an error nothing is left."""
    folder = Path(folder)
    _check(weights, folder, options)
    made = _onnx(weights, options) if options.to == "onnx" else _stablehlo(weights, options)
    multiple = weights.entry.config.multiple_of
    cases = parity.pictures(multiple, made.least, batch=options.batch, size=options.size)
    network = _runner(made, options)
    reference = _reference(weights, options)
    report = parity.compare(reference, network, cases, options.precision, whole_numbers=options.whole_numbers)
    if report["equal"] and options.precision == "fp16":
        # ONNX Runtime computes half precision in float32 on a CPU; what it costs where it is real, JAX says.
        cases = parity.pictures(multiple, made.least, batch=options.batch, size=options.size)
        halved = _reference(weights, options, dtype=jnp.float16)
        few = ((case, picture) for case, picture in cases if case in ("two at once", "noise", "saturated", "black"))
        report["computed_in_half"] = parity.compare(reference, halved, few, "fp16")
        report["equal"] = report["computed_in_half"]["equal"]
    if not report["equal"]:
        raise UserError(_unequal(name, report.get("computed_in_half", report)))
    golden, bound = _golden(weights, made, options, report)
    files = {
        made.file: made.data,
        "golden.npz": golden,
        "verify.py": (Path(__file__).parent / f"verify_{options.to}.py").read_bytes(),
        "README.md": _readme(name, made, options).encode(),
    }
    card = _card(weights, name, made, options, report, bound, files)
    _place(folder, {**files, CARD: (json.dumps(card, indent=1, ensure_ascii=False) + "\n").encode()})
    return card


def _check(weights: Weights, folder: Path, options: Options) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists and is not an empty folder; name another one")
    if not folder.absolute().parent.is_dir():
        raise UserError(f"{folder.parent}: no such directory")
    multiple = weights.entry.config.multiple_of
    if options.size and any(side < 1 or side % multiple for side in options.size):
        size = f"{options.size[1]}x{options.size[0]}"
        raise UserError(f"--size {size}: both sides must be multiples of {multiple}, as the network takes them")
    if options.batch is not None and options.batch < 1:
        raise UserError(f"--batch must be from 1, not {options.batch}")
    plain = options.layout == "nhwc" and not options.whole_numbers and options.precision == "fp32"
    if options.to == "stablehlo" and not plain:
        raise UserError("--layout, --uint8 and --precision are for --to onnx; StableHLO is NHWC in float32")


# --- The two formats ---------------------------------------------------------------------------------------


def _onnx(weights: Weights, options: Options) -> _Model:
    from deblur_jax.export import graph, memory, onnx

    entry, variables = weights.entry, {"params": weights.deployed()}
    multiple = entry.config.multiple_of

    def converted(dtype: Any) -> tuple[Any, int]:
        return onnx.convert(
            entry.deployed(dtype=dtype).apply,
            variables,
            multiple=multiple,
            size=(options.batch or 1, *options.size) if options.size else None,
            batch=options.batch,
            layout=options.layout,
            whole_numbers=options.whole_numbers,
            about={"network": weights.network, "deblur_jax": __version__},
        )

    model, least = converted(jnp.float32)
    about: dict[str, Any] = {}
    if options.precision != "fp32":
        from deblur_jax.export import quantise, table

        exact = model
        if options.precision == "int8":
            model, about = quantise.quantised(exact, options, multiple=multiple)
        else:
            model, least = converted(jnp.float16)
        about["table"] = table.table(exact, model, options, multiple=multiple)
    runtime = {
        "kind": "onnx",
        "opset": graph.OPSET,
        "ir_version": graph.IR_VERSION,
        "needs": {"onnxruntime": ">=1.12", "numpy": ">=1.21"},
    }
    per_pixel = memory.bytes_per_pixel(model, options.layout)
    return _Model("model.onnx", model.SerializeToString(), least, runtime, per_pixel, about)


def _stablehlo(weights: Weights, options: Options) -> _Model:
    from jax import export

    from deblur_jax.export.onnx import symbolic

    entry, variables = weights.entry, {"params": weights.deployed()}
    module, multiple = entry.deployed(), entry.config.multiple_of

    def restore(pictures: jax.Array) -> Any:
        return module.apply(variables, pictures)

    function = jax.jit(restore)
    reason: Exception | None = None
    for least in (1, 2, 4):
        n, h, w, c = symbolic(multiple, least=least)
        shape = (options.batch or (1 if options.size else n), *(options.size or (h, w)), c)
        try:
            exported = export.export(function, platforms=("cpu", "cuda", "tpu"))(
                jax.ShapeDtypeStruct(shape, jnp.float32)
            )
            break
        except ValueError as error:  # it looks around the border: see `onnx._least`
            reason = error
    else:
        assert reason is not None
        raise reason
    compiled = function.lower(jax.ShapeDtypeStruct((1, 16 * multiple, 16 * multiple, 3), jnp.float32)).compile()
    needs = compiled.memory_analysis()
    per_pixel = needs.temp_size_in_bytes / (16 * multiple) ** 2 if needs else 4096.0
    runtime = {
        "kind": "stablehlo",
        "calling_convention": exported.calling_convention_version,
        "platforms": list(exported.platforms),
        "needs": {"jax": f">={jax.__version__}", "numpy": ">=2.0"},
    }
    return _Model("model.stablehlo", bytes(exported.serialize()), least, runtime, per_pixel)


def _runner(made: _Model, options: Options) -> parity.Run:
    if options.to == "onnx":
        return onnx_network(made.data, layout=options.layout, whole_numbers=options.whole_numbers)
    return stablehlo_network(made.data)


def _reference(weights: Weights, options: Options, *, dtype: Any = jnp.float32) -> parity.Run:
    apply, variables = jax.jit(weights.entry.deployed(dtype=dtype).apply), {"params": weights.deployed()}

    def run(pictures: np.ndarray) -> np.ndarray:
        if not options.whole_numbers:
            return np.asarray(apply(variables, jnp.asarray(pictures)))
        eighths = np.rint(255 * pictures).astype(np.float32) / np.float32(255)
        return np.clip(np.asarray(apply(variables, jnp.asarray(eighths))), 0.0, 1.0)

    return run


def _unequal(name: str, report: dict[str, Any]) -> str:
    worst = max(report["cases"], key=lambda case: case["greatest_error"])
    psnr = f", {report['natural_psnr']:.1f} dB on photographs" if report["natural_psnr"] else ""
    bound = ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in report["bound"].items())
    return (
        f"{name}: not exported, it does not give what JAX gives: off by {report['greatest_error']:.1e} on "
        f"{worst['input']}{psnr} (bound: {bound})"
    )


# --- The folder ----------------------------------------------------------------------------------------------


def _golden(weights: Weights, made: _Model, options: Options, report: dict[str, Any]) -> tuple[bytes, float]:
    """One photograph as the model takes it, and what this machine's runtime gave; and how far off another may be.

    Another processor adds up in another order; of int8 it may round to a neighbouring step, here and there.
    """
    multiple = weights.entry.config.multiple_of
    unit = multiple * max(made.least, math.ceil(64 / multiple))
    pictures = parity.natural(*(options.size or (unit, unit + multiple)))
    pictures = np.repeat(pictures, options.batch or 1, 0)
    restored = np.asarray(_runner(made, options)(pictures))
    bound = {"fp32": 1e-4, "fp16": 2e-2, "int8": 0.1}[options.precision]
    if options.whole_numbers:
        pictures = np.rint(255 * pictures).astype(np.uint8)
        restored = np.rint(255 * restored).astype(np.uint8)
        bound = math.ceil(255 * bound)
    if options.layout == "nchw":
        pictures, restored = (np.ascontiguousarray(p.transpose(0, 3, 1, 2)) for p in (pictures, restored))
    file = io.BytesIO()
    np.savez_compressed(file, input=pictures, output=restored)
    return file.getvalue(), float(bound)


def _card(
    weights: Weights,
    name: str,
    made: _Model,
    options: Options,
    report: dict[str, Any],
    bound: float,
    files: dict[str, bytes],
) -> dict[str, Any]:
    entry, given = weights.entry, weights.card
    known = facts.measure_network(entry) if weights.variant else facts.read()[weights.network]
    largest = max(report["cases"], key=lambda case: math.prod(case["shape"][1:3]))["shape"]
    training = {key: given[key] for key in ("summary", "data", "training", "scores", "step", "version") if key in given}
    return {
        "format": FORMAT,
        "format_version": VERSION,
        "name": name,
        "model": made.file,
        "source": {"package": "deblur_jax", "version": __version__, "commit": _commit()},
        "licence": given.get("licence", given.get("license", "not stated by the weights")),
        "training": training or "not stated by the weights",
        "network": {
            "name": weights.network,
            "variant": weights.variant,
            **dataclasses.asdict(known),
            "bytes_per_pixel": round(made.bytes_per_pixel),
        },
        "input": _pictures(options, least=made.least * known.multiple_of, multiple=known.multiple_of),
        "output": "the restored pictures, of the same shape, type and range"
        + ("" if options.whole_numbers else " (values may leave [0, 1] a little: clip them)"),
        "precision": options.precision,
        "largest_tested_size": {"width": largest[2], "height": largest[1]},
        "runtime": made.runtime,
        **made.about,
        "parity": report,
        "golden": {"file": "golden.npz", "bound": bound},
        "files": {file: {"sha256": digest(data), "bytes": len(data)} for file, data in files.items()},
    }


def _pictures(options: Options, *, least: int, multiple: int) -> dict[str, Any]:
    return {
        "name": "picture",
        "layout": options.layout,
        "type": "uint8" if options.whole_numbers else "float32",
        "range": [0, 255] if options.whole_numbers else [0.0, 1.0],
        "colour": "RGB, sRGB-encoded",
        "batch": options.batch or (1 if options.size else None),
        "size": {"height": options.size[0], "width": options.size[1]} if options.size else None,
        "multiple_of": multiple,
        "least_side": least,
    }


def _commit() -> str | None:
    """Of the checkout that exported, if there is one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, timeout=10)
    except OSError:
        return None
    return found.stdout.strip() or None


def _readme(name: str, made: _Model, options: Options) -> str:
    if options.to == "onnx":
        needs, imports = "onnxruntime", "import onnxruntime"
        load = f'session = onnxruntime.InferenceSession("{made.file}", providers=["CPUExecutionProvider"])'
        call = 'session.run(None, {"picture": pictures})[0]'
    else:
        needs, imports = "jax", "from jax import export"
        load = f'network = export.deserialize(bytearray(open("{made.file}", "rb").read()))'
        call = "network.call(pictures)"
    order = "n, height, width, RGB" if options.layout == "nhwc" else "n, RGB, height, width"
    kind = "uint8, 0 to 255" if options.whole_numbers else "float32, 0 to 1"
    return f"""# {name}

A network that makes blurred pictures sharper, exported by deblur_jax. `card.json` says what it is, where it comes from,
what it takes and how it was compared with the original; `python verify.py` says whether it runs here as it did there.

```python
# pip install {needs} numpy; in this folder
{imports}, numpy
{load}
pictures = numpy.load("golden.npz")["input"]  # {order}; {kind}; sRGB
restored = {call}
print(restored.shape, restored.dtype)
```

Sides must be as `input` in the card says: continue pictures by reflection below and to the right, and crop the result.
"""


def _place(folder: Path, files: dict[str, bytes]) -> None:
    """All files or none: written beside under another name, then renamed."""
    folder = folder.absolute()
    try:
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            for name, data in files.items():
                (temporary / name).write_bytes(data)
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o777 & ~umask)  # temporary folders are private, results are not
            os.replace(temporary, folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from None
