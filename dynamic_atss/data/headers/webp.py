"""Reads headers of WebP files. Pillow would read the entire file and allocate its pixels twice."""

from __future__ import annotations

import struct
from typing import BinaryIO

from dynamic_atss.data.headers.record import ImageHeader, exif_orientation
from dynamic_atss.reading import EXIF_BYTES, PICTURE_PARTS

_HAS_EXIF = 8  # a flag of VP8X


def webp_header(file: BinaryIO) -> ImageHeader | None:
    """Reads the header. Returns None if the file is not a WebP.

    Raises ValueError if it has no size.
    """
    file.seek(0)
    head = file.read(30)
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        return None
    head = head.ljust(30, b"\0")
    kind, orientation = head[12:16], 1
    if kind == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        width, height = (side & 0x3FFF for side in struct.unpack("<HH", head[26:30]))
    elif kind == b"VP8L" and head[20] == 0x2F:
        both = int.from_bytes(head[21:25], "little")
        width, height = 1 + (both & 0x3FFF), 1 + (both >> 14 & 0x3FFF)
    elif kind == b"VP8X":
        width, height = (1 + int.from_bytes(head[at : at + 3], "little") for at in (24, 27))
        orientation = _orientation(file) if head[20] & _HAS_EXIF else 1
    else:
        raise ValueError("a WebP without a size")
    return ImageHeader(height, width, orientation, "WEBP", 8)


def _orientation(file: BinaryIO) -> int:
    """Reads the orientation in the first EXIF chunk. Returns 1 if there is none."""
    at = 12
    for _ in range(PICTURE_PARTS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return 1
        size = int.from_bytes(head[4:], "little")
        if head[:4] == b"EXIF":
            return exif_orientation(file.read(min(size, EXIF_BYTES)))
        at += 8 + size + size % 2
    raise ValueError(f"more than {PICTURE_PARTS} chunks")
