"""How messages on annotation files call an entry, shorten a value, and count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def short(value: object) -> str:
    """A value as Python writes it, of at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def more(faults: Sequence[Any]) -> str:
    """How many entries beside the first have the same fault."""
    return f" ({len(faults) - 1} more like it)" if len(faults) > 1 else ""


def annotation_name(entry: Mapping[str, Any], number: int) -> str:
    """An annotation by its id, or by its place in the file."""
    return f"annotation id {short(entry['id'])}" if "id" in entry else f"annotation number {number}"
