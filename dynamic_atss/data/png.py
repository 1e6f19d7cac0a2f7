"""Checks the chunks of a PNG file before libpng does.

libpng prints faults to stderr, where they look like messages of this project.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from dynamic_atss.data.headers.png import PNG

_PIXELS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")  # the chunks that a picture needs


class DamagedPng(Exception):
    """Says that a PNG file is damaged. The message says how."""


def strip_metadata(data: bytes) -> bytes:
    """Removes texts, times, profiles, animations and other chunks on which libpng prints warnings.

    The stored pixels stay the same. Raises DamagedPng for a truncated file, a wrong checksum, or an
    unknown chunk that readers must not skip.
    """
    view, kept = memoryview(data), []
    for name, chunk in _chunks(view):
        if name in _PIXELS:
            if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
                raise DamagedPng(f"its chunk {name.decode()} has a wrong checksum")
            kept.append(chunk)
        elif not name[0] & 0x20:  # a capital letter: readers must not skip the chunk
            raise DamagedPng(f"its chunk {name!r} is unknown")
        if name == b"IEND":
            return b"".join([PNG, *kept])
    raise DamagedPng("it is truncated")


def _chunks(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yields (name, chunk) of complete chunks. A chunk is length, name, content and checksum."""
    at = len(PNG)
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            return
        yield bytes(data[at + 4 : at + 8]), data[at:end]
        at = end
