"""Picture files lose nothing: every format, depth and number of channels, against files made by other software."""

import io
import os
import re
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import imagecodecs
import numpy as np
import pillow_heif
import pytest
import tifffile
from picture_files import DTYPES, picture, random, saved, smooth
from PIL import Image

from deblur_jax.errors import UserError
from deblur_jax.restore import pictures
from deblur_jax.restore.pictures import Picture, encode, probe, read

# ---- pixels


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("format", ["png", "tiff"])
def test_lossless_formats_come_back_as_they_were(format, channels, dtype):
    first = picture(channels, dtype)
    second = read(encode(first, format), "x")
    if (format, dtype) == ("png", np.float32):
        assert first.notes == ["floating point was reduced to 16 bits, which is what PNG holds here"]
        np.testing.assert_array_equal(second.pixels, np.round(first.pixels * 65535))
        return
    assert second.format == format
    assert not first.notes + second.notes
    assert second.pixels.dtype == dtype
    np.testing.assert_array_equal(second.pixels, first.pixels)
    np.testing.assert_equal(second.alpha, first.alpha)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_and_tiff_are_what_opencv_writes_and_reads(channels, dtype):
    pixels = random((11, 7, channels), dtype)
    bgr = pixels[..., [2, 1, 0, 3][:channels]] if channels > 1 else pixels
    for suffix in (".png", ".tiff"):
        mine = read(cv2.imencode(suffix, bgr)[1].tobytes(), "x")
        np.testing.assert_array_equal(mine.pixels, pixels[..., : 1 if channels == 1 else 3])
        assert (mine.alpha is None) == (channels < 4)
        again = encode(mine, suffix[1:])
        if (suffix, channels, dtype) == (".tiff", 4, np.uint8):  # OpenCV multiplies these by alpha
            np.testing.assert_array_equal(tifffile.imread(io.BytesIO(again)), pixels)
        else:
            theirs = cv2.imdecode(np.frombuffer(again, np.uint8), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(theirs.reshape(bgr.shape), bgr)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "P with alpha", "RGB", "RGBA", "L with a transparent grey"])
def test_kinds_of_png(mode):
    rgba = Image.fromarray(random((11, 7, 4)))
    image = {"P": rgba.convert("RGB").quantize(8), "P with alpha": rgba.quantize(8)}.get(mode)
    options = {"transparency": 3} if "grey" in mode else {}
    image = image or rgba.convert(mode.split()[0])
    mine = read(saved(image, "png", **options), "x")
    grey = mode[0] in "1L"
    again = Image.open(io.BytesIO(saved(image, "png", **options))).convert("RGBA")
    np.testing.assert_array_equal(mine.pixels, np.asarray(again)[..., : 1 if grey else 3])
    if "A" in mode or "alpha" in mode or options:
        np.testing.assert_array_equal(mine.alpha, np.asarray(again)[..., 3])
    else:
        assert mine.alpha is None


