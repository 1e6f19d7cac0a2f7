"""Formats entries, values and counts for messages on annotation files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def short(value: object) -> str:
    """Formats a value as Python does, in at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def and_others(faults: Sequence[Any]) -> str:
    """Says how many other entries have the same fault."""
    return f" ({len(faults) - 1} more like it)" if len(faults) > 1 else ""


def annotation_name(entry: Mapping[str, Any], number: int) -> str:
    """Returns the name of an annotation for messages: its id, or its index in the file."""
    return f"annotation id {short(entry['id'])}" if "id" in entry else f"annotation number {number}"
