"""Packs arrays of numbers into one block of bytes for a page."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The names that page/data.js uses.
TYPES = {"uint8": "u1", "uint16": "u2", "int16": "i2", "uint32": "u4", "float32": "f4"}
_ALIGNED = 4

Place = tuple[str, int, int]  # type, first byte, number of values


class Block:
    """Stores little-endian arrays at multiples of 4 bytes. Stores equal arrays once."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._places: dict[tuple[str, bytes], Place] = {}

    def add(self, values: NDArray[Any]) -> Place:
        """Gives the array's place. Raises KeyError for a type that the page cannot read."""
        kind = TYPES[values.dtype.name]
        content = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
        if (kind, content) not in self._places:
            self._bytes.extend(bytes(-len(self._bytes) % _ALIGNED))
            self._places[kind, content] = (kind, len(self._bytes), values.size)
            self._bytes.extend(content)
        return self._places[kind, content]

    def text(self) -> str:
        """Gives the block, compressed with zlib, in base64."""
        return base64.b64encode(zlib.compress(bytes(self._bytes), 9)).decode()
