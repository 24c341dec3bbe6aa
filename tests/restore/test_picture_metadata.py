"""What a picture file says besides its pixels goes with it: EXIF, profile, XMP, resolution, orientation."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import tifffile
from picture_files import EXIF_IFD, ORIENTATION, exif_block, heic_with, picture, random, saved, smooth, tagged, tags_of
from PIL import Image, ImageCms

from deblur_jax.restore import png
from deblur_jax.restore.pictures import Picture, encode, read

METADATA = ("jpeg", "png", "webp", "tiff", "avif")


@pytest.mark.parametrize("target", METADATA)
@pytest.mark.parametrize("source", METADATA)
def test_metadata_goes_from_every_format_to_every_other(source, target):
    data, icc, xmp = tagged(source, 6)
    mine = read(data, "x")
    assert mine.pixels.shape == (7, 11, 3)
    out = encode(mine, target)
    theirs = Image.open(io.BytesIO(out))
    assert theirs.info["icc_profile"] == icc
    written = theirs.info["xmp"]
    assert (written.encode() if isinstance(written, str) else written) == xmp.replace(b'"6"', b'"1"')
    before, after = tags_of(data), tags_of(out)
    # Turned by a quarter: the sides that EXIF states are swapped too. (Pillow's TIFF reader turns its own tags.)
    if source != "tiff":
        assert (before["exif"].pop(0xA002), before["exif"].pop(0xA003)) == (7, 11)
        assert (after["exif"].pop(0xA002), after["exif"].pop(0xA003)) == (11, 7)
    assert after["exif"][0x927C] == b"secret\0note"
    assert after == before | {"orientation": 1, "thumbnail": {}}
    if {source, target} <= {"jpeg", "png", "tiff"}:
        assert theirs.info["dpi"] == pytest.approx((150, 300), abs=0.02)
    if source == target == "jpeg":
        assert theirs.info["comment"] == b"a comment"
        assert ("APP13", b"Photoshop 3.0\0IP") in theirs.applist
    if source == target == "png":
        assert theirs.text["Author"] == "somebody"
        assert theirs.text["XML:com.adobe.xmp"] == xmp.replace(b'"6"', b'"1"').decode()


@pytest.mark.parametrize("target", [*METADATA, "bmp"])
def test_metadata_can_be_stripped_but_for_the_colours(target):
    data, icc, _ = tagged("jpeg")
    out = encode(read(data, "x"), target, strip_metadata=True)
    theirs = Image.open(io.BytesIO(out))
    assert tags_of(out) == {"make": None, "orientation": 1, "exif": {}, "gps": {}, "thumbnail": {}}
    assert not {"xmp", "comment"} & theirs.info.keys()
    assert theirs.info.get("icc_profile") == (None if target == "bmp" else icc)
    assert b"Photoshop" not in out


def test_what_a_png_says_of_its_colours_is_not_stripped():
    gamma = png.chunk(b"gAMA", struct.pack(">I", 100000))
    plain = encode(picture(), "png")
    text = png.chunk(b"tEXt", b"Comment\0secret")
    data = encode(read(plain[:33] + gamma + text + plain[33:], "x"), "png", strip_metadata=True)
    assert gamma in data
    assert b"secret" not in data


def raw_profile(kind, content):
    lines = "\n".join(content.hex()[i : i + 72] for i in range(0, 2 * len(content), 72))
    text = f"\n{kind}\n{len(content):8}\n{lines}\n".encode()
    return png.chunk(b"zTXt", f"Raw profile type {kind}".encode() + b"\0\0" + zlib.compress(text))


@pytest.mark.parametrize("way", ["late", "raw"])
def test_exif_and_xmp_of_a_png_wherever_they_stand(way):
    """Behind the pixels, as PNG allows, or in hexadecimal, as older programs write them."""
    bare = encode(Picture(random((11, 7, 3))), "png")
    exif, xmp = exif_block(6), b"<?xpacket begin='' ?><x:xmpmeta>tiff:Orientation='6'</x:xmpmeta>"
    if way == "late":
        packed = png.chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp))
        data = bare[:-12] + png.chunk(b"eXIf", exif) + packed + bare[-12:]
    else:
        chunks = raw_profile("exif", b"Exif\0\0" + exif) + raw_profile("xmp", xmp)
        data = bare[:33] + chunks + bare[33:]
    found = read(data, "x")
    assert found.pixels.shape == (7, 11, 3)
    assert found.xmp == xmp.replace(b"'6'", b"'1'")
    assert tags_of(encode(found, "png"))["make"] == "Maker"
    damaged = bare[:33] + png.chunk(b"zTXt", b"Raw profile type exif\0\0nothing packed") + bare[33:]
    assert read(damaged, "x").exif == b""
    cut = bare[:33] + png.chunk(b"iTXt", b"XML:com.adobe.xmp\0") + bare[33:]
    assert read(cut, "x").xmp == b""


def test_a_rating_that_is_none_does_not_cost_the_picture():
    exif = Image.Exif()
    exif[18246], exif[0x010F] = 70_000, "Maker"
    found = read(saved(Image.fromarray(smooth(9, 8)), "jpeg", exif=exif), "x")
    assert tags_of(encode(found, "tiff"))["make"] == "Maker"


@pytest.mark.parametrize("target", ["png", "jpeg", "webp", "tiff", "avif"])
@pytest.mark.parametrize("source", ["jpeg", "tiff"])
def test_words_beyond_ascii_stay_as_they_are(source, target):
    words = "\u00a9 2024 Jos\u00e9"
    if source == "tiff":
        out = io.BytesIO()
        tags = [(33432, "s", 0, words.encode(), True), (18246, "H", 1, 4, True)]
        tifffile.imwrite(out, smooth(9, 8), photometric="rgb", metadata=None, extratags=tags)
        data = out.getvalue()
    else:
        exif = Image.Exif()
        exif[33432], exif[18246], exif[ORIENTATION] = words.encode(), 4, 1
        exif.get_ifd(EXIF_IFD)[0xA433] = words.encode().decode("latin-1").replace("\u00a9", "")[:6]
        data = saved(Image.fromarray(smooth(9, 8)), "jpeg", exif=exif)
    found = read(data, "x")
    written = encode(found, target)
    assert words.encode() in written
    again = Image.Exif()
    again.load(b"Exif\0\0" + read(written, "x").exif)
    assert again[18246] == 4
    assert found.notes == []


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(40))
def test_damaged_exif_never_costs_the_picture(seed):
    generator = np.random.default_rng(seed)
    block = bytearray(exif_block(6))
    for _ in range(3):
        block[generator.integers(8, 250)] = generator.choice([0, 1, 2, 3, 4, 5, 7, 9, 10, 12, 16, 255])
    data = saved(Image.fromarray(smooth(9, 8)), "jpeg", exif=b"Exif\0\0" + bytes(block))
    found = read(data, "x")
    for format in ("tiff", "png", "jpeg", "webp", "avif"):
        assert read(encode(found, format), "x").pixels.shape == found.pixels.shape


def test_a_thumbnail_that_leads_nowhere_costs_nothing_else():
    block = bytearray(exif_block(6))
    order = "<" if block[:2] == b"II" else ">"
    first = struct.unpack_from(order + "I", block, 4)[0]
    count = struct.unpack_from(order + "H", block, first)[0]
    struct.pack_into(order + "I", block, first + 2 + 12 * count, 60_000)
    found = read(saved(Image.fromarray(smooth(9, 8)), "jpeg", exif=b"Exif\0\0" + bytes(block)), "x")
    assert found.pixels.shape == (8, 9, 3)
    assert (found.notes, tags_of(encode(found, "jpeg"))["make"]) == ([], "Maker")


def test_the_maker_note_stays_where_it_was():
    """It may say where its own parts are, counted from the beginning of the EXIF block."""
    block = exif_block(8)
    data = saved(Image.fromarray(smooth(11, 7)), "jpeg", exif=b"Exif\0\0" + block)
    out = encode(read(data, "x"), "jpeg")
    written = Image.open(io.BytesIO(out)).info["exif"][6:]
    assert written.index(b"secret\0note") == block.index(b"secret\0note")
    assert b"\xff\xd8\xff" not in written  # the thumbnail, which shows the old picture


def test_exif_too_long_for_jpeg_loses_what_is_behind_it_alone():
    """A phone's HEIC had a preview of 178 kB behind its EXIF, named by nothing in it."""
    block = exif_block()
    behind = random((100_000,)).tobytes()
    mine = Picture(random((7, 11, 3)), exif=read(heic_with(block + behind), "x").exif)
    out = encode(mine, "jpeg")
    assert not mine.notes
    assert tags_of(out)["exif"][0x927C] == b"secret\0note"
    assert tags_of(out)["gps"][1] == "N"
    assert behind[:8] not in out
    # what is named is kept whole or not at all
    mine = Picture(mine.pixels, exif=exif_block(note=bytes(100_000)))
    assert tags_of(encode(mine, "jpeg"))["exif"] == {}
    assert mine.notes == ["EXIF of more than 64 kB does not fit into JPEG and is left out"]


