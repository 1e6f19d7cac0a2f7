"""Defines the content of a header, for all formats."""

from __future__ import annotations

import struct
from typing import BinaryIO, NamedTuple

ORIENTATION = 274  # the tag of TIFF and EXIF
_INTEGERS = {1: "B", 3: "H", 4: "L"}  # type of a tag -> format of struct


class ImageHeader(NamedTuple):
    """Holds the header of an image file.

    Attributes:
        height, width: of the stored pixels, before a turn.
        orientation: the EXIF orientation, 1..8. It is 1 (as stored) if missing or malformed.
        format: Pillow's name, such as "JPEG", "PNG", "TIFF", "WEBP", "BMP".
        bits: bits per channel, which are 8, 16, 12 (JPEG), fewer in palettes, or 32.
        ended: False for a JPEG or PNG without its end mark, which may be truncated.
        channels: number of channels of a JPEG. It is 0 for other formats.
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
        """Returns True if the orientation exchanges height and width."""
        return self.orientation >= 5

    @property
    def upright(self) -> tuple[int, int]:
        """Returns (height, width) of the upright picture, as viewers show it."""
        return (self.width, self.height) if self.swaps else (self.height, self.width)


def exif_orientation(exif: bytes) -> int:
    """Reads the orientation 1..8 of an EXIF block, with or without the prefix "Exif\\0\\0".

    Returns 1 if it is missing or malformed.
    """
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
