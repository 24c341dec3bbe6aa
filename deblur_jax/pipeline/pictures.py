"""Square pieces of encoded pictures, as uint8 RGB, without decoding more than must be."""

import io
import math
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from isal import igzip_lib, isal_zlib  # twice as fast as zlib

from deblur_jax.errors import UserError
from deblur_jax.restore.images import decode_image
from deblur_jax.restore.png import chunk

_PNG = b"\x89PNG\r\n\x1a\n"
_NPY = b"\x93NUMPY"


def crop(
    picture: bytes | np.ndarray, side: int, *, down: float, right: float, name: str | Path, max_side: int | None = None
) -> tuple[np.ndarray, tuple[int, int]]:
    """A piece `(side side 3)` of the picture and the picture's own height and width.

    `down` and `right`, in [0, 1), say where: 0 is the upper or left border. A picture smaller than the piece is
    continued by its mirror image. With `max_side` it is reduced before, by area, to at most that.
    """
    if max_side is None and isinstance(picture, bytes) and picture.startswith(_PNG):
        piece = _png_crop(picture, side, down, right, name)
        if piece is not None:
            return piece
    pixels = picture if isinstance(picture, np.ndarray) else as_8bit(decode(picture, name, silent=False))
    height, width = pixels.shape[:2]
    return _cut(reduced(pixels, max_side), side, down, right), (height, width)


def reduced(pixels: np.ndarray, max_side: int | None) -> np.ndarray:
    """By area to at most `max_side` pixels a side."""
    height, width = pixels.shape[:2]
    if max_side is None or max(height, width) <= max_side:
        return pixels
    ratio = max_side / max(height, width)
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def shrunk(pixels: np.ndarray, down: float, right: float) -> np.ndarray:
    """By area, height and width each by its own ratio, to at least a pixel."""
    height, width = (math.ceil(n * ratio) for n, ratio in zip(pixels.shape, (down, right), strict=False))
    if (height, width) == pixels.shape[:2]:
        return pixels
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def decode(data: bytes, name: str | Path, *, silent: bool = True) -> np.ndarray:
    """A whole picture, encoded or raw, as `decode_image` gives it."""
    return _from_npy(data, name) if data.startswith(_NPY) else decode_image(data, name, silent=silent)


def to_npy(pixels: np.ndarray) -> bytes:
    """The raw pixels in NumPy's own format, which needs no decoding."""
    buffer = io.BytesIO()
    np.save(buffer, as_8bit(pixels))
    return buffer.getvalue()


def as_8bit(pixels: np.ndarray) -> np.ndarray:
    """16 bits rounded to 8 (65535 is 255); 8 bits as they are."""
    return pixels if pixels.dtype == np.uint8 else ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _from_npy(data: bytes, name: str | Path) -> np.ndarray:
    """Nothing is copied."""
    try:
        length = struct.unpack_from("<H", data, 8)[0]
        header = data[10 : 10 + length].decode("latin1")
        shape = tuple(int(n) for n in header.split("'shape': (")[1].split(")")[0].split(","))
        if data[6:8] != b"\x01\x00" or "'|u1'" not in header or "'fortran_order': False" not in header:
            raise ValueError
        return np.frombuffer(data, np.uint8, offset=10 + length).reshape(shape)
    except (ValueError, IndexError, struct.error):
        raise UserError(f"{name}: not a uint8 RGB array in NumPy's format, or damaged") from None


def _cut(pixels: np.ndarray, side: int, down: float, right: float) -> np.ndarray:
    height, width = pixels.shape[:2]
    if height < side or width < side:
        # OpenCV mirrors as often as it must, but not a single row or column.
        border = cv2.BORDER_REFLECT_101 if min(height, width) > 1 else cv2.BORDER_REPLICATE
        pixels = cv2.copyMakeBorder(pixels, 0, max(0, side - height), 0, max(0, side - width), border)
        height, width = pixels.shape[:2]
    top, left = int(down * (height - side + 1)), int(right * (width - side + 1))
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


def _png_crop(
    data: bytes, side: int, down: float, right: float, name: str | Path
) -> tuple[np.ndarray, tuple[int, int]] | None:
    """As `crop`, reading no row below the piece; None where the file must be decoded whole.

    Inflating is most of a PNG's cost and goes from the top, so it stops early; a shorter PNG of what came out, not
    compressed again, goes to the decoder.
    """
    if len(data) < 33 or data[12:16] != b"IHDR":
        return None
    width, height, depth, colours, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    channels = {0: 1, 2: 3, 4: 2, 6: 4}.get(colours)
    rows = int(down * (height - side + 1)) + side
    # An interlaced picture's first rows come last, a palette stands before the pixels.
    # Near the bottom the detour takes longer than it saves.
    if interlaced or depth < 8 or channels is None or height < side or width < side or rows > 0.8 * height:
        return None
    needed = rows * (1 + width * channels * depth // 8)
    compressed, at = [], 33
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"eXIf":
            return None  # it may be turned
        if kind == b"IDAT":
            compressed.append(data[at + 8 : at + 8 + length])
        at += 12 + length
    if at != len(data):
        return None  # cut off: the decoder will say so
    try:
        scanlines = isal_zlib.decompressobj().decompress(b"".join(compressed), needed)
    except igzip_lib.IsalError:  # pyright: ignore[reportGeneralTypeIssues]
        return None
    if len(scanlines) < needed:
        return None
    header = struct.pack(">IIBBBBB", width, rows, depth, colours, 0, 0, 0)
    short = _PNG + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(scanlines, 0)) + chunk(b"IEND", b"")
    pixels = as_8bit(decode_image(short, name, silent=False))
    left = int(right * (width - side + 1))
    return np.ascontiguousarray(pixels[rows - side :, left : left + side]), (height, width)