def test_a_colour_profile_does_not_change_the_pixels():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().replace(b"sRGB", b"Disp")
    pixels = random((9, 8, 3))
    mine = read(saved(Image.fromarray(pixels), "png", icc_profile=profile), "x")
    np.testing.assert_array_equal(mine.pixels, pixels)
    for format in METADATA:
        assert read(encode(mine, format), "x").icc == profile


def test_what_a_png_says_of_its_colours_is_kept_and_missed_elsewhere():
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    data = bytes(imagecodecs.png_encode(random((5, 4, 3), np.uint16)))
    gamma = chunk(b"gAMA", struct.pack(">I", 100000))
    mine = read(data[:33] + gamma + data[33:], "x")
    assert gamma in encode(mine, "png")
    assert not mine.notes
    encode(mine, "tiff")
    assert mine.notes == ["the PNG's statement on its colours (gAMA, cICP) is not written to TIFF"]


def test_bmp_says_that_it_holds_no_metadata():
    mine = read(tagged("jpeg")[0], "x")
    encode(mine, "bmp")
    assert "BMP holds no metadata: EXIF, XMP and colour profile are left out" in mine.notes


# ---- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff", "avif"])
def test_every_orientation_is_applied_once(format, orientation):
    """As Pillow's own function turns them."""
    from PIL import ImageOps

    pixels = smooth(24, 16)
    pixels[:8, :8] = 255
    data, *_ = tagged(format, orientation, pixels)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    mine = read(data, "x")
    np.testing.assert_array_equal(mine.pixels, expected)
    again = Image.open(io.BytesIO(encode(mine, format)))
    assert again.getexif().get(ORIENTATION, 1) == 1
    assert again.size == (24, 16) if orientation > 4 else (16, 24)
    assert np.abs(np.asarray(again).astype(int) - expected).max() <= 12


def test_a_turned_heic_is_turned_once():
    image = Image.fromarray(smooth(64, 48))
    file = pillow_heif.from_pillow(image)
    out = io.BytesIO()
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    file.save(out, quality=95, exif=exif.tobytes())
    mine = read(out.getvalue(), "x")
    assert mine.pixels.shape == (48, 64, 3)
    np.testing.assert_allclose(mine.pixels.astype(int), np.rot90(smooth(64, 48), -1), atol=8)
    assert tags_of(encode(mine, "jpeg"))["orientation"] == 1


# ---- damaged


def test_damaged_exif_is_left_out_and_said():
    data = saved(Image.fromarray(smooth(8, 8)), "jpeg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    mine = read(data, "x")
    assert (mine.exif, mine.notes) == (b"", ["its EXIF block is damaged and left out"])
