"""Restoring pictures as arrays, in the type of number they come in."""

import collections
import hashlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import cv2
import jax
import numpy as np
from jaxtyping import Float, Num

from deblur_jax import weights
from deblur_jax.blur.camera import linear_to_srgb, srgb_to_linear
from deblur_jax.errors import UserError
from deblur_jax.filters import brightened, darkened, darkness
from deblur_jax.filters.grey import LUMA
from deblur_jax.restore import colour, pictures, tiles
from deblur_jax.restore.engines import Engine, JaxEngine, devices_named
from deblur_jax.restore.exported import ExportedEngine
from deblur_jax.restore.images import read_bytes
from deblur_jax.weights import Artifact, Weights

__all__ = ["DENOISERS", "ENGINES", "PRECISIONS", "Restorer", "ahead"]

ENGINES = ("auto", "jax", "onnx")
PRECISIONS = ("float32", "bfloat16")

Tick = Callable[[int, int], None]

_ENOUGH = 2**16  # pixels that give a picture's median


def _bilateral(picture: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    return cv2.bilateralFilter(picture, 5, sigmaColor=0.15, sigmaSpace=2.0)


DENOISERS = {"bilateral": _bilateral}


class Restorer:
    """`Restorer("nano").restore(picture)`: a network ready to run.

    `model` is what `--model` takes: the name of weights that come with the package or are the user's own, a weights
    file, a training workdir, or an exported network, which runs as it was exported. `memory` (bytes) bounds what the
    network may take at once; larger pictures go through it in tiles that give what the whole would have given.
    """

    def __init__(
        self,
        model: str | Path | Weights | Artifact = "nano",
        *,
        engine: str = "auto",
        device: str | None = None,
        precision: str = "float32",
        memory: int | None = None,
        max_pixels: int | None = None,
        devices: Sequence[Any] | None = None,
    ) -> None:
        if engine not in ENGINES:
            raise UserError(f"no engine is called {engine!r}; there are {', '.join(ENGINES)}")
        if precision not in PRECISIONS:
            raise UserError(f"precision must be {' or '.join(PRECISIONS)}, not {precision!r}")
        for name, value in (("memory", memory), ("max_pixels", max_pixels)):
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"{name} must be more than 0, not {value}")
        self.model = model if isinstance(model, Weights | Artifact) else weights.find(str(model))
        self.precision = precision
        if isinstance(self.model, Artifact):
            self.engine: Engine = _exported(
                self.model, engine=engine, device=device, precision=precision, memory=memory, max_pixels=max_pixels
            )
            return
        if engine == "onnx":
            raise UserError("--engine onnx runs exported networks: deblur export MODEL --to onnx -o DIR, --model DIR")
        self.engine = JaxEngine(
            self.model,
            devices=devices or devices_named(device),
            max_pixels=max_pixels,
            memory=memory,
            dtype=precision,
        )

    @property
    def facts(self):
        return self.engine.facts

    def fingerprint(self) -> bytes:
        """Of the network: another one has another."""
        if isinstance(self.model, Artifact):
            return hashlib.sha256(self.model.model.read_bytes()).digest()
        digest = hashlib.sha256()
        for name, leaf in sorted(jax.tree_util.tree_leaves_with_path(self.model.params), key=lambda p: str(p[0])):
            digest.update(str(name).encode() + np.ascontiguousarray(leaf).tobytes())
        return digest.digest()

    def restore(
        self,
        picture: str | Path | Num[np.ndarray, "..."],
        *,
        strength: float = 1.0,
        tta: bool = False,
        denoise: str | None = None,
        linear: bool | None = None,
        mask: Num[np.ndarray, "h w"] | None = None,
        tick: Tick | None = None,
    ) -> Num[np.ndarray, "..."]:
        """The restored picture, of the same shape and type; of a file, what it holds as an upright array.

        `(h w)`, `(h w 1)` grey, `(h w 3)` RGB or `(h w 4)` RGB and alpha, which is kept; uint8, uint16, or floating in
        [0, 1]. `strength` is how much of the change is made; `tta` averages over the eight flips and turns, at eight
        times the cost; `linear` says that values are proportional to light (None: of a file what it says, of an array
        no): the network gets them as sRGB, which it knows, and what it gives is made linear again; `mask`, in [0, 1],
        is where to restore; `tick` hears of the parts that are done. A dark picture is brightened for a network that
        has learned so (`facts.brightens`), by what the median of the whole says, and what it gives darkened again.
        """
        if isinstance(picture, str | Path):
            file = Path(picture)
            whole = pictures.read(read_bytes(file), file)
            picture, linear = whole.pixels, colour.is_linear(whole) if linear is None else linear
        shaped = _checked(picture)
        if not 0 <= strength <= 1:
            raise UserError(f"strength must be from 0 to 1, not {strength:g}")
        if denoise is not None and denoise not in DENOISERS:
            raise UserError(f"no denoiser is called {denoise!r}; there is {', '.join(DENOISERS)}")
        colours, alpha = shaped[..., :3], shaped[..., 3:]
        dark = self._darkness(colours, linear=bool(linear))

        def apply(stack: np.ndarray) -> np.ndarray:
            darks = np.full(len(stack), dark)
            return self._apply(stack, darks, strength=strength, tta=tta, denoise=denoise, linear=bool(linear))

        restored = self._tiled(apply, colours, tick) if mask is None else self._masked(apply, colours, mask, tick)
        if alpha.size:
            restored = np.concatenate([restored, alpha], -1)
        return restored.reshape(picture.shape)

    def restore_batch(
        self, batch: Sequence[Num[np.ndarray, "..."]] | Num[np.ndarray, "b h w c"], **options: Any
    ) -> list[Num[np.ndarray, "..."]]:
        """Each picture restored. Neighbours of one size and type go through the network together."""
        restored = []
        for _, group in itertools.groupby(batch, lambda p: (p.shape, p.dtype)):
            same = list(group)
            shaped = [_checked(p) for p in same]
            tiling = self.engine.tiling(*shaped[0].shape[:2])
            if options or shaped[0].shape[-1] == 4 or tiling.count > 1:
                restored += [self.restore(p, **options) for p in same]
                continue
            for start in range(0, len(same), self.engine.batch):
                several = shaped[start : start + self.engine.batch]
                stack = np.stack([tiles.padded(p, tiling) for p in several])
                darks = np.stack([self._darkness(p, linear=False) for p in several])
                some = self._apply(stack, darks, strength=1.0, tta=False, denoise=None, linear=False)
                h, w = shaped[0].shape[:2]
                restored += [p[:h, :w].reshape(same[0].shape) for p in some]
        return restored

    def frames(self, frames: Iterable[Num[np.ndarray, "h w 3"]], **options: Any) -> Iterator[Num[np.ndarray, "h w 3"]]:
        """Each frame restored; the next ones are fetched meanwhile."""
        for frame in ahead(frames, 2):
            yield self.restore(frame, **options)

    def _tiled(self, apply: Callable[[np.ndarray], np.ndarray], colours: np.ndarray, tick: Tick | None) -> np.ndarray:
        tiling = self.engine.tiling(*colours.shape[:2])
        return tiles.restore(apply, colours, tiling, batch=self.engine.batch, tick=tick)

    def _masked(
        self, apply: Callable[[np.ndarray], np.ndarray], colours: np.ndarray, mask: np.ndarray, tick: Tick | None
    ) -> np.ndarray:
        """Only what the mask touches goes through the network, with as much around it as the network sees."""
        h, w = colours.shape[:2]
        if mask.ndim != 2 or mask.dtype.kind not in "buif":
            raise UserError(f"a mask must be numbers (h w), not {mask.dtype} {mask.shape}")
        if mask.shape != (h, w):
            raise UserError(f"the mask is {mask.shape[1]}x{mask.shape[0]}, the picture {w}x{h}")
        if not np.isfinite(mask).all():
            raise UserError("the mask holds values that are no numbers")
        restored = colours.copy()
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        if not len(rows):
            return restored
        around, multiple = self.facts.margin, self.facts.multiple_of
        top, left = (max(0, n[0] - around) // multiple * multiple for n in (rows, columns))
        bottom, right = (min(n, last[-1] + 1 + around) for n, last in ((h, rows), (w, columns)))
        part = colours[top:bottom, left:right]
        weight = np.clip(mask[top:bottom, left:right, None], 0.0, 1.0).astype(np.float32)
        changed = self._tiled(apply, part, tick)
        mixed = part + weight * (changed.astype(np.float32) - part)
        restored[top:bottom, left:right] = np.rint(mixed) if part.dtype.kind == "u" else mixed
        return restored

    def _darkness(self, colours: Num[np.ndarray, "h w c"], *, linear: bool) -> np.float32:
        """Of what the network sees of a picture: as sRGB, if its values are linear."""
        if not self.facts.brightens:
            return np.float32(0)
        every = max(1, math.isqrt(colours.shape[0] * colours.shape[1] // _ENOUGH))
        some = colours[::every, ::every]
        full = np.iinfo(colours.dtype).max if colours.dtype.kind == "u" else 1.0
        # A float picture's values may be too large for the mean of the two in the middle.
        median = np.float32(np.median(np.clip(some, 0, full)) / full)
        return np.float32(darkness(linear_to_srgb(median) if linear else median))

    def _apply(
        self,
        stack: Num[np.ndarray, "b h w c"],
        darks: Float[np.ndarray, " b"],
        *,
        strength: float,
        tta: bool,
        denoise: str | None,
        linear: bool,
    ) -> Num[np.ndarray, "b h w c"]:
        """Pictures of one size, in their own type, or tiles of one picture; `darks`: how dark the pictures are."""
        # Large pictures are tight in memory: nothing is copied that need not be.
        whole_numbers = stack.dtype.kind == "u"
        full = np.float32(np.iinfo(stack.dtype).max if whole_numbers else 1.0)
        given = stack.astype(np.float32)
        given /= full
        # What lies outside (of floating files) is not for the network, and stays as far outside.
        inside = given if whole_numbers else np.clip(given, 0.0, 1.0)
        inside = np.broadcast_to(inside, (*given.shape[:3], 3))
        seen = np.asarray(linear_to_srgb(inside)) if linear else inside
        if darks.any():
            seen = np.asarray(brightened(seen, darks))
        if denoise is not None:
            seen = np.stack([DENOISERS[denoise](np.ascontiguousarray(p)) for p in seen])
        change = self._turned(seen) if tta else self.engine(seen)
        if darks.any():
            change = np.asarray(darkened(change, darks))
        if not math.isfinite(float(change.sum())):
            raise UserError("the network answers with values that are no numbers: its weights or precision overflow")
        if linear:
            change = np.asarray(srgb_to_linear(np.clip(change, 0.0, 1.0)))
        change = change - inside
        if given.shape[-1] == 1:
            change = (change @ np.asarray(LUMA))[..., None]
        change *= np.float32(strength)
        change += given
        if whole_numbers:
            np.clip(change, 0.0, 1.0, out=change)
            change *= full
            return np.rint(change, out=change).astype(stack.dtype)
        return np.clip(change, np.minimum(given, 0.0), np.maximum(given, 1.0)).astype(stack.dtype)

    def _turned(self, seen: np.ndarray) -> np.ndarray:
        total = np.zeros(seen.shape, np.float32)
        for turns, flipped in itertools.product(range(4), (False, True)):
            way = np.rot90(seen[:, :, ::-1] if flipped else seen, turns, (1, 2))
            back = np.rot90(self.engine(np.ascontiguousarray(way)), -turns, (1, 2))
            total += back[:, :, ::-1] if flipped else back
        return total / 8


def _exported(artifact: Artifact, *, engine: str, precision: str, **options: Any) -> ExportedEngine:
    runs_with = "onnx" if artifact.kind == "onnx" else "jax"
    if engine not in ("auto", runs_with):
        raise UserError(f"{artifact.folder}: {artifact.kind} runs with --engine {runs_with}, not {engine}")
    if precision != "float32":
        raise UserError(f"{artifact.folder}: its precision was settled when it was exported, leave --precision out")
    return ExportedEngine(artifact, **options)


def _checked(picture: np.ndarray) -> np.ndarray:
    """As `(h w c)`."""
    if picture.dtype not in (np.uint8, np.uint16) and picture.dtype.kind != "f":
        raise UserError(f"a picture must be uint8, uint16 or floating in [0, 1], not {picture.dtype}")
    shaped = picture[..., None] if picture.ndim == 2 else picture
    if shaped.ndim != 3 or shaped.shape[-1] not in (1, 3, 4) or 0 in shaped.shape:
        raise UserError(f"a picture must be (h w), (h w 1), (h w 3) or (h w 4), not {picture.shape}")
    largest = np.finfo(np.float32).max
    if picture.dtype.kind == "f" and not (picture.min() >= -largest and picture.max() <= largest):
        raise UserError("the picture holds values that are no numbers, or too large for one")
    return shaped


T = TypeVar("T")


def ahead(items: Iterable[T], count: int) -> Iterator[T]:
    """The items, of which the next `count` are fetched in a thread while one is worked on."""
    following = iter(items)
    end = object()
    with ThreadPoolExecutor(1) as pool:
        waiting: collections.deque[Future[Any]] = collections.deque()
        try:
            while True:
                while len(waiting) <= count:
                    waiting.append(pool.submit(next, following, end))
                item = waiting.popleft().result()
                if item is end:
                    return
                yield item
        finally:
            for future in waiting:
                future.cancel()
