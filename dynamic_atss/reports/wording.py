"""Formats the numbers of a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Numbers = Mapping[str, Any]  # a part of `report.json`


def number(value: float | int | None) -> str:
    """Formats counts in full and shares with three digits. An undefined number becomes "-"."""
    if value is None or value == -1:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