def test_a_dark_16_bit_picture_is_not_taken_for_one_of_8_bits():
    pixels = random((5, 6, 3), np.uint8).astype(np.uint16)
    for data in (imagecodecs.png_encode(pixels), encode(Picture(pixels), "tiff")):
        assert probe(bytes(data)).sample == 2
        np.testing.assert_array_equal(read(bytes(data), "x").pixels, pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg(channels):
    pixels = smooth(40, 30, channels)
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    data = saved(image, "jpeg", quality=90)
    mine = read(data, "x")
    np.testing.assert_array_equal(mine.pixels.squeeze(), np.asarray(Image.open(io.BytesIO(data))))
    assert mine.pixels.shape == (40, 30, channels)
    assert abs(mine.quality - 90) <= 1
    again = Image.open(io.BytesIO(encode(mine, "jpeg")))
    assert again.mode == image.mode
    assert np.abs(np.asarray(again).astype(int) - pixels.squeeze()).max() <= 6
    if channels == 3:
        assert [layer[1:3] for layer in again.layer] == [(1, 1)] * 3  # colour at full size
    smaller = encode(mine, "jpeg", quality=60)
    assert abs(read(smaller, "x").quality - 60) <= 1


def test_jpeg_quality_is_not_below_the_sources():
    data = saved(Image.fromarray(smooth(40, 30)), "jpeg", quality=98)
    assert abs(read(encode(read(data, "x"), "jpeg"), "x").quality - 98) <= 1


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("lossless", [True, False])
def test_webp(channels, lossless):
    pixels = smooth(40, 30, channels)
    data = saved(Image.fromarray(pixels), "webp", lossless=lossless, exact=True, quality=90)
    mine = read(data, "x")
    assert mine.lossless == lossless
    again = np.asarray(Image.open(io.BytesIO(encode(mine, "webp"))))
    assert again.shape == pixels.shape
    assert np.abs(again.astype(int) - pixels).max() <= (0 if lossless else 12)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_avif_of_8_bits(channels):
    pixels = smooth(40, 30, channels)
    mine = read(bytes(imagecodecs.avif_encode(pixels.squeeze(), 95)), "x")
    assert (mine.pixels.dtype, mine.pixels.shape[2]) == (np.uint8, 1 if channels == 1 else 3)
    again = imagecodecs.avif_decode(encode(mine, "avif"))
    assert np.abs(again.reshape(pixels.shape).astype(int) - pixels).max() <= 8


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("bits", [10, 12])
def test_avif_of_more_bits_is_as_bright_as_it_should_be(bits, channels):
    pixels = smooth(40, 30, channels, np.float32)
    stored = np.round(pixels * ((1 << bits) - 1)).astype(np.uint16)
    data = bytes(imagecodecs.avif_encode(stored, 100, bitspersample=bits))
    flag = data[data.find(b"av1C") + 6] & 0x60
    if flag != {10: 0x40, 12: 0x60}[bits]:  # what was asked for is what the test is about
        pytest.fail(f"the encoder wrote another depth: {flag:#x}")
    mine = read(data, "x")
    assert mine.pixels.dtype == np.uint16
    np.testing.assert_allclose(mine.pixels / 65535, pixels[..., :3], atol=0.004)
    encode(mine, "avif")
    assert mine.notes == ["16 bits were reduced to 8 bits, which is what AVIF holds here"]


@pytest.mark.parametrize("bits", [8, 10])
def test_heic(bits):
    pixels = smooth(64, 48, 3, np.uint16)
    mode, stored = ("RGB", (pixels >> 8).astype(np.uint8)) if bits == 8 else ("RGB;16", pixels)
    file = pillow_heif.from_bytes(mode=mode, size=(48, 64), data=stored.tobytes())
    out = io.BytesIO()
    file.save(out, quality=95)
    mine = read(out.getvalue(), "x.heic")
    assert (mine.format, mine.pixels.dtype) == ("heic", np.uint8 if bits == 8 else np.uint16)
    np.testing.assert_allclose(mine.pixels / np.iinfo(mine.pixels.dtype).max, pixels / 65535, atol=0.02)
    with pytest.raises(UserError, match="cannot write heic"):
        encode(mine, "heic")


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1"])
def test_bmp(mode):
    image = Image.fromarray(random((11, 7, 3))).convert(mode)
    expected = np.asarray(image.convert("L" if mode in "1L" else "RGB"))
    mine = read(saved(image, "bmp"), "x")
    np.testing.assert_array_equal(mine.pixels.squeeze(), expected)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encode(mine, "bmp")))), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["strips", "tiles", "planes", "big-endian", "lzw", "deflate", "zstd", "bigtiff"])
def test_layouts_of_tiff(layout, dtype):
    pixels = random((50, 40, 3), dtype)
    options = {
        "strips": {"rowsperstrip": 7},
        "tiles": {"tile": (16, 16), "compression": "zlib"},
        "planes": {"planarconfig": "separate"},
        "big-endian": {"byteorder": ">"},
        "lzw": {"compression": "lzw", "predictor": True},
        "deflate": {"compression": "zlib", "predictor": True},
        "zstd": {"compression": "zstd"},
        "bigtiff": {"bigtiff": True},
    }[layout]
    out = io.BytesIO()
    stored = np.moveaxis(pixels, -1, 0) if layout == "planes" else pixels
    tifffile.imwrite(out, stored, photometric="rgb", **options)
    assert probe(out.getvalue()) == (40, 50, "tiff", pixels.itemsize)
    np.testing.assert_array_equal(read(out.getvalue(), "x").pixels, pixels)


