"""Checks the arguments of rules."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise


def at_least(limit: float, **arguments: float) -> None:
    """Raises ValueError for the first argument that is not a number or is below the limit."""
    for name, value in arguments.items():
        if type(value) not in (int, float) or not value >= limit:
            raise ValueError(f"{name} is {value!r}; it must be a number of at least {limit}")


def integer(limit: int, **arguments: int) -> None:
    """Raises ValueError for the first argument that is not an integer or is below the limit."""
    for name, value in arguments.items():
        if type(value) is not int or value < limit:
            raise ValueError(f"{name} is {value!r}; it must be an integer of at least {limit}")


def one_of(names: Sequence[str], **arguments: str) -> None:
    """Raises ValueError for the first argument that is not one of the names."""
    for name, value in arguments.items():
        if value not in names:
            raise ValueError(f"{name} is {value!r}; give one of {', '.join(map(repr, names))}")


def two_numbers(**arguments: Sequence[float]) -> None:
    """Raises ValueError for the first argument that is not a list of two numbers."""
    for name, value in arguments.items():
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise ValueError(f"{name} is {value!r}; give two numbers")


def increasing(**arguments: Sequence[float]) -> None:
    """Raises ValueError for the first argument that is not a list of increasing numbers > 0."""
    for name, values in arguments.items():
        numbers = [0.0, *values] if isinstance(values, list | tuple) else []
        known = bool(numbers) and all(type(x) in (int, float) for x in numbers)
        if not known or any(not a < b for a, b in pairwise(numbers)):
            raise ValueError(f"{name} is {values!r}; give positive numbers in increasing order")
