"""TIFF files: the one format whose metadata and pixels lie in the same tags."""

import io
import logging
from typing import Any

import numpy as np
import tifffile
from PIL import Image, TiffTags
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC

from deblur_jax.restore import pictures
from deblur_jax.restore.pictures import Picture, Refused

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what matters is raised
logging.getLogger("tifffile").propagate = False

_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
# Of the first directory, what describes the photograph and not where the pixels lie: description, make, model,
# software, date, artist, copyright, rating.
_RATING = 18246
_DESCRIBING = (270, 271, 272, 305, 306, 315, 33432, _RATING)
_XMP, _ICC = 700, 34675


def size(file: io.BytesIO | io.BufferedReader) -> tuple[int, int, int]:
    """Width, height and the bytes of a value."""
    with tifffile.TiffFile(file) as opened:
        page = opened.pages.first
        if not (isinstance(page.imagewidth, int) and isinstance(page.imagelength, int)):
            raise ValueError("its sides are no numbers")
        return page.imagewidth, page.imagelength, page.dtype.itemsize if page.dtype else 1


def read(data: bytes) -> tuple[Picture, int]:
    """The picture as stored, and its orientation."""
    with tifffile.TiffFile(io.BytesIO(data)) as opened:
        page = opened.pages.first
        full = [at for at in range(len(opened.pages)) if not opened.pages.get(at).aspage().is_reduced]
        if page.is_reduced or 50706 in page.tags or not full:  # the tag says DNG
            raise Refused("a camera's raw file; develop it first")
        if len(full) > 1:
            raise Refused(f"a TIFF of {len(full)} pages; split it into single ones")
        tags = page.tags
        picture = Picture(
            np.empty(0),
            format="tiff",
            icc=bytes(tags.valueof(_ICC) or b""),
            xmp=bytes(tags.valueof(_XMP) or b""),
            dpi=_dpi(page),
            exif=_exif(data),
        )
        _put(picture, page)
        orientation = int(tags.valueof(274) or 1)
        return picture, orientation if 1 <= orientation <= 8 else 1


