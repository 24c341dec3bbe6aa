"""Writes an exported network as a folder that a product can take: checked, described, whole or not at all."""

import dataclasses
import io
import json
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax import __version__
from deblur_jax.errors import UserError
from deblur_jax.export import formats, parity
from deblur_jax.export import kit as kits
from deblur_jax.export.formats import Made, Options
from deblur_jax.models import facts, layers
from deblur_jax.weights import Weights
from deblur_jax.weights.artifact import CARD, FORMAT, VERSION, digest

__all__ = ["commit", "write"]

_MOST_PIXELS = 2**26  # at once, to be compared with JAX


def write(
    weights: Weights,
    name: str,
    folder: Path,
    options: Options,
    *,
    kit: str | None = None,
    tick: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Exports, compares with JAX and writes; returns the card. On an error nothing is left.

    `tick` hears how far the comparison is, which takes minutes for a large network.
    """
    folder = Path(folder)
    _check(weights, folder, options)
    if kit:
        kits.check(kit, options)
    made = formats.make(weights, options)
    with formats.running(made, options) as network:
        report = _compare(weights, made, options, network, tick)
        if not report["equal"]:
            raise UserError(_unequal(name, report.get("computed_in_half", report)))
        golden, bound = _golden(weights, made, options, network)
    if kit:
        made = kits.placed(kit, name, made)
    files = {
        **made.files,
        "golden.npz": golden,
        "verify.py": (Path(__file__).parent / f"verify_{options.to}.py").read_bytes(),
    }
    if not kit:
        files["README.md"] = _readme(name, made, options).encode()
    card = _card(weights, name, made, options, report, bound, files)
    # What a kit has besides may be changed by whoever uses it, and has no checksum.
    besides = kits.files(kit, card, options) if kit else {}
    _place(folder, {**files, **besides, CARD: (json.dumps(card, indent=1, ensure_ascii=False) + "\n").encode()})
    return card


def _check(weights: Weights, folder: Path, options: Options) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists and is not an empty folder; name another one")
    real = Path(os.path.realpath(folder))
    if not real.parent.is_dir():
        raise UserError(f"{folder.parent}: no such directory")
    if not os.access(real if real.is_dir() else real.parent, os.W_OK):
        raise UserError(f"{folder}: cannot be written")
    multiple = weights.entry.config.multiple_of
    if options.size and any(side < 1 or side % multiple for side in options.size):
        size = f"{options.size[1]}x{options.size[0]}"
        raise UserError(f"--size {size}: both sides must be multiples of {multiple}, as the network takes them")
    if options.batch is not None and options.batch < 1:
        raise UserError(f"--batch must be from 1, not {options.batch}")
    if math.prod(options.size or (512, 512)) * (options.batch or 1) > _MOST_PIXELS:
        raise UserError(f"--size and --batch: it is run on such pictures, at most {_MOST_PIXELS / 1e6:.0f} megapixels")
    plain = options.layout == "nhwc" and not options.whole_numbers and options.precision == "fp32"
    if options.to == "stablehlo" and not plain:
        raise UserError("--layout, --uint8 and --precision are for --to onnx; StableHLO is NHWC in float32")
    if options.to == "savedmodel" and (options.layout != "nhwc" or options.precision != "fp32"):
        raise UserError("--layout and --precision are for --to onnx; a SavedModel is NHWC and computes in float32")


# --- What it is compared with ------------------------------------------------------------------------------


def _compare(
    weights: Weights, made: Made, options: Options, network: parity.Run, tick: Callable[[int, int], None] | None
) -> dict[str, Any]:
    def cases() -> Any:
        return parity.pictures(weights.entry.config.multiple_of, made.least, batch=options.at_once, size=options.size)

    reference = _reference(weights, options)
    whole = options.whole_numbers
    report = parity.compare(reference, network, cases(), options.precision, whole_numbers=whole, tick=tick)
    if report["equal"] and options.precision == "fp16":
        # ONNX Runtime computes half precision in float32 on a CPU; what it costs where it is real, JAX says.
        halved = _reference(weights, options, dtype=jnp.float16)
        few = ((case, picture) for case, picture in cases() if case in ("two at once", "noise", "saturated", "black"))
        report["computed_in_half"] = parity.compare(reference, halved, few, "fp16")
        report["equal"] = report["computed_in_half"]["equal"]
    return report


def _reference(weights: Weights, options: Options, *, dtype: Any = jnp.float32) -> parity.Run:
    fast = layers.compiler_options(jax.default_backend())
    apply = jax.jit(weights.entry.deployed(dtype=dtype).apply, compiler_options=fast)
    variables = {"params": weights.deployed()}

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
        f"{worst['input']}{psnr}, {report['share_of_change']:.2f} of the change of a shaken one (bound: {bound})"
    )


# --- The folder ----------------------------------------------------------------------------------------------


def _golden(weights: Weights, made: Made, options: Options, network: parity.Run) -> tuple[bytes, float]:
    """A shaken photograph as the model takes it, and what this machine's runtime gave; and how far off another may be:
    less than the network changes there.

    Another processor adds up in another order; of int8 it may round to a neighbouring step, here and there.
    """
    multiple = weights.entry.config.multiple_of
    unit = multiple * max(made.least, math.ceil(64 / multiple))
    pictures = parity.shaken(parity.natural(*(options.size or (unit, unit + multiple)), index=1))
    pictures = np.repeat(pictures, options.at_once or 1, 0)
    restored = np.asarray(network(pictures))
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
    made: Made,
    options: Options,
    report: dict[str, Any],
    bound: float,
    files: dict[str, bytes],
) -> dict[str, Any]:
    known, given = facts.of(weights), weights.card
    largest = max(report["cases"], key=lambda case: math.prod(case["shape"][1:3]))["shape"]
    training = {key: given[key] for key in ("summary", "data", "training", "scores", "step", "version") if key in given}
    return {
        "format": FORMAT,
        "format_version": VERSION,
        "name": name,
        "model": made.model,
        "source": {"package": "deblur_jax", "version": __version__, "commit": commit()},
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
        "batch": options.at_once,
        "size": {"height": options.size[0], "width": options.size[1]} if options.size else None,
        "multiple_of": multiple,
        "least_side": least,
    }


def commit() -> str | None:
    """Of the checkout that exports or measures, if there is one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]  # no tags: a hash
    try:
        found = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


