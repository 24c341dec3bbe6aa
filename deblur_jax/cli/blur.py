"""Blur a picture on purpose: camera shake, moving things, defocus, the air; noise and JPEG if wanted.

The blur acts on linear light, as in a camera. The same seed gives the same picture. line, shake and the optical kinds
blur every place alike; handheld turns the camera, so that each place blurs in its own way; layers moves a thing in
front of the picture; turbulence is shimmering air. With --kind frames the input is a film clip, whose neighbouring
frames are averaged.
"""

import argparse
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

# One kernel for the whole picture; several, by the place; none.
UNIFORM = ("line", "shake", "defocus", "aperture", "gaussian", "anisotropic")
VARYING = ("handheld", "layers", "turbulence")
KINDS = (*UNIFORM[:2], *VARYING, *UNIFORM[2:], "frames")

# Options that only some kinds have, their defaults, and the kinds.
_OF_KINDS = {
    "focal": (None, ("handheld", "layers")),
    "roll": (None, ("handheld", "layers")),
    "poses": (None, ("handheld",)),
    "pose_axes": ("camera", ("handheld",)),
    "layer": (None, ("layers",)),
    "frames": (7, ("frames",)),
    "start": (0.0, ("frames",)),
    "response": ("srgb", ("frames",)),
    "between": (7, ("frames",)),
}
_MOST_VIEWS = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("picture", type=Path, help="a picture (an alpha channel is ignored), or a film clip")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="the blurred picture: .png, .jpg or .webp, of 8 bits"
    )
    parser.add_argument("--kind", choices=KINDS, default="shake", help="default: shake")
    parser.add_argument("--extent", type=float, default=15.0, metavar="PX", help="how far light is spread (15)")
    parser.add_argument("--angle", type=float, default=30.0, metavar="DEG", help="of line, aperture, anisotropic (30)")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random (0)")
    parser.add_argument("--saturate", type=float, metavar="PEAK", help="make near-white this bright before the blur")
    parser.add_argument("--noise", type=float, default=0.0, metavar="SIGMA", help="read noise, of full scale (0)")
    parser.add_argument("--photons", type=float, metavar="N", help="photo-electrons at full scale: adds Poisson noise")
    parser.add_argument("--jpeg", type=int, metavar="QUALITY", help="compress, 1 to 100, before the output is written")
    parser.add_argument("--sharp-out", type=Path, metavar="FILE", help="write the sharp picture that belongs to it too")
    parser.add_argument(
        "--kernel-out", type=Path, metavar="FILE", help="write the kernel too, or 5x3 of them; each one's peak white"
    )
    parser.add_argument("--sheet", action="store_true", help="write a contact sheet of all kinds for pictures instead")
    parser.add_argument("--overwrite", action="store_true", help="replace outputs if they exist")
    hand = parser.add_argument_group("handheld and layers: a camera, or a thing, that turns while the shutter is open")
    hand.add_argument("--focal", type=float, metavar="PX", help="focal length (the picture's longer side)")
    hand.add_argument("--roll", type=float, metavar="DEG", help="about the axis (moves the corners by the extent)")
    hand.add_argument(
        "--poses", type=Path, metavar="FILE", help="recorded motion: `timestamp tx ty tz qx qy qz qw` lines"
    )
    hand.add_argument("--pose-axes", metavar="AXES", help='camera, tumvi, or the like of "-x -z -y" (camera)')
    hand.add_argument("--layer", type=Path, metavar="FILE", help="what moves in front (the picture's mirror image)")
    clip = parser.add_argument_group("frames: the mean of a clip's frames")
    clip.add_argument("--frames", type=int, metavar="N", help="how many, an odd number (7)")
    clip.add_argument("--start", type=float, metavar="SECONDS", help="where in the clip (0)")
    clip.add_argument("--response", choices=("srgb", "gamma", "stored"), help="what values are averaged as (srgb)")
    clip.add_argument("--between", type=int, metavar="N", help="frames put between each two by optical flow (7)")


def run(options: argparse.Namespace) -> int:
    from deblur_jax.errors import UserError
    from deblur_jax.restore.images import check_output, read_image, write_image

    check(options)
    outputs = [path for path in (options.output, options.kernel_out, options.sharp_out) if path]
    if len({os.path.realpath(path) for path in outputs}) < len(outputs):
        raise UserError("one file is named for two of the outputs")
    for path in outputs:
        check_output(path, overwrite=options.overwrite)

    import numpy as np

    from deblur_jax import filters

    if options.sheet:
        from deblur_jax.cli.blur_sheet import sheet

        write_image(options.output, sheet(read_image(options.picture), options), overwrite=options.overwrite)
    else:
        made = _averaged(options) if options.kind == "frames" else blurred(read_image(options.picture), options)
        write_image(
            options.output, np.asarray(filters.to_8bit(taken(made.light, options))), overwrite=options.overwrite
        )
        if options.kernel_out:
            write_image(options.kernel_out, mosaic(made.kernels), overwrite=options.overwrite)
        if options.sharp_out:
            sharp = np.asarray(filters.to_8bit(taken(made.sharp)))
            write_image(options.sharp_out, sharp, overwrite=options.overwrite)
    for path in outputs:
        print(path)
    return 0