def _put(picture: Picture, page: tifffile.TiffPage) -> None:
    kind = PHOTOMETRIC(page.photometric)
    depths = page.bitspersample if isinstance(page.bitspersample, tuple) else (page.bitspersample,)
    depth = depths[0]
    if page.imagedepth != 1 or len(set(depths)) > 1:
        raise Refused("a TIFF of a kind that is not read")
    if kind == PHOTOMETRIC.YCBCR and page.compression not in (COMPRESSION.JPEG, COMPRESSION.OJPEG):
        raise Refused("a TIFF of YCbCr pixels, which is not read")
    if kind not in _SAMPLES:
        raise Refused(f"a TIFF of {kind.name} pixels, which is not read")
    if page.sampleformat not in (1, 3) or (page.sampleformat == 1 and depth > 16):
        raise Refused(f"a TIFF of {depth}-bit {'signed ' if page.sampleformat == 2 else ''}integers, which is not read")
    pixels: np.ndarray = page.asarray(maxworkers=1)
    if page.planarconfig == 2 and pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, -1)
    pixels = pixels.reshape(page.imagelength, page.imagewidth, -1)
    if page.sampleformat == 3:
        if pixels.dtype != np.float32:
            picture.note(f"{pixels.dtype.name} became float32")
        pixels = pixels.astype(np.float32)
    elif depth == 1:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    elif depth < 8:
        pixels = (pixels.astype(np.uint16) * 255 // ((1 << depth) - 1)).astype(np.uint8)
    elif depth not in (8, 16):
        most = (1 << depth) - 1
        pixels = ((pixels.astype(np.uint32) * 65535 + most // 2) // most).astype(np.uint16)
    colours = _SAMPLES[kind]
    if kind == PHOTOMETRIC.PALETTE:
        table = np.asarray(page.colormap)[:, : 1 << depth].T
        if depth not in (4, 8):
            raise Refused(f"a TIFF with a palette of {depth} bits, which is not read")
        # A palette of 16 bits, in which 8-bit colours stand times 256 or times 257.
        index = pixels[..., 0] // 17 if depth == 4 else pixels[..., 0]
        pixels = (table >> 8).astype(np.uint8)[index]
        colours = 3
    if kind == PHOTOMETRIC.MINISWHITE:
        most = 1 if pixels.dtype == np.float32 else np.iinfo(pixels.dtype).max
        pixels[..., :1] = most - pixels[..., :1]
    if pixels.shape[2] < colours:
        raise Refused(f"a TIFF of {pixels.shape[2]} samples a pixel where there must be {colours}")
    extra = pixels[..., colours:]
    pixels = pixels[..., :colours]
    if kind == PHOTOMETRIC.SEPARATED:
        if pixels.dtype != np.uint8:
            raise Refused("a TIFF of CMYK with more than 8 bits, which is not read")
        image = Image.frombytes("CMYK", (page.imagewidth, page.imagelength), np.ascontiguousarray(pixels).tobytes())
        pixels = np.asarray(pictures.cmyk_to_rgb(image, picture))
    picture.pixels = np.ascontiguousarray(pixels)
    if extra.shape[2]:
        kinds = page.extrasamples
        if extra.shape[2] > 1 or (kinds and kinds[0] == EXTRASAMPLE.UNSPECIFIED):
            picture.note("further channels that are no transparency are left out")
            return
        picture.alpha = np.ascontiguousarray(extra[..., 0])
        if kinds and kinds[0] == EXTRASAMPLE.ASSOCALPHA:
            pictures.unmultiply(picture)


_SAMPLES = {
    PHOTOMETRIC.MINISWHITE: 1,
    PHOTOMETRIC.MINISBLACK: 1,
    PHOTOMETRIC.RGB: 3,
    PHOTOMETRIC.PALETTE: 1,
    PHOTOMETRIC.SEPARATED: 4,
    PHOTOMETRIC.YCBCR: 3,
}


def _dpi(page: tifffile.TiffPage) -> tuple[float, float] | None:
    unit, x, y = (page.tags.valueof(tag) for tag in (296, 282, 283))
    if not (x and y) or not (x[0] and x[1] and y[0] and y[1]) or unit not in (2, 3):
        return None
    inches = 1 if unit == 2 else 2.54
    return x[0] / x[1] * inches, y[0] / y[1] * inches


def _exif(data: bytes) -> bytes:
    """What the tags say of the photograph, as a block of its own."""
    found = Image.Exif()
    block = Image.Exif()
    try:
        with pictures.quietly():
            found.load(b"Exif\0\0" + data)
            block.update({tag: _text(found[tag]) for tag in _DESCRIBING if tag in found})
            for directory in (_EXIF_IFD, _GPS_IFD):
                if inner := dict(found.get_ifd(directory)):
                    block[directory] = inner
        return block.tobytes().removeprefix(b"Exif\0\0") if len(block) else b""
    except Exception:  # Pillow's reader of tags, fed with bad ones, raises nearly everything there is
        return b""


def encode(picture: Picture, pixels: np.ndarray, alpha: np.ndarray | None) -> bytes:
    grey = pixels.shape[2] == 1
    stacked = pixels if alpha is None else np.concatenate([pixels, alpha[..., None]], -1)
    if stacked.shape[2] == 1:
        stacked = stacked[..., 0]
    try:
        with pictures.quietly():
            tags, directories = _described(picture.exif)
    except Exception:  # as in `_exif`
        tags, directories = [], {}
        picture.note("its EXIF is damaged and left out")
    if picture.xmp:
        tags.append((_XMP, "B", len(picture.xmp), picture.xmp, True))
    # Directories are appended to the file afterwards. tifffile does not write these tags, so their neighbours, which
    # are free, keep the places.
    tags += [(tag + 1, "I", 1, 0, True) for tag in directories]
    out = io.BytesIO()
    tifffile.imwrite(
        out,
        stacked,
        photometric="minisblack" if grey else "rgb",
        planarconfig=None if stacked.ndim == 2 else "contig",
        extrasamples=None if alpha is None else ["unassalpha"],
        compression="zlib",
        predictor=True,
        rowsperstrip=max(1, (1 << 20) // max(1, stacked[0].nbytes)),
        resolution=picture.dpi,
        resolutionunit="INCH" if picture.dpi else None,
        iccprofile=picture.icc or None,
        extratags=tags,
        metadata=None,
        software=False,
        maxworkers=1,
    )
    if directories:
        out.seek(0)
        with tifffile.TiffFile(out) as written:
            places = {tag: written.pages.first.tags[tag + 1] for tag in directories}
            order = written.byteorder
        endian = "little" if order == "<" else "big"
        for tag, inner in directories.items():
            end = out.seek(0, io.SEEK_END)
            end += out.write(b"\0" * (end % 2))
            out.write(_directory(tag, inner, order).tobytes(end))
            out.seek(places[tag].offset)
            out.write(tag.to_bytes(2, endian))
            out.seek(places[tag].valueoffset)
            out.write(end.to_bytes(4, endian))
    return out.getvalue()


def _described(exif: bytes) -> tuple[list[tuple], dict[int, dict]]:
    """The tags for the first directory, and the directories below it."""
    if not exif:
        return [], {}
    block = Image.Exif()
    block.load(b"Exif\0\0" + exif)
    tags = [(tag, "s", 0, _text(value), True) for tag in _DESCRIBING if isinstance(value := block.get(tag), str)]
    if isinstance(rating := block.get(_RATING), int) and 0 <= rating < 1 << 16:
        tags.append((_RATING, "H", 1, rating, True))
    directories = {tag: inner for tag in (_EXIF_IFD, _GPS_IFD) if (inner := dict(block.get_ifd(tag)))}
    for tag, inner in directories.items():
        _directory(tag, inner, "<").tobytes()  # damaged ones are found before anything is written
    return tags, directories


def _directory(tag: int, inner: dict, order: str) -> ImageFileDirectory_v2:
    directory = ImageFileDirectory_v2(b"II*\0\0\0\0\0" if order == "<" else b"MM\0*\0\0\0\0", group=tag)
    for key, value in inner.items():
        directory[key] = _text(value)
        if isinstance(value, str):
            directory.tagtype[key] = TiffTags.ASCII
    return directory


def _text(value: Any) -> Any:
    """The file's own bytes, which Pillow takes for Latin-1 and would write as ASCII; mostly they are UTF-8."""
    return value.encode("latin-1", "replace") if isinstance(value, str) else value