@pytest.mark.parametrize("mode", ["1", "P", "L", "CMYK"])
def test_kinds_of_tiff(mode):
    image = Image.fromarray(random((11, 8, 3))).convert(mode)
    mine = read(saved(image, "tiff"), "x")
    np.testing.assert_array_equal(mine.pixels.squeeze(), np.asarray(image.convert("L" if mode in "1L" else "RGB")))
    assert bool(mine.notes) == (mode == "CMYK")


def test_a_tiff_with_white_as_zero_and_one_of_12_bits():
    out, grey = io.BytesIO(), random((9, 8))
    tifffile.imwrite(out, 255 - grey, photometric="miniswhite")
    np.testing.assert_array_equal(read(out.getvalue(), "x").pixels[..., 0], grey)
    packed = imagecodecs.packints_encode(np.array([0, 2048, 4095, 1024], np.uint16), 12)
    out = io.BytesIO()
    tifffile.imwrite(out, iter([bytes(packed)]), shape=(2, 2), dtype=np.uint16, bitspersample=12, photometric=1)
    mine = read(out.getvalue(), "x").pixels[..., 0]
    np.testing.assert_array_equal(mine, [[0, 32776], [65535, 16388]])


def test_colours_stored_multiplied_by_alpha():
    rgba = np.array([[[50, 25, 0, 128], [255, 255, 255, 255], [0, 0, 0, 0]]], np.uint8)
    out = io.BytesIO()
    tifffile.imwrite(out, rgba, photometric="rgb", extrasamples=["assocalpha"])
    mine = read(out.getvalue(), "x")
    np.testing.assert_array_equal(mine.pixels[0], [[100, 50, 0], [255, 255, 255], [0, 0, 0]])
    np.testing.assert_array_equal(mine.alpha, rgba[..., 3])


@pytest.mark.parametrize("profile", [True, False])
def test_cmyk_becomes_rgb_and_says_so(profile):
    image = Image.fromarray(smooth(16, 16)).convert("CMYK")
    icc = b"no profile" if profile else None
    mine = read(saved(image, "jpeg", quality=95, icc_profile=icc), "x")
    assert mine.pixels.shape == (16, 16, 3)
    assert np.abs(mine.pixels.astype(int) - smooth(16, 16)).max() < 12
    assert mine.notes[-1] == "CMYK was converted to RGB without a profile: colours may be off"
    assert ("the CMYK profile cannot be used" in mine.notes) == profile
    assert mine.icc == b""


def cmyk_profile():
    """A printer with one odd ink: any cyan at all is a grey of L = 50; otherwise black is black and the rest white."""

    def fixed(*values):
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    nodes = [(c, k) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    lightness = [128 if c else 0 if k else 255 for c, k in nodes]
    ramp = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table += 4 * ramp + bytes(v for light in lightness for v in (light, 128, 128)) + 3 * ramp
    header = bytes(4) + b"\x02\x40\0\0" + b"prtrCMYKLab " + bytes(12) + b"acsp" + bytes(28)
    header += fixed(0.9642, 1.0, 0.8249)
    body = header.ljust(124, b"\0") + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table
    return struct.pack(">I", len(body) + 4) + body


def test_cmyk_is_converted_by_its_profile():
    image = Image.fromarray(np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 0, 0, 255]]], np.uint8).repeat(16, 0), "CMYK")
    mine = read(saved(image, "tiff", icc_profile=cmyk_profile()), "x")
    np.testing.assert_allclose(mine.pixels[0], [[255] * 3, [119] * 3, [0] * 3], atol=2)
    assert mine.notes == ["CMYK was converted to RGB (sRGB) by the picture's profile"]
    assert mine.icc == b""


