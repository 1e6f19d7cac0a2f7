"""Reads headers of PNG files. Goes through all chunks, because EXIF may be in the last one."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from dynamic_atss.data.headers.record import ImageHeader, ends_with, exif_orientation
from dynamic_atss.reading import EXIF_BYTES, PICTURE_PARTS

PNG = b"\x89PNG\r\n\x1a\n"


def png_header(file: BinaryIO) -> ImageHeader | None:
    """Reads the header. Returns None if the file is not a PNG.

    Raises ValueError if IHDR is not the first chunk.
    """
    file.seek(0)
    head = file.read(33)
    if not head.startswith(PNG):
        return None
    if len(head) < 33 or head[8:16] != b"\0\0\0\rIHDR":
        raise ValueError("a PNG that does not begin with IHDR")
    width, height, bits = struct.unpack(">LLB", head[16:25])
    orientation = 1
    for name, size in _chunks(file):
        if name == b"eXIf":
            orientation = exif_orientation(file.read(min(size, EXIF_BYTES)))
    ended = ends_with(file, b"IEND\xaeB`\x82")
    return ImageHeader(height, width, orientation, "PNG", bits, ended)


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yields (name, size of the content) of the chunks. The file is positioned at the content."""
    for _ in range(PICTURE_PARTS):
        head = file.read(8)
        if len(head) < 8:
            return
        size = int.from_bytes(head[:4], "big")
        end = file.tell() + size + 4
        yield head[4:], size
        file.seek(end)
    raise ValueError(f"more than {PICTURE_PARTS} chunks")
