"""Builds one HTML file that contains style, code and data, and loads nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

from dynamic_atss.quoting import printable
from dynamic_atss.viz.html import safe

_PARTS = Path(__file__).parent / "page"
# The page needs them in this order.
SCRIPTS = ("data", "state", "marks", "draw", "boxes", "details", "controls", "keys", "main")


def page(data: Mapping[str, Any]) -> str:
    """Gives the HTML text of the data that `run.page_data` collects. Escapes texts from files."""
    return Template(_part("page.html")).substitute(
        title=safe(data["title"]),
        style=_part("page.css"),
        data=_in_script(data),
        script="\n".join(_part(f"{name}.js") for name in SCRIPTS),
    )


def _part(name: str) -> str:
    return (_PARTS / name).read_text(encoding="utf-8")


def _in_script(data: Mapping[str, Any]) -> str:
    """Gives JSON that cannot end a script element. Escapes characters that cannot be shown."""
    text = json.dumps(_printable(data), ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {key: _printable(item) for key, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list | tuple) else value