@pytest.mark.parametrize("format", ["jpeg", "bmp", "webp", "avif"])
def test_what_a_format_cannot_hold_is_converted_and_said(format):
    pixels = smooth(32, 32, 4, np.uint16)
    first = Picture(pixels[..., :3], np.full((32, 32), 65535 // 2, np.uint16))
    second = read(encode(first, format), "x")
    assert first.notes[0] == f"16 bits were reduced to 8 bits, which is what {format.upper()} holds here"
    expected = pixels[..., :3] / 257
    if format in ("jpeg", "bmp"):
        assert first.notes[1] == f"{format.upper()} holds no transparency: laid on white"
        expected = (expected + 255) / 2
        assert second.alpha is None
    else:
        np.testing.assert_array_equal(second.alpha, 127)
    np.testing.assert_allclose(second.pixels, expected, atol=8)


# ---- phones, animations, pages


def test_a_phones_mpo_is_an_ordinary_photograph():
    first, second = (Image.fromarray(smooth(40, 30) // n) for n in (1, 2))
    data = saved(first, "mpo", save_all=True, append_images=[second], quality=95)
    mine = read(data, "x.jpg")
    assert mine.format == "jpeg"
    assert np.abs(mine.pixels.astype(int) - smooth(40, 30)).max() < 8
    assert mine.notes == ["the further pictures in this file (previews, depth, gain map) are left out"]
    assert Image.open(io.BytesIO(encode(mine, "jpeg"))).format == "JPEG"


@pytest.mark.parametrize("format", ["gif", "png", "webp", "avif"])
def test_animations_are_refused_and_still_pictures_are_not(format):
    frames = [Image.fromarray(random((16, 16, 3), seed=n)) for n in range(3)]
    data = saved(frames[0], format, save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match=r"^a: an animation of 3 frames; only still pictures are restored$"):
        read(data, "a")
    assert read(saved(frames[0], format), "a").pixels.shape == (16, 16, 3)


def test_pages_are_refused_and_thumbnails_are_not_pages():
    pages = random((3, 16, 20))
    out = io.BytesIO()
    tifffile.imwrite(out, pages, photometric="minisblack")
    with pytest.raises(UserError, match=r"^a: a TIFF of 3 pages; split it into single ones$"):
        read(out.getvalue(), "a")
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as file:
        file.write(pages[0])
        file.write(pages[0][::2, ::2], subfiletype=1)
    np.testing.assert_array_equal(read(out.getvalue(), "a").pixels[..., 0], pages[0])


# ---- sizes


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (30000, 20)])
@pytest.mark.parametrize("format", ["png", "jpeg", "tiff", "bmp", "webp", "avif"])
def test_odd_sizes(format, size):
    width, height = size
    first = Picture(np.full((height, width, 3), 200, np.uint8))
    if format == "webp" and width > 16383:
        with pytest.raises(UserError, match=r"30000x20 pixels cannot be written as WEBP.*use PNG or TIFF"):
            encode(first, format)
        return
    data = encode(first, format)
    assert probe(data) == (width, height, format, 1)
    assert np.abs(read(data, "x").pixels.astype(int) - 200).max() <= 3


def claiming(width, height):
    """A PNG of some 100 bytes that says it is this large."""
    data = bytearray(imagecodecs.png_encode(random((4, 4, 3))))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def test_bombs_are_refused_by_their_header(monkeypatch):
    def decode(*_):
        raise AssertionError("nothing may be decoded")

    monkeypatch.setattr(pictures, "_read", decode)
    monkeypatch.setattr(pictures, "_read_heic", decode)
    with pytest.raises(UserError, match=r"^a: 60000x60000 pixels are more than the limit of 250 million$"):
        read(claiming(60000, 60000), "a")
    tiff = io.BytesIO()
    with tifffile.TiffWriter(tiff) as file:
        file.write(random((4, 4)))
    data = bytearray(tiff.getvalue())
    tiff.seek(0)
    with tifffile.TiffFile(tiff) as file:
        for tag in (256, 257):
            entry = file.pages.first.tags[tag]
            data[entry.valueoffset : entry.valueoffset + 2] = struct.pack("<H", 60000)
    with pytest.raises(UserError, match=r"^a: 60000x60000 pixels are more than the limit"):
        read(bytes(data), "a")


def test_the_limit_can_be_moved_and_lifted():
    data = encode(Picture(random((20, 30, 3))), "png")
    with pytest.raises(UserError, match=r"^a: 30x20 pixels are more than the limit of 0\.0005 million$"):
        read(data, "a", max_pixels=500)
    assert read(data, "a", max_pixels=None).pixels.shape == (20, 30, 3)
    # 12000x8000 is below the limit, and above that of Pillow's own opener it is only the data that is missing.
    with pytest.raises(UserError, match=r"^a: the picture is damaged"):
        read(claiming(12000, 8000), "a")
    assert probe(claiming(20000, 12000)) == (20000, 12000, "png", 1)


# ---- bad files


def good_files():
    pixels = random((64, 48, 3))
    heic = io.BytesIO()
    pillow_heif.from_bytes(mode="RGB", size=(48, 64), data=pixels.tobytes()).save(heic, quality=90)
    files = {format: encode(Picture(pixels), format) for format in ("png", "jpeg", "webp", "tiff", "avif", "bmp")}
    files["png16"] = encode(Picture(pixels.astype(np.uint16) * 257), "png")
    return files | {"heic": heic.getvalue()}


GOOD = good_files()


@pytest.mark.parametrize("left", [0.03, 0.5, 0.97])
@pytest.mark.parametrize("format", GOOD)
def test_truncated_files_are_refused_in_one_line(format, left, capfd):
    data = GOOD[format]
    with pytest.raises(UserError, match=r"^a: ") as caught:
        read(data[: int(len(data) * left)], "a")
    assert "\n" not in str(caught.value)
    assert not any(capfd.readouterr())


@pytest.mark.parametrize("format", GOOD)
def test_damaged_files_are_read_or_refused_in_one_line(format, capfd):
    """Bytes changed anywhere: nothing else may be raised, and nothing printed."""
    generator = np.random.default_rng(0)
    for _ in range(30):
        data = bytearray(GOOD[format])
        for _ in range(4):
            data[generator.integers(min(400, len(data)))] = generator.integers(256)
        said = ""
        try:
            mine = read(bytes(data), "a", max_pixels=1_000_000)
        except UserError as error:
            said = str(error)
        assert re.fullmatch("a: .+", said) if said else mine.pixels.shape[2] in (1, 3)
    assert not any(capfd.readouterr())


@pytest.mark.parametrize("data", [b"", b"hello\n", b"\0" * 100, b"%PDF-1.7\n", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0"])
def test_what_is_no_picture(data, capfd):
    with pytest.raises(UserError, match=r"^a: (the file is empty|not a PNG|the picture is damaged)"):
        read(data, "a")
    assert not any(capfd.readouterr())


def test_content_decides_and_not_the_name(tmp_path):
    (tmp_path / "x.png").write_bytes(GOOD["jpeg"])
    assert probe(tmp_path / "x.png") == (48, 64, "jpeg", 1)
    with pytest.raises(UserError, match=r"missing.png: No such file"):
        probe(tmp_path / "missing.png")
    with pytest.raises(UserError, match=r"Is a directory"):
        probe(tmp_path)


def test_many_threads_read_and_write_at_once(capfd):
    def there_and_back(item):
        format, data = item
        mine = read(data, format)
        assert mine.pixels.shape == (64, 48, 3)
        target = {"png16": "png", "heic": "tiff"}.get(format, format)
        return len(encode(mine, target))

    work = list(GOOD.items()) * 6
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(there_and_back, work))
    assert sizes == sizes[: len(GOOD)] * 6
    os.write(2, b"still here\n")
    assert capfd.readouterr().err == "still here\n"


@pytest.mark.parametrize(
    ("tag", "kind", "value", "message"),
    [
        (262, 3, 2, "a TIFF of 2 samples a pixel where there must be 3"),  # RGB, it says
        (256, 2, 65, "the picture is damaged"),  # its width is a text
    ],
)
def test_tiffs_whose_tags_contradict_each_other(tag, kind, value, message, tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((4, 5, 2), np.uint8), photometric="minisblack", planarconfig="contig")
    data = (tmp_path / "x.tif").read_bytes()
    at = next(n for n in range(8, len(data)) if data[n : n + 2] == tag.to_bytes(2, "little") and data[n + 3] == 0)
    changed = data[: at + 2] + kind.to_bytes(2, "little") + data[at + 4 : at + 8] + value.to_bytes(4, "little")
    with pytest.raises(UserError, match=message):
        pictures.read(changed + data[len(changed) :], "x.tif")
