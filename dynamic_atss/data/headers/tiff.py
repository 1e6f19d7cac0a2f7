"""TIFF, in its forms of 32 and 64 bits. Pillow would read all tags, of gigabytes as well."""

from __future__ import annotations

import struct
from typing import BinaryIO, NamedTuple

from dynamic_atss.data.headers.record import ORIENTATION, ImageHeader, valid
from dynamic_atss.reading import PICTURE_PARTS, TILE_PIXELS

_WIDTH, _HEIGHT, _BITS, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 258, 322, 323
_WANTED = (_WIDTH, _HEIGHT, _BITS, _TILE_WIDTH, _TILE_HEIGHT, ORIENTATION)
_INTEGERS = {1: "B", 3: "H", 4: "L", 16: "Q"}  # types of a tag: how struct calls them
_CHANNELS = 8  # more values of one tag are not looked at


class _Layout(NamedTuple):
    """How struct calls: the place of the directory (and where it stands), the number of its
    entries, an entry (tag, type, count, value or its place)."""

    at: int
    place: str
    number: str
    entry: str


_LAYOUTS = {42: _Layout(4, "L", "H", "HHL4s"), 43: _Layout(8, "Q", "Q", "HHQ8s")}


def tiff_header(file: BinaryIO) -> ImageHeader | None:
    """None where it is no TIFF. Raises ValueError: its size is not found, or its tiles are far
    larger than itself: each is decoded as a whole."""
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
        raise ValueError(f"tiles of {tile:,} pixels, more than it has itself")
    orientation = valid(tags.get(ORIENTATION, [1])[0])
    return ImageHeader(height, width, orientation, "TIFF", max(tags.get(_BITS, [8])))


def _tags(file: BinaryIO, order: str, layout: _Layout, place: int) -> dict[int, list[int]]:
    """The integers of the tags that are wanted, of the first directory; of a tag that stands there
    twice, the first."""
    head = _read(file, place, struct.calcsize("=" + layout.number))
    count = _unpack(head, order + layout.number)
    if count > PICTURE_PARTS:
        raise ValueError(f"more than {PICTURE_PARTS} tags")
    entry = struct.Struct(order + layout.entry)
    table = file.read(count * entry.size)
    whole = len(table) - len(table) % entry.size
    tags: dict[int, list[int]] = {}
    for tag, kind, length, value in entry.iter_unpack(table[:whole]):
        if tag in _WANTED and tag not in tags and kind in _INTEGERS and length:
            code = f"{order}{min(length, _CHANNELS)}{_INTEGERS[kind]}"
            if length * struct.calcsize("=" + _INTEGERS[kind]) > len(value):
                value = _read(file, _unpack(value, order + layout.place), 8 * _CHANNELS)
            tags[tag] = list(struct.unpack_from(code, value.ljust(8 * _CHANNELS, b"\0")))
    return tags


def _read(file: BinaryIO, place: int, count: int) -> bytes:
    """Raises ValueError: no file has such a place."""
    if place >> 62:
        raise ValueError("a TIFF that ends too early")
    file.seek(place)
    return file.read(count)


def _unpack(content: bytes, code: str) -> int:
    """Raises ValueError: the file ends before."""
    if len(content) < struct.calcsize(code):
        raise ValueError("a TIFF that ends too early")
    return int(struct.unpack_from(code, content)[0])
