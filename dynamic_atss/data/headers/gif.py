"""Reads headers of GIF files. Pillow would allocate all pixels while it opens some files."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from dynamic_atss.data.headers.record import ImageHeader
from dynamic_atss.reading import PICTURE_PARTS

_COMMENT = b"\xfe"


def gif_header(file: BinaryIO) -> ImageHeader | None:
    """Reads the header. Returns None if the file is not a GIF.

    Raises ValueError if it has no picture.
    """
    file.seek(0)
    head = file.read(13)
    if head[:6] not in (b"GIF87a", b"GIF89a") or len(head) < 13:
        return None
    width, height, flags = struct.unpack("<HHB", head[6:11])
    if flags & 0x80:
        file.seek(6 << (flags & 7), 1)  # the palette
    left, top, right, bottom = _first_picture(file)
    return ImageHeader(max(height, top + bottom), max(width, left + right), 1, "GIF", 8)


def _first_picture(file: BinaryIO) -> tuple[int, ...]:
    """Returns left, top, width, height of the first picture."""
    steps = iter(range(PICTURE_PARTS))
    for _ in steps:
        kind = file.read(1)
        if kind == b"," and len(place := file.read(8)) == 8:
            return struct.unpack("<HHHH", place)
        if kind == b"!":
            _skip_extension(file, steps)
        elif kind in (b"", b",", b";"):
            break
    raise ValueError("a GIF without a picture")


def _skip_extension(file: BinaryIO, steps: Iterator[int]) -> None:
    """Skips an extension. Raises ValueError for one with fewer blocks than Pillow reads."""
    label, first = file.read(1), _block(file)
    blocks = 0
    if first:
        blocks = 1 + sum(1 for _ in zip(iter(lambda: _block(file), b""), steps, strict=False))
    if blocks < (2 if first.startswith(b"NETSCAPE2.0") else label != _COMMENT):
        raise ValueError("an extension of a GIF without content")


def _block(file: BinaryIO) -> bytes:
    return file.read(int.from_bytes(file.read(1), "big"))
