"""Blur a picture on purpose: motion, camera shake, defocus, Gaussian; noise and JPEG if wanted.

The blur acts on linear light, as in a camera. The same seed gives the same picture.
"""

import argparse
import math
from pathlib import Path
from typing import Any

KINDS = ("line", "shake", "defocus", "aperture", "gaussian", "anisotropic")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("picture", type=Path, help="a PNG, JPEG, WebP or BMP file (an alpha channel is ignored)")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="the blurred picture: .png, .jpg or .webp, of 8 bits"
    )
    parser.add_argument("--kind", choices=KINDS, default="shake", help="default: shake")
    parser.add_argument("--extent", type=float, default=15.0, metavar="PX", help="how far light is spread (15)")
    parser.add_argument("--angle", type=float, default=30.0, metavar="DEG", help="of line, aperture, anisotropic (30)")
    parser.add_argument("--seed", type=int, default=0, help="of the shake and the noise (0)")
    parser.add_argument("--noise", type=float, default=0.0, metavar="SIGMA", help="read noise, of full scale (0)")
    parser.add_argument("--photons", type=float, metavar="N", help="photo-electrons at full scale: adds Poisson noise")
    parser.add_argument("--jpeg", type=int, metavar="QUALITY", help="compress, 1 to 100, before the output is written")
    parser.add_argument("--kernel-out", type=Path, metavar="FILE", help="write the kernel too, brightest point white")
    parser.add_argument("--sheet", action="store_true", help="write a contact sheet of all kinds instead")
    parser.add_argument("--overwrite", action="store_true", help="replace outputs if they exist")


def run(options: argparse.Namespace) -> int:
    from deblur_jax.errors import UserError
    from deblur_jax.restore.images import check_output, read_image, write_image

    _check(options)
    outputs = [options.output] + ([options.kernel_out] if options.kernel_out else [])
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise UserError(f"{options.output}: named for both the picture and the kernel")
    for path in outputs:
        check_output(path, overwrite=options.overwrite)
    picture = read_image(options.picture)

    import numpy as np

    from deblur_jax import filters

    if options.sheet:
        write_image(options.output, _sheet(picture, options), overwrite=options.overwrite)
    else:
        kernel = _kernel(options.kind, options)
        write_image(options.output, np.asarray(filters.to_8bit(_blurred(picture, kernel, options))), overwrite=True)
        if options.kernel_out:
            visible = np.asarray(filters.to_8bit(kernel / kernel.max()))
            write_image(options.kernel_out, visible, overwrite=options.overwrite)
    for path in outputs:
        print(path)
    return 0


def _check(options: argparse.Namespace) -> None:
    from deblur_jax.errors import UserError

    # Beyond this a kernel is larger than any blur that can be told from a flat picture.
    if not 0 < options.extent <= 300:
        raise UserError(f"--extent must be above 0 and at most 300 pixels, not {options.extent:g}")
    if not math.isfinite(options.angle):
        raise UserError(f"--angle must be a number of degrees, not {options.angle}")
    if not 0 <= options.noise <= 1:
        raise UserError(f"--noise must be from 0 to 1, not {options.noise:g}")
    if options.photons is not None and not 1 <= options.photons < math.inf:
        raise UserError(f"--photons must be at least 1, not {options.photons:g}")
    if options.jpeg is not None and not 1 <= options.jpeg <= 100:
        raise UserError(f"--jpeg must be from 1 to 100, not {options.jpeg}")
    if options.sheet and options.kernel_out:
        raise UserError("--kernel-out and --sheet exclude each other: a sheet shows every kernel")


def _kernel(kind: str, options: argparse.Namespace) -> Any:
    import jax

    from deblur_jax import blur

    extent, angle = options.extent, math.radians(options.angle)
    size = 2 * math.ceil(extent / 2) + 3
    match kind:
        case "line":
            return blur.line_kernel(extent, angle, size=size)
        case "shake":
            # The centre of mass may lie anywhere in the path's box, so the kernel needs room on either side.
            path = blur.random_trajectory(jax.random.key(options.seed), extent=extent)
            return blur.trajectory_kernel(path, size=2 * math.ceil(extent) + 3)
        case "defocus":
            return blur.defocus_kernel(extent / 2, size=size)
        case "aperture":
            return blur.aperture_kernel(extent / 2, angle, size=size)
        # A Gaussian spreads three deviations to each side.
        case "gaussian":
            return blur.gaussian_kernel(extent / 6, size=size)
        case _:
            return blur.gaussian_kernel(extent / 6, extent / 18, angle, size=size)


def _blurred(picture: Any, kernel: Any, options: argparse.Namespace) -> Any:
    import jax

    from deblur_jax import blur

    camera = blur.Camera(
        gain=1.0 / options.photons if options.photons else None, read=options.noise or None, jpeg_quality=options.jpeg
    )
    light = blur.convolve_fft(blur.srgb_to_linear(picture[None]), kernel[None])
    return blur.capture(jax.random.key(options.seed), light, camera)[0]


def _sheet(picture: Any, options: argparse.Namespace) -> Any:
    """The middle of the picture, sharp and blurred by every kind, each kernel enlarged in its corner."""
    import cv2
    import numpy as np

    from deblur_jax import filters

    side = min(320, *picture.shape[:2])
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    crop = np.ascontiguousarray(picture[top : top + side, left : left + side])
    cells = []
    for kind in (None, *KINDS, "noise, JPEG 30"):
        cell_options = argparse.Namespace(**vars(options))
        if kind == "noise, JPEG 30":
            cell_options.noise, cell_options.photons, cell_options.jpeg = 0.02, 300.0, 30
        cell, kernel = crop, None
        if kind:
            kernel = _kernel(kind if kind in KINDS else "shake", cell_options)
            cell = np.asarray(_blurred(crop, kernel, cell_options))
        cell = cv2.resize(np.asarray(filters.to_8bit(cell)), (320, 320), interpolation=cv2.INTER_NEAREST)
        if kernel is not None:
            inset = np.asarray(filters.to_8bit(kernel / kernel.max()))
            enlarged = cv2.resize(inset, (96, 96), interpolation=cv2.INTER_NEAREST)
            cell[-100:-4, -100:-4] = cv2.copyMakeBorder(enlarged[1:-1, 1:-1], 1, 1, 1, 1, 0, value=255)[..., None]
        strip = np.full((28, 320, 3), 255, np.uint8)
        cv2.putText(strip, kind or "sharp", (4, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1, cv2.LINE_AA)
        cells.append(cv2.copyMakeBorder(np.vstack([strip, cell]), 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=[255] * 3))
    return np.vstack([np.hstack(cells[:4]), np.hstack(cells[4:])])
