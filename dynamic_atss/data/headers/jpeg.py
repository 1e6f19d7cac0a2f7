"""Reads headers of JPEG files as libjpeg does, so that both find the same size."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from dynamic_atss.data.headers.record import ImageHeader, ends_with, exif_orientation
from dynamic_atss.reading import KB, PICTURE_PARTS

_ALONE = (0x01, *range(0xD0, 0xD8))  # markers without a length
_LAST = (0xD9, 0xDA)  # the end, and the first scan


def jpeg_header(file: BinaryIO) -> ImageHeader | None:
    """Reads the header. Returns None if the file is not a JPEG.

    Raises ValueError if it has no size.
    """
    file.seek(0)
    if file.read(2) != b"\xff\xd8":
        return None
    orientation = 1
    for marker, size in _segments(file):
        if marker == 0xE1 and orientation == 1:
            orientation = exif_orientation(file.read(min(size, 64 * KB)))
        elif _is_frame(marker) and len(frame := file.read(6)) == 6:
            bits, height, width, channels = struct.unpack(">BHHB", frame)
            ended = ends_with(file, b"\xff\xd9")
            return ImageHeader(height, width, orientation, "JPEG", bits, ended, channels)
    raise ValueError("a JPEG without a size")


def _segments(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Yields (marker, size of the content) of the segments before the first scan.

    The file is then positioned at the content.
    """
    steps = iter(range(PICTURE_PARTS))
    for _ in steps:
        marker = _next_marker(file, steps)
        if not marker or marker in _LAST:
            return
        if marker in _ALONE:
            continue
        size = int.from_bytes(file.read(2), "big") - 2
        if size < 0:
            raise ValueError("a JPEG with a segment that is too short")
        end = file.tell() + size
        yield marker, size
        file.seek(end)


def _next_marker(file: BinaryIO, steps: Iterator[int]) -> int:
    """Skips to the next marker, the byte after one or more FF. Returns 0 if there is none."""
    filled = False
    for _ in steps:
        byte = file.read(1)
        if not byte:
            return 0
        if filled and byte not in (b"\0", b"\xff"):
            return byte[0]
        filled = byte == b"\xff"
    return 0


def _is_frame(marker: int) -> bool:
    """Returns True for a frame header: C0..CF except C4, C8 and CC."""
    return 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)
