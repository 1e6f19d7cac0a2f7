"""Reads headers of other formats with Pillow, from a limited part of the file."""

from __future__ import annotations

import io
from typing import IO, BinaryIO, cast

from PIL import Image

from dynamic_atss.data.headers.record import ImageHeader, exif_orientation
from dynamic_atss.reading import HEADER_BYTES, PICTURE_BYTES, PICTURE_PARTS

_ICON = b"\0\0\1\0"


class Beginning(io.RawIOBase):
    """Wraps a file and limits the number of bytes and of calls of `read`."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        """Takes the file and the limit `most` of bytes."""
        self.file, self.bytes_left, self.calls_left = file, most, PICTURE_PARTS

    def read(self, count: int | None = -1) -> bytes:
        """Reads bytes. Raises ValueError beyond a limit."""
        limit = self.bytes_left + 1
        content = self.file.read(limit if count is None or count < 0 else min(count, limit))
        self.bytes_left -= len(content)
        self.calls_left -= 1
        if self.bytes_left < 0 or self.calls_left < 0:
            raise ValueError("the header is too long")
        return content

    def seek(self, place: int, origin: int = 0) -> int:
        return self.file.seek(place, origin)

    def tell(self) -> int:
        return self.file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


def other_header(file: BinaryIO, formats: tuple[str, ...]) -> ImageHeader:
    """Reads the header of a file with Pillow.

    Args:
        file: the open file.
        formats: Pillow's names of the formats to try.

    Raises the errors of Pillow. Raises ValueError for a header that is too long, and for an icon,
    which Pillow would decode while it opens it.
    """
    file.seek(0)
    head = file.read(12)
    if head.startswith(_ICON):
        raise ValueError("icons are not supported: save it as a PNG")
    most = PICTURE_BYTES if head[4:8] == b"ftyp" else HEADER_BYTES  # Pillow reads all of AVIF
    file.seek(0)
    # Pillow uses only read, seek and tell.
    with Image.open(cast(IO[bytes], Beginning(file, most)), formats=formats) as image:
        orientation = exif_orientation(image.info.get("exif") or b"")
        kind = str(image.format)
        return ImageHeader(image.height, image.width, orientation, kind, _bits(image.mode))


def _bits(mode: str) -> int:
    """Returns the bits of a channel for a mode of Pillow, such as "1", "L", "RGB", "I;16B"."""
    if mode == "1":
        return 1
    if mode.startswith("I;16"):
        return 16
    return 32 if mode in ("I", "F") else 8
