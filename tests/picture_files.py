"""Pictures and files of them for the tests, made by other software than what is tested."""

import io
import struct

import numpy as np
import pillow_heif
from PIL import Image, ImageCms

from deblur_jax.restore.pictures import Picture

DTYPES = (np.uint8, np.uint16, np.float32)
EXIF_IFD, GPS_IFD, ORIENTATION = 0x8769, 0x8825, 0x0112


def random(shape, dtype=np.uint8, seed=0):
    values = np.random.default_rng(seed).random(shape, np.float32)
    return values if dtype == np.float32 else (values * np.iinfo(dtype).max).astype(dtype)


def smooth(height, width, channels=3, dtype=np.uint8):
    """A picture that lossy formats change little."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    values = np.stack([0.2 + 0.6 * x, 0.8 - 0.5 * y, 0.3 + 0.3 * (x + y), 0.5 + 0.5 * x], -1)[..., :channels]
    return values.astype(dtype) if dtype == np.float32 else np.round(values * np.iinfo(dtype).max).astype(dtype)


def picture(channels=3, dtype=np.uint8, **said):
    pixels = random((11, 7, channels), dtype)
    colours = 1 if channels < 3 else 3
    return Picture(pixels[..., :colours], pixels[..., -1] if channels in (2, 4) else None, **said)


def saved(image, format, **options):
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def exif_block(orientation=1, note=b"secret\0note"):
    """With GPS, a maker note and a thumbnail, which Pillow does not write by itself."""
    exif = Image.Exif()
    exif[0x010F], exif[ORIENTATION] = "Maker", orientation
    exif.get_ifd(EXIF_IFD).update({0x9003: "2020:01:02 03:04:05", 0xA002: 7, 0xA003: 11, 0x927C: note})
    exif.get_ifd(GPS_IFD).update({1: "N", 2: (50.0, 6.0, 30.5)})
    block = bytearray(exif.tobytes()[6:])
    thumbnail = saved(Image.new("RGB", (16, 12), "red"), "jpeg")
    directory = len(block) + len(block) % 2
    order = "<" if block[:2] == b"II" else ">"
    first = struct.unpack_from(order + "I", block, 4)[0]
    count = struct.unpack_from(order + "H", block, first)[0]
    struct.pack_into(order + "I", block, first + 2 + 12 * count, directory)
    block += bytes(directory - len(block))
    start = directory + 2 + 24 + 4
    block += struct.pack(order + "HHHIIHHIII", 2, 0x0201, 4, 1, start, 0x0202, 4, 1, len(thumbnail), 0)
    return bytes(block) + thumbnail


def heic_with(exif):
    out = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(smooth(64, 48))).save(out, quality=90, exif=exif)
    return out.getvalue()


def tags_of(data):
    """All EXIF tags of a file as another program reads them, apart from where things lie."""
    exif = Image.open(io.BytesIO(data)).getexif()
    return {
        "make": exif.get(0x010F),
        "orientation": exif.get(ORIENTATION, 1),
        "exif": dict(exif.get_ifd(EXIF_IFD)),
        "gps": dict(exif.get_ifd(GPS_IFD)),
        "thumbnail": dict(exif.get_ifd(1)),
    }


def tagged(format, orientation=1, pixels=None):
    """A file by Pillow with everything that one may hold."""
    image = Image.fromarray(smooth(11, 7) if pixels is None else pixels)
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="%d"/></x:xmpmeta>' % orientation
    options = {"exif": b"Exif\0\0" + exif_block(orientation), "icc_profile": icc, "xmp": xmp, "dpi": (300, 150)}
    if format == "png":
        from PIL.PngImagePlugin import PngInfo

        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", options.pop("xmp").decode())
        text.add_text("Author", "somebody")
        options["pnginfo"] = text
    elif format == "tiff":
        exif = Image.Exif()
        exif.load(options["exif"])
        exif[700] = options.pop("xmp")
        options["exif"] = exif
    elif format in ("webp", "avif"):
        options.pop("dpi")
        options |= {"lossless": True} if format == "webp" else {"quality": 100}
    elif format == "jpeg":
        options |= {"quality": 100, "subsampling": "4:4:4", "comment": b"a comment"}
        options["extra"] = b"\xff\xed\0\x12Photoshop 3.0\0IP"
    return saved(image, format, **options), icc, xmp
