"""Reads the "attributes" of an annotation in the forms that exporters write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def attributes_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the attributes of an annotation as name -> value.

    A list may have names, whose value is True, or objects with "name" and "value". Ignores entries
    without a name, such as numbers of attributes.
    """
    given = entry.get("attributes")
    if isinstance(given, dict):
        return given
    parts = given if isinstance(given, list) else [given]
    named = [_pair(part) for part in parts if isinstance(part, str | dict)]
    return {name: value for name, value in named if isinstance(name, str)}


def _pair(part: str | dict[str, Any]) -> tuple[Any, Any]:
    if isinstance(part, str):
        return part, True
    return part.get("name"), part.get("value", True)
