"""What the keys mean, from the comments beside the defaults, and which of them a run changes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from yacs.config import CfgNode as CN

from dynamic_atss.config import defaults

_KEY = re.compile(r"_C\.(?P<key>[A-Z0-9_.]+) = (?P<default>.+?)(  # (?P<meaning>.*))?")
_NEW = re.compile(r"\(new\) ?| \(new\)")
_MORE = re.compile(r"# (?P<text>.*)")  # of the meaning, in the lines below the key


class Key(NamedTuple):
    """default: as it is written · meaning: one line"""

    default: str
    meaning: str


@cache
def keys() -> dict[str, Key]:
    """Every key by its full name, in the order of `defaults.py`; sections are among them."""
    found: dict[str, Key] = {}
    name = ""  # of the key that a comment goes on with; a blank line ends it
    for line in Path(defaults.__file__).read_text("utf-8").splitlines():
        if key := _KEY.fullmatch(line):
            name = key["key"]
            found[name] = Key(key["default"], key["meaning"] or "")
        elif name and (more := _MORE.fullmatch(line)):
            found[name] = found[name]._replace(meaning=f"{found[name].meaning} {more['text']}")
        else:
            name = ""
    return {name: key._replace(meaning=_NEW.sub("", key.meaning)) for name, key in found.items()}


def changed(cfg: CN) -> dict[str, Any]:
    """The values that differ from the defaults, by full name."""
    plain = dict(_leaves(defaults.default_config()))
    return {key: value for key, value in _leaves(cfg) if plain.get(key) != value}


def _leaves(node: CN, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, CN):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
