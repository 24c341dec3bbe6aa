"""Picture files in and out, losing nothing: depth, grey, alpha, metadata.

What a file holds is told by its content, not by its suffix. Depth and range are declared by the file. Which library
does what: Pillow the headers, the metadata and everything of 8 bits; imagecodecs PNG and AVIF of more bits, which
Pillow would cut down to 8 without a word; tifffile TIFF (in `tiff.py`), of which Pillow does the same; pillow-heif
HEIC. None of them prints complaints of its own, and all may be called from many threads at once.
"""

import contextlib
import dataclasses
import io
import re
import struct
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import imagecodecs
import numpy as np
import pillow_heif
from PIL import Image, ImageCms, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from deblur_jax.errors import UserError
from deblur_jax.restore import exif as exif_blocks
from deblur_jax.restore import png

SUFFIXES = {
    "png": (".png",),
    "jpeg": (".jpg", ".jpeg", ".mpo"),
    "webp": (".webp",),
    "tiff": (".tif", ".tiff"),
    "avif": (".avif",),
    "bmp": (".bmp",),
    "heic": (".heic", ".heif", ".hif"),
    "gif": (".gif",),
}
READABLE_SUFFIXES = tuple(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
WRITABLE_SUFFIXES = tuple(s for format, ss in SUFFIXES.items() if format not in ("heic", "gif") for s in ss)
_LONGEST = {"exif": 65527, "xmp": 65504}  # bytes that fit into a segment of JPEG
MAX_PIXELS = 250_000_000  # a picture of 12000x8000 has 96 million

# By the class and not by Image.open, whose own limit of 179 million pixels belongs to the whole process.
_PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    "png": PngImageFile,
    "jpeg": JpegImageFile,
    "webp": WebPImageFile,
    "avif": AvifImageFile,
    "bmp": BmpImageFile,
    "gif": GifImageFile,
}
_DEPTHS = {"png": 16, "tiff": 32}  # the others hold 8 bits as they are written here
_WITHOUT_ALPHA = ("jpeg", "bmp")
_QUALITY = 95


@dataclass
class Picture:
    """A picture upright, with all else that its file says and that may be written again."""

    pixels: np.ndarray  # (h w 3) RGB or (h w 1) grey; uint8, uint16, or float32 whose white is 1.0
    alpha: np.ndarray | None = None  # (h w), of the same type; not premultiplied
    format: str = "png"  # a key of SUFFIXES
    exif: bytes = b""  # a TIFF block, for the upright picture, without a thumbnail
    icc: bytes = b""
    xmp: bytes = b""
    dpi: tuple[float, float] | None = None
    comment: bytes = b""  # of a JPEG
    photoshop: bytes = b""  # a JPEG's IPTC captions, in whole APP13 segments
    png_chunks: bytes = b""  # of a PNG: see `png.kept`
    quality: int | None = None  # an estimate, of a JPEG
    lossless: bool = False  # of a WebP
    notes: list[str] = field(default_factory=list)  # what the user should be told of reading and writing

    def note(self, line: str) -> None:
        if line not in self.notes:
            self.notes.append(line)


class Header(NamedTuple):
    width: int  # as stored: turning it upright may swap the sides
    height: int
    format: str
    sample: int = 1  # bytes of a value, of PNG and TIFF


def format_of(suffix: str) -> str:
    """`.jpg` (or `jpg`) -> `jpeg`, for formats that can be written."""
    suffix = "." + suffix.lower().removeprefix(".")
    if suffix not in WRITABLE_SUFFIXES:
        raise UserError(f"cannot write {suffix} pictures; {' '.join(WRITABLE_SUFFIXES)} work")
    return next(format for format, suffixes in SUFFIXES.items() if suffix in suffixes)


def probe(source: bytes | str | Path, name: str | Path | None = None) -> Header:
    """Size and format from the header; nothing is decoded. `name` is for the complaints about bytes."""
    name = name if name is not None else "picture" if isinstance(source, bytes) else source
    if isinstance(source, bytes):
        return _probe(io.BytesIO(source), name)
    try:
        with open(source, "rb") as file:
            return _probe(file, name)
    except OSError as error:
        raise UserError(f"{name}: {error.strerror or error}") from None


