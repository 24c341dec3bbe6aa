"""PNG of 8 and 16 bits, with the chunks that say more of a picture than its pixels."""

import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np

if TYPE_CHECKING:
    from deblur_jax.restore.pictures import Picture

__all__ = ["chunk", "chunks", "colours", "decode", "described", "encode", "kept"]

_COLOURS = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI")
_XMP = b"XML:com.adobe.xmp\0"
_LONGEST = 1 << 26  # bytes that a text may unpack to


def decode(data: bytes) -> np.ndarray:
    """The pixels alone: without the chunks about which libpng would print warnings."""
    wanted = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
    bare = data[:8] + b"".join(whole for kind, whole in chunks(data[8:]) if kind in wanted)
    return imagecodecs.png_decode(bare)


def encode(picture: "Picture", stacked: np.ndarray) -> bytes:
    """`stacked` are the pixels `(h w c)`, alpha included; of the picture all else is written."""
    # Each row has a byte more, and what cannot be compressed grows by a little: imagecodecs' own guess is too small for
    # narrow pictures.
    room = stacked.nbytes + stacked.nbytes // 500 + 2 * len(stacked) + 4096
    body = bytes(imagecodecs.png_encode(stacked if stacked.shape[2] > 1 else stacked[..., 0], 6, out=room))
    said = [picture.png_chunks]
    if picture.icc:
        said.append(chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(picture.icc)))
    if picture.dpi:
        x, y = (round(value / 0.0254) for value in picture.dpi)
        said.append(chunk(b"pHYs", struct.pack(">IIB", x, y, 1)))
    if picture.exif:
        said.append(chunk(b"eXIf", picture.exif))
    if picture.xmp:
        said.append(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + picture.xmp))
    return body[:33] + b"".join(said) + body[33:]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The kinds of the chunks (after the signature), and each one whole."""
    at = 0
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        yield data[at + 4 : at + 8], data[at : at + 12 + length]
        at += 12 + length


def kept(data: bytes) -> bytes:
    """Texts and statements on colour, whole chunks that hold for changed pixels too."""
    return b"".join(whole for kind, whole in chunks(data[8:]) if _is_kept(kind, whole))


def _is_kept(kind: bytes, whole: bytes) -> bool:
    if kind in (b"tEXt", b"zTXt", b"iTXt"):
        # XMP and EXIF are carried apart; these would be their old selves.
        return not whole[8:].startswith((_XMP, b"Raw profile type "))
    return kind in _COLOURS


def colours(kept: bytes) -> bytes:
    """Of `kept` chunks those without which the colours would be others."""
    return b"".join(whole for kind, whole in chunks(kept) if kind in _COLOURS)


def described(data: bytes) -> tuple[bytes, bytes]:
    """EXIF and XMP, wherever they stand in the file and in whatever of the ways that programs write them."""
    exif = xmp = b""
    for kind, whole in chunks(data[8:]):
        body = whole[8:-4]
        if kind == b"eXIf":
            exif = body
        elif kind == b"iTXt" and body.startswith(_XMP):
            rest = body.removeprefix(_XMP)  # whether it is packed, and how; a language, its translation, the text
            text = rest[2:].split(b"\0", 2)[-1]
            xmp = _unpacked(text) if rest[:1] == b"\1" else text
        elif kind in (b"tEXt", b"zTXt") and body.startswith(b"Raw profile type "):
            text = body.partition(b"\0")[2]
            found = _profile(_unpacked(text[1:]) if kind == b"zTXt" else text)
            if found.startswith(b"Exif\0\0"):
                exif = exif or found[6:]
            elif found.lstrip(b"\xef\xbb\xbf").startswith((b"<?xpacket", b"<x:xmpmeta")):
                xmp = xmp or found
    return exif, xmp


def _unpacked(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _LONGEST)
    except zlib.error:
        return b""


def _profile(text: bytes) -> bytes:
    """ImageMagick's and Exiv2's way: a line of its kind, one of its length, then hexadecimal digits."""
    try:
        return bytes.fromhex(b"".join(text.strip().split(b"\n")[2:]).decode())
    except ValueError:
        return b""
