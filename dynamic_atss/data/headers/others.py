"""Other formats: Pillow reads their headers, from no more of the file than is sensible."""

from __future__ import annotations

import io
from typing import IO, BinaryIO, cast

from PIL import Image

from dynamic_atss.data.headers.record import ImageHeader, exif_orientation
from dynamic_atss.reading import HEADER_BYTES, PICTURE_BYTES, PICTURE_PARTS

_ICON = b"\0\0\1\0"


class Beginning(io.RawIOBase):
    """A file of which a limited number of bytes is given, in a limited number of portions."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        """most: bytes in all"""
        self.file, self.left, self.times = file, most, PICTURE_PARTS

    def read(self, count: int | None = -1) -> bytes:
        """Raises ValueError: beyond a limit."""
        asked = self.left + 1 if count is None or count < 0 else min(count, self.left + 1)
        content = self.file.read(asked)
        self.left -= len(content)
        self.times -= 1
        if self.left < 0 or self.times < 0:
            raise ValueError("a header that is too long")
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
    """formats: those that Pillow may take it for. Raises what Pillow raises, and ValueError: it has
    a header that is too long, or is an icon, which Pillow decodes while it opens it."""
    file.seek(0)
    head = file.read(12)
    if head.startswith(_ICON):
        raise ValueError("an icon, which is not read: save it as a PNG")
    most = PICTURE_BYTES if head[4:8] == b"ftyp" else HEADER_BYTES  # AVIF is read as a whole
    file.seek(0)
    # Pillow asks for read, seek and tell alone.
    with Image.open(cast(IO[bytes], Beginning(file, most)), formats=formats) as image:
        orientation = exif_orientation(image.info.get("exif") or b"")
        kind = str(image.format)
        return ImageHeader(image.height, image.width, orientation, kind, _bits(image.mode))


def _bits(mode: str) -> int:
    """Of Pillow's modes, such as "1", "L", "RGB", "I;16B"."""
    if mode == "1":
        return 1
    if mode.startswith("I;16"):
        return 16
    return 32 if mode in ("I", "F") else 8