def check(options: argparse.Namespace) -> None:
    """Complains, and fills in the defaults of options that only some kinds have."""
    from deblur_jax.errors import UserError

    # Beyond this a kernel is larger than any blur that can be told from a flat picture.
    if not 0.01 <= options.extent <= 300:
        raise UserError(f"--extent must be from 0.01 to 300 pixels, not {options.extent:g}")
    if not math.isfinite(options.angle):
        raise UserError(f"--angle must be a number of degrees, not {options.angle}")
    if options.saturate is not None and not 1 <= options.saturate <= 1000:
        raise UserError(f"--saturate must be from 1 to 1000, not {options.saturate:g}")
    if not 0 <= options.noise <= 1:
        raise UserError(f"--noise must be from 0 to 1, not {options.noise:g}")
    if options.photons is not None and not 1 <= options.photons < math.inf:
        raise UserError(f"--photons must be at least 1, not {options.photons:g}")
    if options.jpeg is not None and not 1 <= options.jpeg <= 100:
        raise UserError(f"--jpeg must be from 1 to 100, not {options.jpeg}")
    if options.sheet and (options.kernel_out or options.sharp_out):
        raise UserError("--sheet goes with neither --kernel-out nor --sharp-out: it shows them all")
    if options.sheet and (options.saturate, options.noise, options.photons, options.jpeg) != (None, 0.0, None, None):
        raise UserError("--sheet shows blur alone: leave out --saturate, --noise, --photons and --jpeg")
    if abs(options.seed) >= 2**63:
        raise UserError(f"--seed must be below 2^63, not {options.seed}")
    kinds = VARYING if options.sheet else (options.kind,)
    for name, (default, its) in _OF_KINDS.items():
        if getattr(options, name) is None:
            setattr(options, name, default)
        elif not set(its) & set(kinds):
            shown = "--sheet" if options.sheet else f"--kind {options.kind}"
            raise UserError(f"--{name.replace('_', '-')} goes with --kind {' or '.join(its)}, not with {shown}")
    if options.focal is not None and not 0 < options.focal < 1e7:
        raise UserError(f"--focal must be above 0 pixels, not {options.focal:g}")
    if options.roll is not None and not 0 <= options.roll <= 45:
        raise UserError(f"--roll must be from 0 to 45 degrees, not {options.roll:g}")
    if options.roll is not None and options.poses:
        raise UserError("--roll and --poses exclude each other: a recording has its own roll")
    if options.pose_axes != "camera" and not options.poses:
        raise UserError("--pose-axes are of a recording: name it with --poses")
    if options.kind == "frames" and not options.sheet:
        if options.kernel_out:
            raise UserError("--kernel-out does not go with --kind frames: a clip's motion is not known as kernels")
        if options.saturate is not None:
            raise UserError("--saturate does not go with --kind frames: a clip's highlights are what they are")
        if not 3 <= options.frames <= 99 or options.frames % 2 == 0:
            raise UserError(f"--frames must be odd, from 3 to 99, not {options.frames}")
        if not 0 <= options.start < math.inf:
            raise UserError(f"--start must be from 0 seconds, not {options.start:g}")
        if not 0 <= options.between <= 63:
            raise UserError(f"--between must be from 0 to 63, not {options.between}")


class Made(NamedTuple):
    """Blurred and sharp linear light `(h w 3)`, and the kernels `(rows columns size size)` of places in a grid."""

    light: Any
    sharp: Any
    kernels: Any


def taken(light: Any, options: argparse.Namespace | None = None) -> Any:
    """What the camera of the options, or a perfect one, makes of linear light."""
    import jax

    from deblur_jax import blur

    if options is None:
        return blur.capture(jax.random.key(0), light[None], blur.Camera())[0]
    camera = blur.Camera(
        gain=1.0 / options.photons if options.photons else None, read=options.noise or None, jpeg_quality=options.jpeg
    )
    return blur.capture(jax.random.key(options.seed), light[None], camera)[0]


