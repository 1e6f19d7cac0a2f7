"""What a header tells, in all formats alike."""

from __future__ import annotations

import struct
from typing import BinaryIO, NamedTuple

ORIENTATION = 274  # the tag of TIFF and EXIF
_INTEGERS = {1: "B", 3: "H", 4: "L"}  # types of a tag: how struct calls them


class ImageHeader(NamedTuple):
    """height, width: as the pixels are stored, before any turn · orientation: EXIF's, 1..8; 1 (as
    stored) where there is none or it is broken · format: "JPEG", "PNG", "TIFF", "WEBP", "BMP", ...
    as Pillow calls them · bits: of a channel's value: 8, 16, 12 (JPEG), less in palettes, 32 ·
    ended: whether a JPEG or PNG has its mark of the end at the end, without which it may be cut ·
    channels: of a JPEG; 0: not looked for
    """

    height: int
    width: int
    orientation: int
    format: str
    bits: int
    ended: bool = True
    channels: int = 0

    @property
    def swaps(self) -> bool:
        """Whether the orientation exchanges height and width."""
        return self.orientation >= 5

    @property
    def upright(self) -> tuple[int, int]:
        """(height, width) of the picture as viewers show it."""
        return (self.width, self.height) if self.swaps else (self.height, self.width)


def exif_orientation(exif: bytes) -> int:
    """1..8 of an EXIF block, with or without its mark "Exif\\0\\0"; 1 where it is not there or
    broken."""
    block = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return 1
    try:
        at = struct.unpack_from(order + "L", block, 4)[0]
        count = struct.unpack_from(order + "H", block, at)[0]
        for i in range(count):
            tag, kind = struct.unpack_from(order + "HH", block, at + 2 + 12 * i)
            if tag == ORIENTATION:
                code = order + _INTEGERS[kind]
                return valid(struct.unpack_from(code, block, at + 10 + 12 * i)[0])
    except (struct.error, KeyError):
        pass
    return 1


def valid(orientation: int) -> int:
    return orientation if 1 <= orientation <= 8 else 1


def ends_with(file: BinaryIO, mark: bytes) -> bool:
    file.seek(-len(mark), 2)
    return file.read() == mark
