"""Limits the work of a pickle. A few hundred bytes can ask for any amount of time and memory.

For example, a list may hold the next list twice, and so on, 30 deep. It is small until something
walks it. Eight bytes can declare a length of gigabytes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, BinaryIO

from dynamic_atss.reading import PICKLE_DEPTH, PICKLE_KEYS, PICKLE_NODES, PICKLE_STEPS


class DamagedError(Exception):
    """Says that a file is incomplete, damaged or not written by a known program."""


class Steps(dict[int, Callable[[Any], None]]):
    """Holds the operations of a pickle machine. Counts and limits the look-ups."""

    left = PICKLE_STEPS

    def __getitem__(self, code: int) -> Callable[[Any], None]:
        self.left -= 1
        if self.left < 0:
            raise DamagedError(f"more than {PICKLE_STEPS:,} operations")
        return super().__getitem__(code)


class Stream:
    """Wraps a file and refuses to read more than its size.

    Python would allocate the memory first.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        """Takes a file and its entire size in bytes."""
        self.file, self.size = file, size

    def read(self, count: int = -1) -> bytes:
        if count > self.size:
            raise DamagedError("a length beyond the end of the file")
        return self.file.read(count)

    def readline(self) -> bytes:
        return self.file.readline()


class Memo(dict[int, Any]):
    """Holds the values that a pickle refers to by number. Writers of pickles count from 0."""

    def __setitem__(self, number: int, value: Any) -> None:
        if not 0 <= number < 1 << 32:
            raise DamagedError("a memo number beyond 32 bits")
        super().__setitem__(number, value)


class Keys:
    """Limits the cost of a pickle's keys.

    The hash of a tuple walks all its entries. Keys with equal hashes are compared one by one.
    """

    def __init__(self) -> None:
        # id -> size and tuple; holding the tuple keeps its id from being used again
        self._sizes: dict[int, tuple[int, Any]] = {}
        self._left = PICKLE_NODES
        self._chosen = PICKLE_KEYS

    def add(self, value: tuple[Any, ...]) -> None:
        """Records the size of a tuple. Raises DamagedError if it is too large."""
        size = 1 + sum(map(self._size, value))
        _check(size, 0)
        self._sizes[id(value)] = size, value

    def use(self, values: Collection[Any]) -> None:
        """Counts these keys. Raises DamagedError if it takes too long to hash and compare all."""
        self._left -= sum(map(self._size, values))
        _check(PICKLE_NODES - self._left, 0)
        self._chosen -= sum(map(_has_chosen_hash, values))
        if self._chosen < 0:
            raise DamagedError(f"more than {PICKLE_KEYS:,} keys that are not text or small numbers")

    def _size(self, value: Any) -> int:
        return self._sizes[id(value)][0] if id(value) in self._sizes else 1


def _has_chosen_hash(key: Any) -> bool:
    """Returns True if the writer of a file can choose the hash of this key.

    Python salts the hashes of texts and takes those of objects from their addresses.
    """
    if isinstance(key, int):
        return abs(key) > 1 << 53  # smaller numbers have different hashes
    return isinstance(key, float | complex | tuple | frozenset)


def check_extent(value: Any) -> None:
    """Raises DamagedError for containers that are nested too deeply or have too many entries.

    An entry counts at each place where it is used. No container may hold itself.
    """
    _extent(value, 0, {})


def _extent(value: Any, depth: int, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Returns (entries, depth) of a value.

    Args:
        value: any value.
        depth: the depth at which it is nested.
        known: id -> (entries, depth), for the containers seen so far.
    """
    if not isinstance(value, dict | list | tuple | set | frozenset):
        return 1, 0
    if id(value) not in known:
        _check(0, depth)
        items = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        found = [_extent(item, depth + 1, known) for item in items]
        size, height = 1 + sum(s for s, _ in found), 1 + max((h for _, h in found), default=0)
        _check(size, height)
        known[id(value)] = size, height
    return known[id(value)]


def _check(size: int, depth: int) -> None:
    if size > PICKLE_NODES:
        raise DamagedError(f"more than {PICKLE_NODES:,} entries")
    if depth > PICKLE_DEPTH:
        raise DamagedError(f"nested more than {PICKLE_DEPTH} deep")
