"""Pictures as plain RGB arrays, for whoever needs nothing else of a file. `pictures` keeps all that it holds."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from deblur_jax.blur.camera import linear_to_srgb
from deblur_jax.errors import UserError
from deblur_jax.files import write_whole
from deblur_jax.restore import pictures
from deblur_jax.restore.colour import is_linear

_WRITABLE = (".png", ".jpg", ".jpeg", ".webp")
# How the files begin whose depth OpenCV hands over scaled to all of 8 or 16 bits. Others (10-bit AVIF, 12-bit
# TIFF, PGM with its own maximum) come unscaled, and would be read as far too dark.
_READABLE = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF", b"BM")


def read_image(path: str | Path) -> np.ndarray:
    """Any picture that `pictures` reads as float32 RGB `(h w 3)` in [0, 1], upright, sRGB-encoded.

    Grey becomes RGB; an alpha channel is left out; what the file says to be proportional to light is encoded.
    """
    picture = pictures.read(read_bytes(path), path)
    if picture.pixels.dtype == np.float32 and not np.isfinite(picture.pixels).all():
        raise UserError(f"{path}: the picture holds values that are no numbers")
    rgb = as_rgb(picture.pixels)
    return np.array(linear_to_srgb(rgb)) if is_linear(picture) else rgb


def as_rgb(pixels: np.ndarray) -> np.ndarray:
    """A picture's pixels `(h w 1)` or `(h w 3)` as float32 RGB in [0, 1]."""
    scale = np.float32(1 if pixels.dtype == np.float32 else np.iinfo(pixels.dtype).max)
    pixels = pixels.astype(np.float32) / scale
    return np.repeat(pixels.clip(0, 1), 3, -1) if pixels.shape[2] == 1 else pixels.clip(0, 1)


def read_bytes(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def decode_image(data: bytes, name: str | Path, *, silent: bool = True) -> np.ndarray:
    """An encoded PNG, JPEG, WebP or BMP as RGB `(h w 3)`, uint8 or uint16 as it was stored, the fastest way there is.

    For training, which decodes thousands; where a user's own pictures are read, `pictures.read` loses less.
    `name` is for the complaints.
    `silent` turns the whole process' standard error away meanwhile, so that the codecs' C libraries cannot print
    complaints of their own; not for threads beside others that print.
    """
    if not data:
        raise UserError(f"{name}: the file is empty")
    if not data.startswith(_READABLE):
        raise UserError(f"{name}: not a PNG, JPEG, WebP or BMP picture")
    with silenced_stderr() if silent else contextlib.nullcontext():
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH)
        except cv2.error:
            pixels = None
    if pixels is None:
        raise UserError(f"{name}: the picture is damaged, or too large to be decoded")
    return pixels


# Many threads may decode at once: the first one in turns standard error away, the last one out turns it back.
# (Each for itself would sooner or later put back what another one had turned away, and lose it for good.)
_silence_lock, _silence_users, _silence_kept = threading.Lock(), 0, -1


@contextlib.contextmanager
def silenced_stderr() -> Iterator[None]:
    """The codecs' C libraries print their own complaints; ours says it in one line."""
    global _silence_users, _silence_kept
    with _silence_lock:
        if _silence_users == 0:
            _silence_kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)
        _silence_users += 1
    try:
        yield
    finally:
        with _silence_lock:
            _silence_users -= 1
            if _silence_users == 0:
                os.dup2(_silence_kept, 2)
                os.close(_silence_kept)


def encode_image(pixels: np.ndarray, suffix: str, *, quality: int = 92, effort: int = 6) -> bytes:
    """8-bit RGB `(h w 3)` or grey `(h w)` in the format of the suffix. `effort` is PNG's, from 0 to 9."""
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    options = {".png": [cv2.IMWRITE_PNG_COMPRESSION, effort], ".webp": [cv2.IMWRITE_WEBP_QUALITY, quality]}
    with silenced_stderr():
        try:
            done, data = cv2.imencode(suffix, pixels, options.get(suffix, [cv2.IMWRITE_JPEG_QUALITY, quality]))
        except cv2.error:
            done, data = False, None
    if not done or data is None:
        size = f"{pixels.shape[1]}x{pixels.shape[0]}"
        raise UserError(f"{size} pixels do not fit into {suffix}: WebP ends at 16383 a side, JPEG at 65500; use .png")
    return data.tobytes()


def check_output(path: str | Path, *, overwrite: bool, suffixes: tuple[str, ...] = _WRITABLE) -> Path:
    """Refuses, before any work is done, an output that cannot be written or would replace a file unasked."""
    path = Path(path)
    try:
        if path.is_dir():
            raise UserError(f"{path}: is a directory, name a file")
        if path.exists() and not overwrite:
            raise UserError(f"{path}: exists already; --overwrite replaces it")
        if not path.parent.is_dir():
            raise UserError(f"{path.parent}: no such directory")
    except OSError as error:  # a folder that may not be looked into, a name that is too long
        raise UserError(f"{path}: {error.strerror}") from None
    if path.suffix.lower() not in suffixes:
        raise UserError(f"{path}: cannot write {path.suffix or 'a file without suffix'}; {' '.join(suffixes)} work")
    return path


def write_image(path: str | Path, pixels: np.ndarray, *, overwrite: bool = False) -> None:
    """Writes 8-bit pixels in the format of the suffix."""
    path = check_output(path, overwrite=overwrite)
    write_whole(path, encode_image(pixels, path.suffix.lower()))
