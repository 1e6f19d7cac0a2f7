"""Reads headers of TIFF files of 32 and 64 bits. Pillow would read all tags, even of gigabytes."""

from __future__ import annotations

import struct
from typing import BinaryIO, NamedTuple

from dynamic_atss.data.headers.record import ORIENTATION, ImageHeader, valid
from dynamic_atss.reading import PICTURE_PARTS, TILE_PIXELS

_WIDTH, _HEIGHT, _BITS, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 258, 322, 323
_WANTED = (_WIDTH, _HEIGHT, _BITS, _TILE_WIDTH, _TILE_HEIGHT, ORIENTATION)
_INTEGERS = {1: "B", 3: "H", 4: "L", 16: "Q"}  # type of a tag -> format of struct
_CHANNELS = 8  # limit of values that are read of one tag


class _Layout(NamedTuple):
    """Holds the formats of struct for the parts of a TIFF.

    Attributes:
        at: offset of the directory's place in the file's head.
        place: format of the directory's place.
        number: format of the number of its entries.
        entry: format of an entry, which is tag, type, count, and the value or its place.
    """

    at: int
    place: str
    number: str
    entry: str


_LAYOUTS = {42: _Layout(4, "L", "H", "HHL4s"), 43: _Layout(8, "Q", "Q", "HHQ8s")}


def tiff_header(file: BinaryIO) -> ImageHeader | None:
    """Reads the header. Returns None if the file is not a TIFF.

    Raises ValueError if it has no size, or if its tiles are far larger than the image. Decoders
    allocate entire tiles.
    """
    file.seek(0)
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 16:
        return None
    layout = _LAYOUTS.get(struct.unpack_from(order + "H", head, 2)[0])
    if layout is None:
        return None
    tags = _tags(file, order, layout, struct.unpack_from(order + layout.place, head, layout.at)[0])
    height, width = (tags.get(tag, [0])[0] for tag in (_HEIGHT, _WIDTH))
    tile = tags.get(_TILE_WIDTH, [0])[0] * tags.get(_TILE_HEIGHT, [0])[0]
    if tile > max(height * width, TILE_PIXELS):
        raise ValueError(f"tiles of {tile:,} pixels, more than the image has")
    orientation = valid(tags.get(ORIENTATION, [1])[0])
    return ImageHeader(height, width, orientation, "TIFF", max(tags.get(_BITS, [8])))


def _tags(file: BinaryIO, order: str, layout: _Layout, place: int) -> dict[int, list[int]]:
    """Reads the integers of the wanted tags in the first directory. Ignores repeated tags."""
    head = _read(file, place, struct.calcsize("=" + layout.number))
    count = _unpack(head, order + layout.number)
    if count > PICTURE_PARTS:
        raise ValueError(f"more than {PICTURE_PARTS} tags")
    entry = struct.Struct(order + layout.entry)
    table = file.read(count * entry.size)
    complete = len(table) - len(table) % entry.size
    tags: dict[int, list[int]] = {}
    for tag, kind, length, value in entry.iter_unpack(table[:complete]):
        if tag in _WANTED and tag not in tags and kind in _INTEGERS and length:
            code = f"{order}{min(length, _CHANNELS)}{_INTEGERS[kind]}"
            if length * struct.calcsize("=" + _INTEGERS[kind]) > len(value):
                value = _read(file, _unpack(value, order + layout.place), 8 * _CHANNELS)
            tags[tag] = list(struct.unpack_from(code, value.ljust(8 * _CHANNELS, b"\0")))
    return tags


def _read(file: BinaryIO, place: int, count: int) -> bytes:
    """Reads bytes at a place of the file. Raises ValueError for an impossible place."""
    if place >> 62:
        raise ValueError("a truncated TIFF")
    file.seek(place)
    return file.read(count)


def _unpack(content: bytes, code: str) -> int:
    """Unpacks one integer. Raises ValueError for a truncated file."""
    if len(content) < struct.calcsize(code):
        raise ValueError("a truncated TIFF")
    return int(struct.unpack_from(code, content)[0])
