"""Export a network as a folder that runs without this package: ONNX, StableHLO for JAX, or a TensorFlow SavedModel.

The network is compared with JAX on photographs, noise and extremes before anything is written; the folder holds the
model, a card that says what it is, a golden example, and verify.py, which needs the runtime and NumPy alone. A kit has
that and what serves it, laid out as the server wants it; its README has the command that starts it.
"""

import argparse
import functools
import re
import sys
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a network's name, a weights file or a training workdir")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--to", choices=("onnx", "stablehlo", "savedmodel"), help="the format")
    what.add_argument(
        "--kit",
        choices=("triton", "tfserving", "python", "node"),
        help="with what serves or runs it: for NVIDIA Triton, TensorFlow Serving, ONNX Runtime in Python or in Node",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="a new or an empty folder")
    parser.add_argument("--size", metavar="WxH", help="take pictures of this size alone (any size)")
    parser.add_argument("--batch", type=int, metavar="N", help="take so many pictures at a time (any number)")
    parser.add_argument("--layout", choices=("nhwc", "nchw"), default="nhwc", help="ONNX: order of the axes (nhwc)")
    parser.add_argument("--uint8", action="store_true", help="0 to 255 in and out, converted inside (not StableHLO)")
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8"), default="fp32", help="ONNX: (fp32)")
    parser.add_argument(
        "--calibrate",
        nargs="+",
        metavar="IN",
        help="int8: pictures like those to be restored, or folders; 12 of them are used (the samples)",
    )
    parser.add_argument(
        "--val", type=Path, metavar="DIR", help="fp16, int8: measure what it loses on these pairs, as of deblur eval"
    )


def run(options: argparse.Namespace) -> int:
    from deblur_jax import weights
    from deblur_jax.cli.cache import use_compile_cache
    from deblur_jax.cli.eval import label_of
    from deblur_jax.cli.progress import Progress
    from deblur_jax.errors import UserError
    from deblur_jax.export import artifact, formats, kit

    size = _size(options.size)
    if options.calibrate and options.precision != "int8":
        raise UserError("--calibrate goes with --precision int8")
    if options.val and options.precision == "fp32":
        raise UserError("--val goes with --precision fp16 or int8: float32 loses nothing")
    loaded = weights.resolve(options.model)
    use_compile_cache()
    settings = formats.Options(
        to=kit.KITS[options.kit] if options.kit else options.to,
        precision=options.precision,
        layout=options.layout,
        whole_numbers=options.uint8,
        size=size,
        batch=options.batch,
        calibration=_calibration(options.calibrate),
        validation=_validation(options.val),
    )
    name = label_of(options.model)
    with Progress("comparing with JAX", scale=3e6, unit=" megapixels") as tick:
        card = artifact.write(loaded, name, options.output, settings, kit=options.kit, tick=tick)
    _say(options.output, card)
    return 0


def _size(text: str | None) -> tuple[int, int] | None:
    from deblur_jax.errors import UserError

    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,9})[xX](\d{1,9})", text, re.ASCII)
    if not match:
        raise UserError(f"--size must be WIDTHxHEIGHT such as 640x384, not {text!r}")
    return int(match[2]), int(match[1])


def _calibration(inputs: list[str] | None) -> list[Any]:
    if not inputs:
        return []
    from deblur_jax.errors import UserError
    from deblur_jax.evaluate.run import choose
    from deblur_jax.export.quantise import FEW
    from deblur_jax.restore.images import read_image
    from deblur_jax.restore.inputs import collect

    found = collect(inputs)
    if not found:
        raise UserError(f"no pictures to calibrate with in {' '.join(inputs)}")
    if found.unread:
        raise UserError(found.unread[0])
    some = choose(found, FEW)
    print(f"deblur export: calibrating with {len(some)} of {len(found)} pictures", file=sys.stderr)
    return [read_image(item.path) for item in some]


def _validation(folder: Path | None) -> list[Any]:
    if folder is None:
        return []
    from deblur_jax.errors import UserError
    from deblur_jax.evaluate import clips
    from deblur_jax.evaluate.run import open_pairs, read_pair

    if clips.pairs(folder):
        raise UserError(f"{folder}: holds clips; --val takes pairs of pictures")
    return [functools.partial(read_pair, entry) for entry in open_pairs(folder)[1]]


def _say(folder: Path, card: dict[str, Any]) -> None:
    report = card["parity"]
    print(f"{'compared with JAX on':22} {'n h w':>16} {'greatest error':>15} {'mean error':>11} {'PSNR':>9}")
    for case in report["cases"]:
        shape = " ".join(map(str, case["shape"][:3]))
        psnr = "same" if case["psnr"] is None else f"{case['psnr']:.1f} dB"
        errors = f"{case['greatest_error']:15.1e} {case['mean_error']:11.1e}"
        print(f"{case['input']:22} {shape:>16} {errors} {psnr:>9}")
    for row in card.get("table", []):
        loss = f"PSNR loss {row['psnr_loss']:+.3f} dB ({row['measured_on']})" if "psnr_loss" in row else ""
        print(f"{row['precision']:6} {row['bytes'] / 2**20:6.2f} MiB  {row['speed']:.2f} times fp32's speed  {loss}")
    for name, about in card["files"].items():
        print(f"{folder / name}  {about['bytes'] / 2**20:.2f} MiB")
    print(folder / "card.json")
