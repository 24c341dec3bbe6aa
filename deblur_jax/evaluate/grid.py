"""A fixed set to judge by: kinds of blur x strengths x noise x encodings, made from photographs kept aside.

Every kind and strength blurs the same number of photographs, each a piece of its own, and stores the result in several
ways of the eight: two amounts of noise x four encodings. The same command writes the same set. `grid.json` says
what each pair is; `kernels.npz` has what became of a point of light, for methods that are told.
"""

import dataclasses
import functools
import hashlib
import io
import itertools
import json
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax import __version__
from deblur_jax.blur import Camera, capture, jpeg, srgb_to_linear
from deblur_jax.blur.synthesis import Encoding, Recipe, blurred_light, encoded
from deblur_jax.errors import UserError
from deblur_jax.files import make_folder, write_whole
from deblur_jax.pipeline import trees
from deblur_jax.pipeline.pictures import as_8bit, decode, reduced
from deblur_jax.restore.images import encode_image, read_bytes

__all__ = ["INDEX", "STRENGTHS", "Grid", "kept_photographs", "read", "write"]

INDEX, KERNELS = "grid.json", "kernels.npz"
_FORMAT = "deblur_jax grid 1"

# The field of the recipe that says how strong a kind is, and its ranges: pixels; of the air D / r0.
STRENGTHS: dict[str, tuple[str, dict[str, tuple[float, float]]]] = {
    "sharp": ("", {"none": (0.0, 0.0)}),
    "shake": ("extent", {"light": (3.0, 9.0), "moderate": (9.0, 21.0), "heavy": (21.0, 33.0)}),
    "line": ("extent", {"light": (3.0, 9.0), "moderate": (9.0, 21.0), "heavy": (21.0, 33.0)}),
    "layers": ("extent", {"light": (3.0, 9.0), "moderate": (9.0, 21.0), "heavy": (21.0, 33.0)}),
    "defocus": ("radius", {"light": (1.0, 2.0), "moderate": (2.0, 4.0), "heavy": (4.0, 7.0)}),
    "gaussian": ("sigma", {"light": (0.5, 1.0), "moderate": (1.0, 2.0), "heavy": (2.0, 4.0)}),
    "turbulence": ("air_strength", {"light": (0.5, 1.5), "moderate": (1.5, 3.0), "heavy": (3.0, 5.0)}),
}
_NO_KERNEL = ("layers", "turbulence")  # no one kernel holds for the whole picture
# Light of one photo-electron, and deviation of the read noise.
NOISE: dict[str, tuple[float, float]] = {"low": (0.0003, 0.0005), "high": (0.002, 0.004)}
# Gamma on top of sRGB's curve, share of grey, what is left of the contrast, JPEG's quality (above 100: none).
ENCODINGS: dict[str, tuple[float, float, float, float]] = {
    "srgb": (1.0, 0.0, 1.0, 101.0),
    "linear": (2.2, 0.0, 1.0, 101.0),
    "grey": (1.0, 1.0, 0.6, 101.0),
    "jpeg": (1.0, 0.0, 1.0, 80.0),
}
_WAYS = tuple(itertools.product(NOISE, ENCODINGS))
_PHOTOGRAPHS, _STORED = 16, 2  # for each kind and strength; each stored in so many ways
_LONGEST = 1280  # photographs are reduced to this: at full size they are soft
_TRIES = 3  # of three pieces the one with most detail is taken: nobody asks to have blue sky sharpened
_KERNEL = 49


@dataclasses.dataclass(frozen=True)
class Grid:
    """What `write` noted: of each pair, by its name, kind, strength, noise, encoding and photograph."""

    pairs: dict[str, dict[str, str]]
    kernels: Mapping[str, np.ndarray]  # by the pair's name, where there is one

    @property
    def groups(self) -> dict[str, dict[str, list[str]]]:
        """Names of pairs by blur (kind and strength), by noise and by encoding; sharp ones only by their blur."""
        found: dict[str, dict[str, list[str]]] = {"blur": {}, "noise": {}, "encoding": {}}
        for name, about in self.pairs.items():
            found["blur"].setdefault(f"{about['kind']} {about['strength']}", []).append(name)
            if about["kind"] != "sharp":
                for by in ("noise", "encoding"):
                    found[by].setdefault(about[by], []).append(name)
        return found


def kept_photographs(folders: Sequence[Path], *, aside: float, listed: Path | None = None) -> list[Path]:
    """Those that training with this share keeps aside. With a list, exactly those it names, unchanged."""
    kept = []
    for folder in {folder.resolve(): folder for folder in folders}.values():  # named twice, it is one
        splits = trees.photos(folder)
        several = splits.get("val") or [e for e in splits.get("train", []) if trees.is_kept_aside(e.sequence, aside)]
        kept += [example.sharp for example in several]
    if listed is None:
        if not kept:
            raise UserError(f"{folders[0]}: too few photographs to keep some aside")
        return sorted(kept, key=lambda path: path.name)
    wanted = _listed(listed)
    there = {path.name: path for path in kept}
    for name, digest in wanted.items():
        if name not in there:
            raise UserError(f"{name}: is in {listed} but not among the photographs kept aside")
        if hashlib.sha256(read_bytes(there[name])).hexdigest() != digest:
            raise UserError(f"{there[name]}: is not the file that {listed} names: its sha256 differs")
    return [there[name] for name in sorted(wanted)]


