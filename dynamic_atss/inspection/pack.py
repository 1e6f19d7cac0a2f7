"""Arrays of numbers in a page: one block of bytes, and where each array lies in it."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

# As the page's code names the types.
TYPES = {"uint8": "u1", "uint16": "u2", "int16": "i2", "uint32": "u4", "float32": "f4"}
_ALIGNED = 4

Place = tuple[str, int, int]  # type, first byte, number of values


class Block:
    """Little-endian arrays, each at a multiple of 4 bytes; equal ones are kept once."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._places: dict[tuple[str, bytes], Place] = {}

    def add(self, values: NDArray[Any]) -> Place:
        """Raises KeyError: a type that the page does not read."""
        kind = TYPES[values.dtype.name]
        content = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
        if (kind, content) not in self._places:
            self._bytes.extend(bytes(-len(self._bytes) % _ALIGNED))
            self._places[kind, content] = (kind, len(self._bytes), values.size)
            self._bytes.extend(content)
        return self._places[kind, content]

    def text(self) -> str:
        """Deflated (zlib), in base64."""
        return base64.b64encode(zlib.compress(bytes(self._bytes), 9)).decode()
