"""The chunks of a PNG file: looked at before libpng meets a fault, which it prints to stderr, where
nobody can tell it from a message of this project, or keep it back."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from dynamic_atss.data.headers.png import PNG

_PIXELS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")  # what a picture is made of


class DamagedPng(Exception):
    """What is wrong, in words."""


def picture_alone(data: bytes) -> bytes:
    """The file without texts, times, profiles, animations, ...: libpng warns of odd ones, and none
    changes the stored pixels.

    Raises DamagedPng: the file ends before its last chunk, or a checksum is wrong.
    """
    view, kept = memoryview(data), []
    for name, chunk in _chunks(view):
        if name in _PIXELS:
            if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
                raise DamagedPng(f"its part {name.decode()} has a wrong checksum")
            kept.append(chunk)
        elif not name[0] & 0x20:  # a capital: no reader may pass it over
            raise DamagedPng(f"its part {name!r} is unknown")
        if name == b"IEND":
            return b"".join([PNG, *kept])
    raise DamagedPng("the file ends too early")


def _chunks(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """(name, chunk) of those that are there as a whole: length, name, content, checksum."""
    at = len(PNG)
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            return
        yield bytes(data[at + 4 : at + 8]), data[at:end]
        at = end