def blurred(picture: Any, options: argparse.Namespace, *, grid: tuple[int, int] = (3, 5)) -> Made:
    """A picture `(h w 3)` blurred by any kind but frames."""
    import jax.numpy as jnp

    from deblur_jax import blur

    light = blur.srgb_to_linear(jnp.asarray(picture))
    if options.saturate is not None:
        light = blur.highlights(light[None], peak=options.saturate)[0]
    match options.kind:
        case "handheld":
            return _handheld(light, options, grid)
        case "layers":
            return _layers(light, options, grid)
        case "turbulence":
            return _turbulence(light, options, grid)
        case kind:
            kernel = _kernel(kind, options)
            return Made(blur.convolve_fft(light[None], kernel[None])[0], light, kernel[None, None])


def _kernel(kind: str, options: argparse.Namespace) -> Any:
    import jax

    from deblur_jax import blur

    extent, angle = options.extent, math.radians(options.angle % 360)
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


def _handheld(light: Any, options: argparse.Namespace, grid: tuple[int, int]) -> Made:
    import jax

    from deblur_jax import blur

    focal = _focal(light, options)
    path = recorded_path(options, focal) if options.poses else _random_path(0, light, options, options.extent, focal)
    (path,) = _fine([path], light, focal)
    offsets = _offsets(path, light, focal, grid)
    shaken = jax.block_until_ready(blur.camera_shake(light, path, focal=focal))
    return Made(shaken, light, _local_kernels(offsets))


def _layers(light: Any, options: argparse.Namespace, grid: tuple[int, int]) -> Made:
    """A thing that moves over the extent before a background that the hand shakes by a quarter of it."""
    import jax
    import numpy as np

    from deblur_jax import blur

    height, width = light.shape[:2]
    layer = light[:, ::-1]
    if options.layer:
        layer = _covering(options.layer, height, width)
        layer = blur.srgb_to_linear(layer)
        if options.saturate is not None:
            layer = blur.highlights(layer[None], peak=options.saturate)[0]
    mask = blur.random_mask(jax.random.key(options.seed), height=height, width=width)
    focal = _focal(light, options)
    paths = [
        _random_path(0, light, options, options.extent / 4, focal),
        _random_path(1, light, options, options.extent, focal),
    ]
    behind, front = _fine(paths, light, focal)
    seen = blur.layered_motion(light, layer, mask, rotations=behind, layer_rotations=front, focal=focal)
    # Each place's kernel is that of what stands there.
    right, down = _places(light, grid).astype(int).transpose(2, 0, 1)
    is_front = (np.asarray(mask)[down, right] > 0.5)[..., None]
    offsets = np.where(is_front, _offsets(front, light, focal, grid), _offsets(behind, light, focal, grid))
    return Made(seen, blur.composite(light, layer, mask), _local_kernels(offsets))