def check_size(name: str | Path, width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise UserError(f"{name}: {width}x{height} pixels are more than the limit of {max_pixels / 1e6:g} million")


def read(data: bytes, name: str | Path, *, max_pixels: int | None = MAX_PIXELS) -> Picture:
    """The picture in the bytes of a file; `name` is for the complaints. None lifts the limit of `max_pixels`."""
    header = _probe(io.BytesIO(data), name)
    if max_pixels is not None:
        check_size(name, header.width, header.height, max_pixels)
    with _complaints(name):
        if header.format == "tiff":
            from deblur_jax.restore import tiff

            picture, orientation = tiff.read(data)
        elif header.format == "heic":
            picture, orientation = _read_heic(data), 1  # HEIC turns itself; its EXIF orientation does not count
        else:
            picture, orientation = _read(data, header.format)
    if picture.exif:
        try:
            picture.exif, declared = exif_blocks.upright(picture.exif)
        except ValueError:
            picture.exif, declared = b"", 1
            picture.note("its EXIF block is damaged and left out")
        orientation = declared if header.format not in ("heic", "tiff") else orientation
    # An XMP block may repeat the orientation.
    picture.xmp = re.sub(rb"""(tiff:Orientation(?:=["']|>)\s*)[2-8]""", rb"\g<1>1", picture.xmp)
    picture.pixels = _turned(picture.pixels, orientation)
    if picture.alpha is not None:
        picture.alpha = _turned(picture.alpha, orientation)
    if orientation >= 5 and picture.dpi:
        picture.dpi = picture.dpi[1], picture.dpi[0]
    return picture


def encode(picture: Picture, format: str, *, quality: int | None = None, strip_metadata: bool = False) -> bytes:
    """The file's bytes. What the format cannot hold is converted, and said in `picture.notes`.

    `quality` (1 to 100) is that of JPEG, WebP and AVIF: at least 95 unless told otherwise, without reduced colour
    where the format allows. `strip_metadata` leaves out everything but the colour profile, without which the colours
    would be others.
    """
    if format not in SUFFIXES or format in ("heic", "gif"):
        raise UserError(f"cannot write {format}; png, jpeg, webp, tiff, avif and bmp work")
    pixels, alpha = _fitting(picture, format)
    said = picture
    if strip_metadata:
        colours = png.colours(picture.png_chunks)
        said = dataclasses.replace(picture, exif=b"", xmp=b"", comment=b"", photoshop=b"", dpi=None, png_chunks=colours)
    if format == "bmp" and (said.exif or said.icc or said.xmp):
        picture.note("BMP holds no metadata: EXIF, XMP and colour profile are left out")
    if format != "jpeg" and said.photoshop:
        picture.note(f"IPTC captions are not written to {format.upper()}")
    if format != "png" and any(kind in (b"cICP", b"gAMA") for kind, _ in png.chunks(said.png_chunks)) and not said.icc:
        picture.note(f"the PNG's statement on its colours (gAMA, cICP) is not written to {format.upper()}")
    stacked = pixels if alpha is None else np.concatenate([pixels, alpha[..., None]], -1)
    try:
        if format == "png":
            return png.encode(said, stacked)
        if format == "tiff":
            from deblur_jax.restore import tiff

            return tiff.encode(said, pixels, alpha)
        return _encode(said, stacked, format, quality)
    except (OSError, ValueError, RuntimeError, struct.error, imagecodecs.PngError) as error:
        size = f"{pixels.shape[1]}x{pixels.shape[0]}"
        limit = "; WebP ends at 16383 a side, AVIF and JPEG at 65500: use PNG or TIFF" if format != "png" else ""
        raise UserError(f"{size} pixels cannot be written as {format.upper()} ({_one_line(error)}){limit}") from None


def to_8bit(values: np.ndarray) -> np.ndarray:
    return _to_depth(values, 8)


# ---- reading


def _probe(file: io.BytesIO | io.BufferedReader, name: str | Path) -> Header:
    head = file.read(4096)
    if not head:
        raise UserError(f"{name}: the file is empty")
    format = _format(head)
    if format is None:
        raise UserError(f"{name}: not a PNG, JPEG, WebP, TIFF, AVIF, HEIC, BMP or GIF picture")
    file.seek(0)
    sample = 2 if format == "png" and head[24:25] == b"\x10" else 1
    with _complaints(name):
        if format == "tiff":
            from deblur_jax.restore import tiff

            width, height, sample = tiff.size(file)
        elif format == "heic":
            width, height = pillow_heif.open_heif(file).size
        else:
            with quietly():
                width, height = _PLUGINS[format](file).size
    return Header(width, height, format, sample)


def _format(head: bytes) -> str | None:
    starts = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"BM": "bmp"}
    starts |= dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "tiff")
    for start, format in starts.items():
        if head.startswith(start):
            return format
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp":
        length = min(int.from_bytes(head[:4]), len(head))
        brands = {head[at : at + 4] for at in (8, *range(16, length - 3, 4))}
        if brands & {b"avif", b"avis"}:
            return "avif"
        if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}:
            return "heic"
    return None