def _readme(name: str, made: Made, options: Options) -> str:
    needs, imports, load, call = {
        "onnx": (
            "onnxruntime",
            "import onnxruntime",
            f'session = onnxruntime.InferenceSession("{made.model}", providers=["CPUExecutionProvider"])',
            'session.run(None, {"picture": pictures})[0]',
        ),
        "stablehlo": (
            "jax",
            "from jax import export",
            f'network = export.deserialize(bytearray(open("{made.model}", "rb").read()))',
            "network.call(pictures)",
        ),
        "savedmodel": (
            "tensorflow",
            "import tensorflow",
            f'model = tensorflow.saved_model.load("{made.model}")',
            'model.signatures["serving_default"](picture=tensorflow.constant(pictures))["restored"].numpy()',
        ),
    }[options.to]
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
    """All files or none: written under another name, then renamed; in a folder that is there the card comes last."""
    folder = Path(os.path.realpath(folder))  # a link stays one
    there = folder.is_dir()  # and may be where a disk is mounted, or where a shell is
    moved: list[Path] = []
    try:
        temporary = Path(tempfile.mkdtemp(dir=folder if there else folder.parent, prefix=f".{folder.name[:40]}."))
        try:
            for name, data in files.items():
                (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                (temporary / name).write_bytes(data)
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o777 & ~umask)  # temporary folders are private, results are not
            if there:
                for path in sorted(temporary.iterdir(), key=lambda path: path.name == CARD):
                    os.replace(path, folder / path.name)
                    moved.append(folder / path.name)
                temporary.rmdir()
            else:
                os.replace(temporary, folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            for path in moved:  # and nothing else, which somebody may have put there meanwhile
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            raise
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from None
