"""Reads the meaning of each key from the comments in `defaults.py`, and lists changed keys."""

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
_CONTINUATION = re.compile(r"# (?P<text>.*)")  # a line below the key that continues its meaning


class Key(NamedTuple):
    """Holds a key's default, as `defaults.py` writes it, and its meaning in one line."""

    default: str
    meaning: str


@cache
def keys() -> dict[str, Key]:
    """Gives every key and section by its full name, in the order of `defaults.py`."""
    found: dict[str, Key] = {}
    name = ""  # the key that the next comment continues; a blank line resets it
    for line in Path(defaults.__file__).read_text("utf-8").splitlines():
        if key := _KEY.fullmatch(line):
            name = key["key"]
            found[name] = Key(key["default"], key["meaning"] or "")
        elif name and (comment := _CONTINUATION.fullmatch(line)):
            found[name] = found[name]._replace(meaning=f"{found[name].meaning} {comment['text']}")
        else:
            name = ""
    return {name: key._replace(meaning=_NEW.sub("", key.meaning)) for name, key in found.items()}


def changed(cfg: CN) -> dict[str, Any]:
    """Gives the values that differ from the defaults, by full name."""
    by_default = dict(_leaves(defaults.default_config()))
    return {key: value for key, value in _leaves(cfg) if by_default.get(key) != value}


def _leaves(node: CN, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, CN):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