_warnings = threading.Lock()


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Pillow warns of damaged EXIF when it opens a file. Filters belong to the whole process, hence the lock."""
    with _warnings, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class _complaints:
    """Turns whatever a decoder raises about bad data into one line."""

    def __init__(self, name: str | Path):
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, MemoryError):
            raise UserError(f"{self._name}: the picture is too large for the memory") from None
        if isinstance(error, Refused):
            raise UserError(f"{self._name}: {error}") from None
        # Fed with damaged data, decoders raise nearly everything there is, struct.error and KeyError included.
        if isinstance(error, Exception) and not isinstance(error, UserError):
            raise UserError(f"{self._name}: the picture is damaged ({_one_line(error)})") from None


class Refused(Exception):
    """A sound picture of a kind that is not read; says why."""


def _read(data: bytes, format: str) -> tuple[Picture, int]:
    with quietly():
        file = _PLUGINS[format](io.BytesIO(data))
    if getattr(file, "n_frames", 1) > 1:
        raise Refused(f"an animation of {file.n_frames} frames; only still pictures are restored")  # pyright: ignore
    info = file.info
    picture = Picture(
        np.empty(0),
        format=format,
        exif=info.get("exif", b"").removeprefix(b"Exif\0\0"),
        icc=info.get("icc_profile") or b"",
        xmp=_bytes(info.get("xmp", b"")),
        dpi=_dpi(info.get("dpi")),
    )
    depth = _declared_depth(data, format)
    if depth > 8:
        pixels = png.decode(data) if format == "png" else imagecodecs.avif_decode(data)
        _put(picture, _scaled(pixels, depth))
    else:
        _put(picture, pillow_pixels(file, picture))
    if format == "png":
        picture.png_chunks = png.kept(data)
        picture.exif, picture.xmp = png.described(data)
    elif format == "webp":
        picture.lossless = any(kind == b"VP8L" for kind in _riff_kinds(data))
    elif isinstance(file, JpegImageFile):
        picture.comment = info.get("comment", b"")
        picture.photoshop = b"".join(
            b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment
            for kind, segment in file.applist
            if kind == "APP13"
        )
        # The sum of libjpeg's table for brightness at quality 50 is 3688; it shrinks in proportion above.
        picture.quality = max(1, round(100 - 50 * sum(file.quantization[0]) / 3688)) if file.quantization else None
        if "mp" in info:
            picture.note("the further pictures in this file (previews, depth, gain map) are left out")
    return picture, 1


def _read_heic(data: bytes) -> Picture:
    file = pillow_heif.open_heif(data, convert_hdr_to_8bit=False, hdr_to_16bit=False)
    info = file.info
    picture = Picture(
        np.empty(0),
        format="heic",
        exif=(info.get("exif") or b"").removeprefix(b"Exif\0\0"),
        icc=info.get("icc_profile") or b"",
        xmp=info.get("xmp") or b"",
    )
    pixels = np.asarray(file)
    _put(picture, _scaled(pixels, info["bit_depth"] if pixels.dtype == np.uint16 else 8))
    if file.premultiplied_alpha:
        unmultiply(picture)
    if len(file) > 1:
        picture.note("the further pictures in this file are left out")
    return picture


def pillow_pixels(image: Image.Image, picture: Picture) -> np.ndarray:
    """The 8-bit pixels of a Pillow picture, its palette or CMYK converted (which is noted)."""
    if image.mode == "CMYK":
        return np.asarray(cmyk_to_rgb(image, picture))
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode in ("P", "PA") or "transparency" in image.info:
        transparent = "transparency" in image.info or image.mode == "PA"
        grey = "L" if image.mode == "L" else "RGB"
        image = image.convert({"L": "LA", "RGB": "RGBA"}[grey] if transparent else grey)
    elif image.mode == "RGBX":
        image = image.convert("RGB")
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        raise Refused(f"pixels of the kind {image.mode} are not read")
    return np.asarray(image)


def cmyk_to_rgb(image: Image.Image, picture: Picture) -> Image.Image:
    """By the picture's profile if it has a usable one, which then no longer holds and is taken from it."""
    icc, picture.icc = picture.icc, b""
    if icc:
        try:
            profile, srgb = ImageCms.ImageCmsProfile(io.BytesIO(icc)), ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(
                image,
                profile,
                srgb,
                ImageCms.Intent.RELATIVE_COLORIMETRIC,
                outputMode="RGB",
                flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
            assert converted is not None
            picture.note("CMYK was converted to RGB (sRGB) by the picture's profile")
            return converted
        except (ImageCms.PyCMSError, OSError):
            picture.note("the CMYK profile cannot be used")
    picture.note("CMYK was converted to RGB without a profile: colours may be off")
    return image.convert("RGB")


def _put(picture: Picture, pixels: np.ndarray) -> None:
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    colours = {1: 1, 2: 1, 3: 3, 4: 3}[pixels.shape[2]]
    picture.pixels = np.ascontiguousarray(pixels[..., :colours])
    if pixels.shape[2] > colours:
        picture.alpha = np.ascontiguousarray(pixels[..., -1])


def unmultiply(picture: Picture) -> None:
    """Colours that were stored multiplied by alpha, as they are."""
    assert picture.alpha is not None
    alpha = picture.alpha.astype(np.float32)[..., None]
    most = np.inf if picture.pixels.dtype == np.float32 else np.iinfo(picture.pixels.dtype).max
    full = np.float32(1 if most == np.inf else most)
    plain = picture.pixels * (full / np.where(alpha > 0, alpha, full))
    picture.pixels = plain if most == np.inf else np.round(np.minimum(plain, most)).astype(picture.pixels.dtype)


def _declared_depth(data: bytes, format: str) -> int:
    if format == "png":
        return data[24]
    if format == "avif":
        at = data.find(b"av1C")  # its third byte: profile's rest, then "high bit depth" and "twelve bits"
        flags = data[at + 6] if 0 <= at < len(data) - 6 else 0
        return 12 if flags & 0x20 else 10 if flags & 0x40 else 8
    return 8


def _scaled(pixels: np.ndarray, depth: int) -> np.ndarray:
    """Values of 10 or 12 bits over the range of 16: the file's white stays white."""
    if depth in (8, 16):
        return pixels
    most = (1 << depth) - 1
    return ((pixels.astype(np.uint32) * 65535 + most // 2) // most).astype(np.uint16)


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """EXIF's numbers say where the stored first row and column belong."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _dpi(dpi: tuple | None) -> tuple[float, float] | None:
    return (float(dpi[0]), float(dpi[1])) if dpi and min(dpi) > 0 else None


def _bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


# ---- writing


def _fitting(picture: Picture, format: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels and alpha as the format can hold them; says what was lost."""
    pixels, alpha = picture.pixels, picture.alpha
    depth, most = 8 * pixels.dtype.itemsize, _DEPTHS.get(format, 8)
    if depth > most:
        what = "floating point was" if depth == 32 else "16 bits were"
        picture.note(f"{what} reduced to {most} bits, which is what {format.upper()} holds here")
        pixels, alpha = _to_depth(pixels, most), None if alpha is None else _to_depth(alpha, most)
    if alpha is not None and format in _WITHOUT_ALPHA:
        if (alpha < alpha.dtype.type(255)).any():
            picture.note(f"{format.upper()} holds no transparency: laid on white")
            weight = alpha[..., None].astype(np.float32) / 255
            pixels = np.round(pixels * weight + 255 * (1 - weight)).astype(np.uint8)
        alpha = None
    return pixels, alpha


def _to_depth(values: np.ndarray, depth: int) -> np.ndarray:
    if values.dtype == np.float32:
        most = (1 << depth) - 1
        return np.round(np.clip(np.nan_to_num(values), 0, 1) * most).astype(np.uint8 if depth == 8 else np.uint16)
    if values.dtype == np.uint16 and depth == 8:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return values


def _encode(picture: Picture, stacked: np.ndarray, format: str, quality: int | None) -> bytes:
    image = Image.fromarray(stacked[..., 0] if stacked.shape[2] == 1 else stacked)
    out, options = io.BytesIO(), {}
    if picture.dpi and format in ("jpeg", "bmp"):
        options["dpi"] = picture.dpi
    if format != "bmp":
        options |= {"exif": picture.exif, "xmp": picture.xmp, "icc_profile": picture.icc or None}
        options["quality"] = quality or max(_QUALITY, picture.quality or 0)
    if format == "jpeg":
        if len(picture.exif) > _LONGEST["exif"]:
            options["exif"] = exif_blocks.without_trailer(picture.exif)
        for what, longest in _LONGEST.items():
            if len(options[what]) > longest:
                picture.note(f"{what.upper()} of more than 64 kB does not fit into JPEG and is left out")
                options[what] = b""
        options["exif"] = options["exif"] and b"Exif\0\0" + options["exif"]
        options |= {"subsampling": "4:4:4", "comment": picture.comment, "extra": picture.photoshop}
    elif format == "webp":
        options |= {"lossless": picture.lossless and quality is None, "exact": True}
        if options["lossless"]:
            options["quality"] = 70  # of lossless WebP: the effort
    elif format == "avif":
        options["exif"] = exif_blocks.without_orientation(picture.exif)  # or Pillow writes the block anew
        options["subsampling"] = "4:0:0" if image.mode == "L" else "4:4:4"
    with quietly() if format == "avif" and picture.exif else contextlib.nullcontext():  # Pillow reads the block
        image.save(out, format, **options)
    return out.getvalue()


def _riff_kinds(data: bytes) -> Iterator[bytes]:
    at = 12
    while at + 8 <= len(data):
        yield data[at : at + 4]
        at += 8 + (length := int.from_bytes(data[at + 4 : at + 8], "little")) + length % 2
