"""What a file says of its values: are they proportional to light?"""

import struct

import numpy as np

from deblur_jax.restore import png
from deblur_jax.restore.pictures import Picture

__all__ = ["is_linear"]

_CURVES = (b"rTRC", b"gTRC", b"bTRC", b"kTRC")  # an ICC profile's, of three colours or of grey


def is_linear(picture: Picture) -> bool:
    """By its colour profile; without one, of a PNG by its gAMA. A profile without plain curves says no."""
    if picture.icc:
        return _profile_is_linear(picture.icc)
    said = {kind: whole[8:-4] for kind, whole in png.chunks(picture.png_chunks)}
    # In PNG's third edition cICP comes before sRGB, and that before gAMA.
    return said.get(b"gAMA") == struct.pack(">I", 100_000) and not {b"cICP", b"sRGB"} & set(said)


def _profile_is_linear(profile: bytes) -> bool:
    """ICC.1:2022: after 128 bytes the number of tags, then for each its name, where it is and how long."""
    count = int.from_bytes(profile[128:132])
    entries = (
        struct.unpack_from(">4sII", profile, 132 + 12 * n) for n in range(min(count, (len(profile) - 132) // 12))
    )
    curves = [profile[start : start + size] for name, start, size in entries if name in _CURVES]
    return bool(curves) and all(map(_is_straight, curves))


def _is_straight(curve: bytes) -> bool:
    """A table of no values is the identity, of one its exponent in 1/256; the simplest formula has that in 1/65536."""
    kind, values = curve[:4], curve[8:]
    if kind == b"para":
        return values[:2] == b"\0\0" and values[4:8] == struct.pack(">I", 0x10000)
    count = int.from_bytes(values[:4])
    if kind != b"curv" or len(values) < 4 + 2 * count:
        return False
    table = np.frombuffer(values, ">u2", count, 4)
    if count < 2:
        return count == 0 or bool(table[0] == 0x100)
    return np.allclose(table, np.linspace(0, 0xFFFF, count), atol=1)
