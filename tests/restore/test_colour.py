"""Files that say that their values are proportional to light: PNG's gAMA, and curves of colour profiles."""

import struct

import numpy as np
import pytest
from PIL import ImageCms

from deblur_jax.restore import png
from deblur_jax.restore.colour import is_linear
from deblur_jax.restore.pictures import Picture

TABLE = np.linspace(0, 65535, 1024).round().astype(">u2")
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def curv(*values):
    return b"curv" + bytes(4) + struct.pack(f">I{len(values)}H", len(values), *values)


def para(kind, *numbers):
    return b"para" + bytes(4) + struct.pack(f">HH{len(numbers)}i", kind, 0, *(round(65536 * n) for n in numbers))


def profile(**curves):
    """A header of nothing, the table of tags, the curves."""
    start, table, body = 128 + 4 + 12 * len(curves), b"", b""
    for name, curve in curves.items():
        table += name.encode() + struct.pack(">II", start + len(body), len(curve))
        body += curve
    return bytes(128) + struct.pack(">I", len(curves)) + table + body


def of_colours(*curves):
    return profile(**dict(zip(("rTRC", "gTRC", "bTRC"), curves, strict=True)))


def gamma(value):
    return png.chunk(b"gAMA", struct.pack(">I", value))


@pytest.mark.parametrize("curve", [curv(), curv(256), curv(0, 65535), curv(*TABLE), para(0, 1.0)])
def test_straight_curves_are_linear(curve):
    assert is_linear(Picture(np.zeros((1, 1, 3)), icc=of_colours(curve, curve, curve)))
    assert is_linear(Picture(np.zeros((1, 1, 1)), icc=profile(kTRC=curve)))
    assert not is_linear(Picture(np.zeros((1, 1, 3)), icc=of_colours(curve, curv(563), curve)))


@pytest.mark.parametrize(
    "icc",
    [
        SRGB,
        of_colours(*3 * [curv(563)]),
        of_colours(*3 * [curv(*TABLE[::-1])]),
        of_colours(*3 * [curv(*TABLE)])[:-1],
        of_colours(*3 * [para(0, 2.2)]),
        of_colours(*3 * [para(3, 1.0, 1.0, 0.0, 0.5, 0.1)]),
        profile(desc=curv()),
        profile(),
        b"not a profile",
        SRGB[:300],
    ],
)
def test_others_are_not(icc):
    assert not is_linear(Picture(np.zeros((1, 1, 3)), icc=icc))


def test_a_png_says_it_by_its_gamma():
    def said(*chunks, icc=b""):
        return is_linear(Picture(np.zeros((1, 1, 3)), png_chunks=b"".join(chunks), icc=icc))

    assert said(gamma(100_000))
    assert not said()
    assert not said(gamma(45_455))
    assert not said(gamma(100_000), png.chunk(b"sRGB", b"\0"))
    assert not said(gamma(100_000), icc=SRGB)