def _listed(path: Path) -> dict[str, str]:
    """Name and sha256 of each, from lines of tab-separated fields; the first line names the fields."""
    try:
        lines = [line.split("\t") for line in read_bytes(path).decode().splitlines()]
    except UnicodeDecodeError:
        lines = []
    if not lines or lines[0][:2] != ["name", "sha256"] or any(len(line) < 2 for line in lines):
        raise UserError(
            f"{path}: must have lines of a name and a sha256 with a tab between, and begin with these words"
        )
    return {line[0]: line[1] for line in lines[1:]}


def write(
    photographs: Sequence[Path],
    folder: Path,
    *,
    seed: int = 0,
    side: int = 256,
    kinds: Sequence[str] = tuple(STRENGTHS),
    tick: Callable[[int, int], None] | None = None,
) -> int:
    """Writes the set; returns the number of pairs. The index is written last: without it the set is not finished."""
    if (folder / INDEX).exists():
        raise UserError(f"{folder / INDEX}: exists already; a set is written once")
    if side <= _KERNEL:
        raise UserError(f"--side must be above {_KERNEL} pixels, which a point of light may be spread over, not {side}")
    for path in photographs:
        if not path.name.isprintable():  # pieces are called after it, in JSON and in a zip file
            raise UserError(f"{path.parent}: {path.name!r} is a name that is no plain text; rename it")
    make_folder(folder)
    decoded = functools.lru_cache(maxsize=64)(_photograph)
    cells = _cells(photographs, kinds, seed)
    pairs = {name: about for cell in cells for name, about in cell.pairs.items()}
    _check_no_others(folder, pairs)
    kernels: dict[str, np.ndarray] = {}
    with ThreadPoolExecutor(2) as pool:
        for number, (kind, strength, chosen, named) in enumerate(cells):
            recipe = _recipe(kind, strength)
            generator = np.random.default_rng((seed, number))
            pieces = np.stack([_piece(decoded(path), side + 2 * recipe.margin, generator, path) for path in chosen])
            key = jax.random.fold_in(jax.random.key(seed), number)
            blurred, sharp, spread = _blurred(key, pieces, kind, recipe)
            ways = [(about["noise"], about["encoding"]) for about in named.values()]
            blurred, sharp = (jnp.tile(x, (_STORED, 1, 1, 1)) for x in (blurred, sharp))
            stored = _stored(jax.random.fold_in(key, 1), blurred, sharp, ways)
            jobs = []
            for at, name in enumerate(named):
                if kind not in _NO_KERNEL:
                    kernels[name] = spread[at % _PHOTOGRAPHS]
                jobs += [
                    pool.submit(_write_png, folder / role / f"{name}.png", pixels[at])
                    for role, pixels in zip(("blur", "sharp"), stored, strict=True)
                ]
            for job in jobs:
                job.result()
            if tick:
                tick(number + 1, len(cells))
    _write_kernels(folder / KERNELS, kernels)
    about = {
        "format": _FORMAT,
        "version": __version__,
        "seed": seed,
        "side": side,
        "strengths": STRENGTHS,
        "noise": NOISE,
        "encodings": ENCODINGS,
        "recipe": dataclasses.asdict(_recipe("shake", "moderate")),
        "photographs": {path.name: hashlib.sha256(read_bytes(path)).hexdigest() for path in photographs},
        "pairs": pairs,
    }
    write_whole(folder / INDEX, (json.dumps(about, indent=1, ensure_ascii=False) + "\n").encode())
    return len(pairs)


class _Cell(NamedTuple):
    kind: str
    strength: str
    photographs: list[Path]
    pairs: dict[str, dict[str, str]]  # `Grid.pairs` of these photographs, as often as they are stored


def _cells(photographs: Sequence[Path], kinds: Sequence[str], seed: int) -> list[_Cell]:
    """All that will be written, by name."""
    turn = itertools.cycle(
        sorted(photographs, key=lambda path: hashlib.sha256(f"{seed} {path.name}".encode()).digest())
    )
    cells = []
    for kind, strength in [(k, strength) for k in kinds for strength in STRENGTHS[k][1]]:
        chosen, pairs = [next(turn) for _ in range(_PHOTOGRAPHS)], {}
        # Every piece as often as it is stored, each time in another way; all ways equally often.
        for again, (i, path) in itertools.product(range(_STORED), enumerate(chosen)):
            noise, encoding = _WAYS[(i + 3 * again) % len(_WAYS)]
            name = f"{path.stem}/{kind}-{strength}-{i:02d}-{noise}-{encoding}"
            pairs[name] = {"kind": kind, "strength": strength, "noise": noise, "encoding": encoding}
        cells.append(_Cell(kind, strength, chosen, pairs))
    return cells


