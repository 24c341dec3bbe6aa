"""EXIF blocks changed in place.

Writing a block anew would move what maker notes point at. So only the bytes that must change do: everything else stays
where it was.
"""

import struct
from collections.abc import Iterator

ORIENTATION = 0x0112
_WIDTH, _HEIGHT, _EXIF_IFD, _PIXEL_X, _PIXEL_Y, _THUMBNAIL, _THUMBNAIL_LENGTH = (
    *(0x0100, 0x0101, 0x8769, 0xA002, 0xA003),
    *(0x0201, 0x0202),
)
_DIRECTORIES = (_EXIF_IFD, 0x8825, 0xA005)  # of the camera, the place, and what readers must agree on
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}  # of one value of each type


class _Block:
    def __init__(self, exif: bytes):
        self.data = bytearray(exif)
        self.order = {b"II*\0": "<", b"MM\0*": ">"}[exif[:4]]

    def number(self, at: int, kind: str) -> int:
        return struct.unpack_from(self.order + kind, self.data, at)[0]

    def put(self, at: int, kind: str, value: int) -> None:
        struct.pack_into(self.order + kind, self.data, at, value)

    def entries(self, directory: int) -> dict[int, int]:
        """Where each tag's entry stands: 2 bytes tag, 2 type, 4 count, 4 value."""
        count = self.number(directory, "H")
        return {self.number(at, "H"): at for at in range(directory + 2, directory + 2 + 12 * count, 12)}

    def value(self, at: int) -> int:
        """A single SHORT or LONG."""
        kind = {3: "H", 4: "I"}[self.number(at + 2, "H")]
        return self.number(at + 8, kind)

    def swap(self, entries: dict[int, int], one: int, other: int) -> None:
        if one in entries and other in entries:
            a, b = entries[one] + 2, entries[other] + 2
            self.data[a : a + 10], self.data[b : b + 10] = self.data[b : b + 10], self.data[a : a + 10]


def upright(exif: bytes) -> tuple[bytes, int]:
    """The block for the picture turned upright, without the thumbnail, and the orientation it had (1 to 8).

    The thumbnail shows the picture before anything was done to it. `ValueError` for a damaged block.
    """
    try:
        block = _Block(exif)
        first = block.number(4, "I")
        entries = block.entries(first)
        orientation = block.value(entries[ORIENTATION]) if ORIENTATION in entries else 1
        if orientation != 1 and ORIENTATION in entries:
            at = entries[ORIENTATION]
            struct.pack_into(block.order + "HIHH", block.data, at + 2, 3, 1, 1, 0)
        if orientation in (5, 6, 7, 8):
            block.swap(entries, _WIDTH, _HEIGHT)
            if _EXIF_IFD in entries:
                block.swap(block.entries(block.value(entries[_EXIF_IFD])), _PIXEL_X, _PIXEL_Y)
    except (KeyError, struct.error):
        raise ValueError("damaged EXIF") from None
    link = first + 2 + 12 * len(entries)
    try:
        _drop_thumbnail(block, link)
    except (KeyError, struct.error):  # its directory is damaged: then nothing leads there
        block.put(link, "I", 0)
    return bytes(block.data), orientation if 1 <= orientation <= 8 else 1


def without_orientation(exif: bytes) -> bytes:
    """The block without the entry, for formats that say the orientation elsewhere; nothing else moves."""
    try:
        block = _Block(exif)
        first = block.number(4, "I")
        entries = block.entries(first)
        if ORIENTATION not in entries:
            return exif
        at, end = entries[ORIENTATION], first + 2 + 12 * len(entries) + 4
        block.data[at:end] = block.data[at + 12 : end] + bytes(12)
        block.put(first, "H", len(entries) - 1)
        return bytes(block.data)
    except (KeyError, struct.error):
        return exif


def without_trailer(exif: bytes) -> bytes:
    """The block, cut behind the last value that its directories name: some phones put a preview there."""
    try:
        block = _Block(exif)
        return exif[: max(_ends(block, block.number(4, "I")))]
    except (KeyError, struct.error):
        return exif


def _ends(block: _Block, directory: int, depth: int = 0) -> Iterator[int]:
    entries = block.entries(directory)
    yield directory + 2 + 12 * len(entries) + 4
    for tag, at in entries.items():
        if tag in _DIRECTORIES and depth < 2:
            yield from _ends(block, block.value(at), depth + 1)
        elif (size := _BYTES.get(block.number(at + 2, "H"), 0) * block.number(at + 4, "I")) > 4:
            yield block.number(at + 8, "I") + size


def _drop_thumbnail(block: _Block, link: int) -> None:
    """`link` is where the directory of the thumbnail is named."""
    directory = block.number(link, "I") if link + 4 <= len(block.data) else 0
    if not directory:
        return
    entries = block.entries(directory)
    if _THUMBNAIL in entries and _THUMBNAIL_LENGTH in entries:
        start = block.value(entries[_THUMBNAIL])
        end = start + block.value(entries[_THUMBNAIL_LENGTH])
        if end >= len(block.data) > start > link:
            del block.data[start:]
        elif end <= len(block.data):
            block.data[start:end] = bytes(end - start)
    block.put(link, "I", 0)
