import io
import struct
import zlib

import cv2
import numpy as np
import pytest

from deblur_jax.errors import UserError
from deblur_jax.pipeline import pictures
from deblur_jax.restore import png

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (90, 70, 3), np.uint8)


def encoded(pixels, suffix=".png", *options):
    swapped = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 and pixels.shape[2] == 3 else pixels
    return cv2.imencode(suffix, swapped, options)[1].tobytes()


def npy(pixels):
    buffer = io.BytesIO()
    np.save(buffer, pixels)
    return buffer.getvalue()


def cut(pixels, side, down, right):
    top, left = (int(where * (size - side + 1)) for where, size in zip((down, right), pixels.shape, strict=False))
    return pixels[top : top + side, left : left + side]


@pytest.mark.parametrize("down", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("make", [encoded, npy, lambda x: x], ids=["png", "npy", "array"])
def test_a_piece_is_what_it_is_in_the_whole(make, down):
    piece, size = pictures.crop(make(RGB), 32, down=down, right=0.5, name="x")
    np.testing.assert_array_equal(piece, cut(RGB, 32, down, 0.5))
    assert size == (90, 70)


@pytest.mark.parametrize("channels", ["grey", "alpha"])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("level", [0, 9])
def test_every_kind_of_png(channels, depth, level):
    pixels = RNG.integers(0, np.iinfo(depth).max, (90, 70, 4) if channels == "alpha" else (90, 70), depth)
    data = encoded(pixels, ".png", cv2.IMWRITE_PNG_COMPRESSION, level)
    piece, _ = pictures.crop(data, 32, down=0.2, right=0.6, name="x")
    whole = pictures.as_8bit(pictures.decode_image(data, "x"))
    np.testing.assert_array_equal(piece, cut(whole, 32, 0.2, 0.6))


def test_a_png_is_read_no_further_than_needed():
    """The lower rows of this one are damaged, which a piece above does not notice."""
    rows = b"".join(b"\0" + row.tobytes() for row in RGB)
    broken = bytearray(zlib.compress(rows, 0))
    broken[-400] ^= 0xFF
    data = pictures._PNG + encoded(RGB)[8:33] + png.chunk(b"IDAT", bytes(broken)) + png.chunk(b"IEND", b"")
    piece, _ = pictures.crop(data, 32, down=0.0, right=0.0, name="x")
    np.testing.assert_array_equal(piece, RGB[:32, :32])
    with pytest.raises(UserError, match="x: the picture is damaged"):
        pictures.crop(data, 32, down=0.99, right=0.0, name="x")


def test_damaged_compression_is_said():
    data = pictures._PNG + encoded(RGB)[8:33] + png.chunk(b"IDAT", b"\x78\x9c" + bytes(range(255, 0, -1)))
    with pytest.raises(UserError, match="x: the picture is damaged"):
        pictures.crop(data + png.chunk(b"IEND", b""), 32, down=0.0, right=0.0, name="x")


def test_what_must_be_decoded_whole():
    """A turned PNG, and an interlaced one."""
    data = encoded(RGB)
    exif = b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x112, 3, 1, 6, 0) + b"\0\0\0\0"
    turned = data[:33] + png.chunk(b"eXIf", exif) + data[33:]
    whole = pictures.decode_image(turned, "x")
    assert whole.shape == (70, 90, 3)
    piece, size = pictures.crop(turned, 32, down=0.2, right=0.2, name="x")
    np.testing.assert_array_equal(piece, cut(whole, 32, 0.2, 0.2))
    assert size == (70, 90)
    header = data[16:28] + b"\x01"
    interlaced = data[:8] + png.chunk(b"IHDR", header) + data[33:]
    assert pictures._png_crop(interlaced, 32, 0.0, 0.0, "x") is None


@pytest.mark.parametrize("keep", [0.3, 0.97])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_truncated_pictures_are_named(suffix, keep):
    data = encoded(RGB, suffix)
    with pytest.raises(UserError, match=r"photo: the picture is damaged"):
        pictures.crop(data[: int(keep * len(data))], 32, down=0.0, right=0.0, name="photo")


def test_small_pictures_are_continued_by_their_mirror_image():
    piece, _ = pictures.crop(encoded(RGB[:20]), 32, down=0.7, right=0.0, name="x")
    np.testing.assert_array_equal(piece[:20], RGB[:20, :32])
    np.testing.assert_array_equal(piece[20:], RGB[18:6:-1, :32])
    for shape in ((1, 1), (1, 40), (5, 1)):
        pixels = RGB[: shape[0], : shape[1]]
        assert pictures.crop(encoded(pixels), 32, down=0.7, right=0.9, name="x")[0].shape == (32, 32, 3)


def test_larger_pictures_are_reduced_by_area():
    piece, size = pictures.crop(encoded(RGB), 35, down=0.0, right=0.0, name="x", max_side=45)
    assert size == (90, 70)
    means = RGB.reshape(45, 2, 35, 2, 3).mean((1, 3))
    assert np.abs(piece - means[:35]).max() <= 1  # one for rounding


def test_16_bits_are_rounded():
    values = np.array([0, 128, 129, 257 * 200 + 128, 65535], np.uint16)
    np.testing.assert_array_equal(pictures.as_8bit(values), [0, 0, 1, 200, 255])


def test_other_arrays_are_refused():
    with pytest.raises(UserError, match="not a uint8 RGB array"):
        pictures.crop(npy(RGB.astype(np.float32)), 32, down=0.0, right=0.0, name="x")
    with pytest.raises(UserError, match="not a uint8 RGB array"):
        pictures.crop(npy(RGB)[:-5], 32, down=0.0, right=0.0, name="x")