def _turbulence(light: Any, options: argparse.Namespace, grid: tuple[int, int]) -> Made:
    """Heavy shimmer, D / r0 = 3: the speckled spot spreads over about six widths of the clear one."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from deblur_jax import blur
    from deblur_jax.blur.views import pixel_grid, sample

    height, width = light.shape[:2]
    bend, spot = jax.random.split(jax.random.key(options.seed))
    longer = max(height, width)
    warp = blur.turbulence_warp(
        bend,
        height=height,
        width=width,
        deviation=options.extent / 10,
        outer=longer / 4,
        smooth=max(6.0, longer / 80),
    )
    size = 2 * math.ceil(0.75 * options.extent) + 3
    kernel = blur.turbulence_kernel(spot, 3.0, width=max(1.0, options.extent / 6), size=size)
    bent = sample(light, pixel_grid(height, width) + warp)
    right, down = _places(light, grid).astype(int).transpose(2, 0, 1)
    # Looked up there, so seen the other way.
    moved = _local_kernels(-np.asarray(warp)[down, right][None], room=size // 2)
    flat = moved.reshape(-1, *moved.shape[2:])
    spots = blur.convolve_fft(flat[..., None], jnp.tile(kernel, (len(flat), 1, 1)))[..., 0].reshape(moved.shape)
    return Made(blur.convolve_fft(bent[None], kernel[None])[0], light, spots)


def _averaged(options: argparse.Namespace) -> Made:
    import jax.numpy as jnp

    from deblur_jax import blur
    from deblur_jax.restore.video_io import read_frames

    frames = jnp.asarray(read_frames(options.picture, count=options.frames, start=options.start))
    mean = blur.average_frames(frames, between=options.between, response=options.response)
    return Made(blur.srgb_to_linear(mean), blur.srgb_to_linear(frames[len(frames) // 2]), None)


def _covering(path: Path, height: int, width: int) -> Any:
    """The picture in this file, scaled to cover an area and cut to it around its middle."""
    import cv2

    from deblur_jax.restore.images import read_image

    other = read_image(path)
    scale = max(height / other.shape[0], width / other.shape[1])
    size = max(width, round(other.shape[1] * scale)), max(height, round(other.shape[0] * scale))
    other = cv2.resize(other, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = (other.shape[0] - height) // 2, (other.shape[1] - width) // 2
    return other[top : top + height, left : left + width]


def _focal(light: Any, options: argparse.Namespace) -> float:
    from deblur_jax.errors import UserError

    longer = max(light.shape[:2])
    if options.focal is None:
        return max(float(longer), 4 * options.extent)
    # Otherwise a turn over the extent would show what lies beside or behind the camera.
    if options.extent * longer > 0.5 * options.focal**2:
        raise UserError(f"--focal {options.focal:g} is too short for {longer} pixels and --extent {options.extent:g}")
    return options.focal


def _random_path(number: int, light: Any, options: argparse.Namespace, extent: float, focal: float) -> Any:
    import jax

    from deblur_jax import blur

    roll = min(extent / (0.5 * math.hypot(*light.shape[:2])), 0.2)
    if options.roll is not None:
        roll = math.radians(options.roll)
    key = jax.random.fold_in(jax.random.key(options.seed), number)
    return blur.random_rotations(key, extent=extent, roll=roll, focal=focal, views=64)


def recorded_path(options: argparse.Namespace, focal: float) -> Any:
    """Of 64 exposures drawn by the seed, the one that moves nearest to the extent; a faster one is slowed down."""
    import numpy as np

    from deblur_jax.pipeline import poses

    axes = str({"camera": poses.CAMERA, "tumvi": poses.TUMVI}.get(options.pose_axes, options.pose_axes))
    found = poses.exposures([options.poses], views=64, count=64, axes=axes, seed=abs(options.seed))
    moved = focal * np.ptp(found[..., :2], axis=1).max(-1)
    nearest = np.abs(np.log(np.maximum(moved, 1e-6) / options.extent)).argmin()
    return found[nearest] * np.float32(min(1.0, options.extent / max(moved[nearest], 1e-6)))


def _fine(paths: list[Any], light: Any, focal: float) -> list[Any]:
    """The paths with as many views as keep each step below about a pixel everywhere, and at most 256."""
    import jax.numpy as jnp
    import numpy as np

    paths = [np.asarray(path) for path in paths]
    steps = [np.linalg.norm(np.diff(_offsets(path, light, focal, (3, 3)), axis=0), axis=-1).max() for path in paths]
    views = min(_MOST_VIEWS, 16 * math.ceil((len(paths[0]) * max(steps) + 1) / 16))
    moments = (np.arange(views) + 0.5) / views * (len(paths[0]) - 1)
    fine = [np.stack([np.interp(moments, range(len(p)), axis) for axis in p.T], -1) for p in paths]
    return [jnp.asarray(path - path.mean(0), jnp.float32) for path in fine]


def _places(light: Any, grid: tuple[int, int]) -> Any:
    """Points (right, down), evenly over the picture, with half a step to its borders."""
    import numpy as np

    down, right = ((np.arange(n) + 0.5) / n * size - 0.5 for n, size in zip(grid, light.shape, strict=False))
    return np.stack(np.meshgrid(right, down), -1).astype(np.float32)


def _offsets(path: Any, light: Any, focal: float, grid: tuple[int, int]) -> Any:
    """How far each view moves what stands at the places: `(views rows columns 2)`."""
    import jax.numpy as jnp
    import numpy as np

    from deblur_jax import blur

    places = _places(light, grid)
    centre = jnp.array([(light.shape[1] - 1) / 2, (light.shape[0] - 1) / 2])
    moved = blur.moved_points(jnp.asarray(path), jnp.asarray(places), focal=focal, centre=centre)
    return np.asarray(moved) - places


def _local_kernels(offsets: Any, *, room: int = 0) -> Any:
    """Where each place's light goes, not moved to the middle."""
    import jax
    import numpy as np

    from deblur_jax import blur

    size = 2 * (math.ceil(np.abs(offsets).max()) + 1 + room) + 1
    flat = np.moveaxis(offsets, 0, 2).reshape(-1, len(offsets), 2)
    kernels = jax.vmap(lambda points: blur.trajectory_kernel(points, size=size, centred=False))(flat)
    return kernels.reshape(*offsets.shape[1:3], size, size)


def mosaic(kernels: Any) -> Any:
    """The kernels beside each other, grey lines between them, each one's brightest point white."""
    import numpy as np

    from deblur_jax import filters

    rows, columns, size, _ = kernels.shape
    visible = np.asarray(filters.to_8bit(kernels / kernels.max((2, 3), keepdims=True)))
    picture = np.full((rows * (size + 1) - 1, columns * (size + 1) - 1), 96, np.uint8)
    for row in range(rows):
        for column in range(columns):
            top, left = row * (size + 1), column * (size + 1)
            picture[top : top + size, left : left + size] = visible[row, column]
    return picture
