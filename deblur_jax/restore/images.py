"""Picture files <-> arrays. The file declares its depth; nothing is guessed from the values."""

import os
import tempfile
from pathlib import Path

import cv2
import numpy as np

from deblur_jax.errors import UserError

_WRITABLE = (".png", ".jpg", ".jpeg", ".webp")


def read_image(path: str | Path) -> np.ndarray:
    """A picture as float32 RGB `(h w 3)` in [0, 1], turned as its EXIF says. 8 and 16 bits."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if not data:
        raise UserError(f"{path}: the file is empty")
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise UserError(f"{path}: not a picture that can be read, or a damaged one")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{path}: pixels of type {pixels.dtype} are not supported, only 8 and 16 bits")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).astype(np.float32) / np.iinfo(pixels.dtype).max


def encode_image(pixels: np.ndarray, suffix: str, *, quality: int = 92) -> bytes:
    """8-bit RGB `(h w 3)` or grey `(h w)` in the format of the suffix."""
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    options = {".png": [cv2.IMWRITE_PNG_COMPRESSION, 6], ".webp": [cv2.IMWRITE_WEBP_QUALITY, quality]}
    return cv2.imencode(suffix, pixels, options.get(suffix, [cv2.IMWRITE_JPEG_QUALITY, quality]))[1].tobytes()


def check_output(path: str | Path, *, overwrite: bool) -> Path:
    """Refuses, before any work is done, an output that cannot be written or would replace a file unasked."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a directory, name a file")
    if path.exists() and not overwrite:
        raise UserError(f"{path}: exists already; --overwrite replaces it")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent}: no such directory")
    return path


def write_image(path: str | Path, pixels: np.ndarray, *, overwrite: bool = False) -> None:
    """Writes 8-bit pixels in the format of the suffix."""
    path = check_output(path, overwrite=overwrite)
    if path.suffix.lower() not in _WRITABLE:
        raise UserError(f"{path}: cannot write {path.suffix or 'a file without suffix'}; {' '.join(_WRITABLE)} work")
    write_whole(path, encode_image(pixels, path.suffix.lower()))


def write_whole(path: Path, data: bytes) -> None:
    """The whole file or none: written beside under another name, then renamed."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                umask = os.umask(0)
                os.umask(umask)
                os.chmod(temporary, 0o666 & ~umask)  # temporary files are private, results are not
                os.replace(temporary, path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None
