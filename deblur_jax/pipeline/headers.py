"""What a picture file says of itself, and whether its end is there, without decoding it."""

import struct
from dataclasses import asdict, dataclass
from pathlib import Path

from deblur_jax.errors import UserError
from deblur_jax.restore.images import decode_image, read_bytes

_HEAD, _TAIL = 1 << 18, 1 << 16


@dataclass(frozen=True)
class Header:
    format: str  # png, jpeg, webp or bmp
    width: int
    height: int
    depth: int = 8
    grey: bool = False
    alpha: bool = False
    length: int = 0

    @property
    def size(self) -> str:
        return f"{self.width}x{self.height}"


def read_header(path: Path) -> Header:
    """The header of a picture file whose end is there too; a `UserError` where it is damaged."""
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
            length = file.seek(0, 2)
            file.seek(max(0, length - _TAIL))
            tail = file.read()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    header = end = None
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        header, end = _png_header(head), b"IEND\xaeB`\x82"
    elif head.startswith(b"\xff\xd8\xff"):
        header, end = _jpeg_header(head), b"\xff\xd9"
    if header and end:
        if end not in tail:
            raise UserError(f"{path}: the picture is cut off: {length} bytes, and its end is not among them")
        return Header(**{**asdict(header), "length": length})
    # EXIF may turn the picture, and other formats are rare: what decoding says is right.
    data = read_bytes(path)
    pixels = decode_image(data, path)
    kind = {b"\x89PNG": "png", b"RIFF": "webp"}.get(data[:4], "bmp" if data[:2] == b"BM" else "jpeg")
    return Header(kind, pixels.shape[1], pixels.shape[0], 8 * pixels.dtype.itemsize, length=length)


def _png_header(head: bytes) -> Header | None:
    if head[12:16] != b"IHDR" or len(head) < 33 or b"eXIf" in head[: max(0, head.find(b"IDAT"))]:
        return None
    width, height, depth, colour = struct.unpack(">IIBB", head[16:26])
    return Header("png", width, height, max(8, depth), grey=colour in (0, 4), alpha=colour in (4, 6))


def _jpeg_header(head: bytes) -> Header | None:
    at = 2
    while at + 10 < len(head) and head[at] == 0xFF:
        marker, length = head[at + 1], int.from_bytes(head[at + 2 : at + 4])
        if marker == 0xFF:  # filling
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            depth, height, width, channels = struct.unpack(">BHHB", head[at + 4 : at + 10])
            return Header("jpeg", width, height, depth, grey=channels == 1) if width and height else None
        if marker == 0xE1 and head[at + 4 : at + 8] == b"Exif":
            return None
        at += 2 + length
    return None
