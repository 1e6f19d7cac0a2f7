"""Limits on what a pickle builds: a few hundred bytes can ask for any amount of time and memory.

Lists and tuples that hold one another twice, thirty deep, are small until something walks them; a
length of gigabytes is written in eight bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, BinaryIO

from dynamic_atss.reading import PICKLE_DEPTH, PICKLE_KEYS, PICKLE_NODES, PICKLE_STEPS


class DamagedError(Exception):
    """The stream does what no writer of weights does."""


class Steps(dict[int, Callable[[Any], None]]):
    """The table of a pickle machine's operations; counts how often it is asked for one."""

    left = PICKLE_STEPS

    def __getitem__(self, code: int) -> Callable[[Any], None]:
        self.left -= 1
        if self.left < 0:
            raise DamagedError(f"more than {PICKLE_STEPS:,} operations")
        return super().__getitem__(code)


class Stream:
    """A file that is never asked for more than it has: Python would provide that memory first."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        """size: bytes of the whole file"""
        self.file, self.size = file, size

    def read(self, count: int = -1) -> bytes:
        if count > self.size:
            raise DamagedError("a length beyond the end of the file")
        return self.file.read(count)

    def readline(self) -> bytes:
        return self.file.readline()


class Memo(dict[int, Any]):
    """What a pickle refers to by number. Its writers count from 0."""

    def __setitem__(self, number: int, value: Any) -> None:
        if not 0 <= number < 1 << 32:
            raise DamagedError("a number of the memo beyond 32 bits")
        super().__setitem__(number, value)


class Keys:
    """What the keys of a pickle cost: the hash of a tuple walks all that it holds, and equal
    hashes are compared one by one."""

    def __init__(self) -> None:
        self._sizes: dict[int, tuple[int, Any]] = {}  # by id, with the tuple, which keeps its id
        self._left = PICKLE_NODES
        self._chosen = PICKLE_KEYS

    def add(self, value: tuple[Any, ...]) -> None:
        """Notes a tuple. Raises DamagedError: it is too large."""
        size = 1 + sum(map(self._size, value))
        _check(size, 0)
        self._sizes[id(value)] = size, value

    def use(self, values: Collection[Any]) -> None:
        """Raises DamagedError: to hash and compare these keys, and those before, takes too long."""
        self._left -= sum(map(self._size, values))
        _check(PICKLE_NODES - self._left, 0)
        self._chosen -= sum(map(_has_chosen_hash, values))
        if self._chosen < 0:
            raise DamagedError(f"more than {PICKLE_KEYS:,} keys that are no text or small number")

    def _size(self, value: Any) -> int:
        return self._sizes[id(value)][0] if id(value) in self._sizes else 1


def _has_chosen_hash(key: Any) -> bool:
    """Whether a file chooses the hash: not that of a text, nor that of an object's place."""
    if isinstance(key, int):
        return abs(key) > 1 << 53  # a smaller one is its own hash
    return isinstance(key, float | complex | tuple | frozenset)


def check_extent(value: Any) -> None:
    """Raises DamagedError: containers that are nested too deeply or that have too many entries,
    each counted wherever it is used. No container may hold itself."""
    _extent(value, 0, {})


def _extent(value: Any, depth: int, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """(entries, depth) of a value. known: of the containers so far, by id"""
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