def _check_no_others(folder: Path, pairs: Mapping[str, Any]) -> None:
    """A run that was stopped may be made again, but what another one left would be taken for this one's."""
    for role in ("blur", "sharp"):
        for path in trees.pictures(folder / role):
            if path.relative_to(folder / role).with_suffix("").as_posix() not in pairs:
                raise UserError(f"{path}: is no picture of this set, perhaps of another that was stopped; remove it")


def _recipe(kind: str, strength: str) -> Recipe:
    """Nothing but the blur: the camera comes afterwards. It does not roll, so that one kernel holds all over."""
    field, ranges = STRENGTHS[kind]
    fields: dict[str, Any] = {field: ranges[strength]} if field else {}
    return Recipe(shares=((kind, 1.0),), roll=(0.0, 0.0), margin=24, views=128, kernel_size=33, **fields)


def _photograph(path: Path) -> np.ndarray:
    return reduced(as_8bit(decode(read_bytes(path), path)), _LONGEST)


def _piece(pixels: np.ndarray, side: int, generator: np.random.Generator, path: Path) -> np.ndarray:
    """Of several random places that with the most detail."""
    height, width = pixels.shape[:2]
    if min(height, width) < side:
        raise UserError(f"{path}: {width}x{height} pixels, too small for a piece of {side}x{side}")
    places = [(generator.integers(height - side + 1), generator.integers(width - side + 1)) for _ in range(_TRIES)]
    pieces = [pixels[top : top + side, left : left + side] for top, left in places]
    return max(pieces, key=lambda piece: cv2.Laplacian(cv2.cvtColor(piece, cv2.COLOR_RGB2GRAY), cv2.CV_32F).var())


def _blurred(key: jax.Array, pieces: np.ndarray, kind: str, recipe: Recipe) -> tuple[jax.Array, jax.Array, np.ndarray]:
    """In linear light, the blurred and the sharp pieces, and what becomes of a point of light in the middle of each."""
    light = srgb_to_linear(jnp.asarray(pieces, jnp.float32) / 255.0)
    blurred, sharp = blurred_light(key, light, kind=kind, recipe=recipe)
    middle = light.shape[1] // 2
    point = jnp.zeros_like(light).at[:, middle, middle].set(1.0)
    seen = blurred_light(key, point, kind=kind, recipe=recipe)[0]
    first = middle - recipe.margin - _KERNEL // 2
    spread = np.maximum(np.asarray(seen[:, first : first + _KERNEL, first : first + _KERNEL, 0]), 0.0)
    return blurred, sharp, spread / spread.sum((1, 2), keepdims=True)


def _stored(
    key: jax.Array, blurred: jax.Array, sharp: jax.Array, ways: Sequence[tuple[str, str]]
) -> tuple[np.ndarray, np.ndarray]:
    """As 8-bit pictures: the blurred one with its noise, both by the same encoding."""
    gain, read = jnp.array([NOISE[noise] for noise, _ in ways]).T
    gamma, grey, contrast, quality = jnp.array([ENCODINGS[encoding] for _, encoding in ways]).T
    low = (1.0 - contrast) / 2
    encoding = Encoding(jnp.ones_like(gamma), gamma, grey, low, low + contrast)
    blur, kept = _captured(key, blurred, sharp, Camera(gain=gain, read=read), encoding, quality)
    return _as_bytes(blur), _as_bytes(kept)


def _as_bytes(pictures: jax.Array) -> np.ndarray:
    return np.rint(np.asarray(pictures) * 255.0).astype(np.uint8)


@jax.jit
def _captured(
    key: jax.Array, blurred: jax.Array, sharp: jax.Array, camera: Camera, encoding: Encoding, quality: jax.Array
) -> tuple[jax.Array, jax.Array]:
    blur = encoded(capture(key, blurred, camera), encoding)
    compressed = jax.vmap(lambda x, q: jpeg(x[None], quality=jnp.minimum(q, 100.0))[0])(blur, quality)
    blur = jnp.where((quality > 100.0)[:, None, None, None], blur, compressed)
    return blur, encoded(capture(key, sharp, Camera()), encoding)


def _write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, encode_image(pixels, ".png", effort=1))


def _write_kernels(path: Path, kernels: Mapping[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    arrays: Any = {name: kernel.astype(np.float32) for name, kernel in kernels.items()}
    np.savez_compressed(buffer, **arrays)
    write_whole(path, buffer.getvalue())


def read(folder: Path, names: Iterable[str] | None = None) -> Grid | None:
    """The index of a set, or None where the folder is none. With `names`, only of these pairs."""
    path = folder / INDEX
    if not path.is_file():
        return None
    try:
        about = json.loads(read_bytes(path))
        if about["format"] != _FORMAT:
            raise ValueError
        pairs = about["pairs"]
        with (folder / KERNELS).open("rb") as file, np.load(file) as kernels:
            known = {name: kernels[name] for name in kernels.files}
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error):
        raise UserError(f"{folder}: {INDEX} or {KERNELS} is damaged; write the set again") from None
    wanted = set(pairs) if names is None else set(names)
    return Grid({name: a for name, a in pairs.items() if name in wanted}, known)
