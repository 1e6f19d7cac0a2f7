"""Names of code in a configuration: which they are, who may give them, where their files are."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

from yacs.config import CfgNode as CN

from dynamic_atss.config.kinds import CODE_KEYS, DATA_FORMATS
from dynamic_atss.errors import UserError
from dynamic_atss.suggest import nearest


def names_code(key: str, name: str) -> bool:
    """Whether a name means a file or module of the user's: "file.py:Name" or "module:Name".

    key: of the configuration, or SPEC; only names of data sets may begin with a format, as "coco:"
    """
    formats = DATA_FORMATS if key.startswith(("DATASETS", "SPEC")) else ()
    return ":" in name and name.partition(":")[0] not in formats


def refuse_code(cfg: CN, given: set[str], file: str | Path | None) -> None:
    """Raises UserError for the first key outside of `given` that names code."""
    for key, name in _names(cfg):
        if key not in given:
            raise UserError(
                f"{file}: {key} {name!r} names code, which a file alone does not run: "
                "add --allow-code (in Python allow_code=True) if you trust it, or give "
                f"{key} on the command line"
            )


def refuse_unknown_formats(cfg: CN) -> None:
    """Raises UserError for a data set that begins with nearly the name of a format ("COCO:a:b"),
    which else would be taken for a module of the user's."""
    for key, name in _names(cfg):
        place = name.partition(":")[0] if key.startswith("DATASETS") else ""
        near = nearest(place.lower(), DATA_FORMATS)
        if near and (place.lower() == near or not _is_module(place)):
            raise UserError(
                f"{key} {name!r}: there is no data format {place!r}; the nearest is {near!r}, "
                f"as {near}{name.removeprefix(place)}"
            )


def with_absolute_code(cfg: CN) -> CN:
    """A copy in which files of code have absolute paths: it means the same from any folder."""
    copy = cfg.clone()
    copy.defrost()
    for key in CODE_KEYS:
        section, _, name = key.rpartition(".")
        node, value = _value(copy, section), _value(copy, key)
        one = isinstance(value, str)
        node[name] = _absolute(key, value) if one else type(value)(_absolute(key, x) for x in value)
    return copy


def _absolute(key: str, name: Any) -> Any:
    """The name with the absolute path of its file; all but the names of files as they are."""
    if not isinstance(name, str) or not names_code(key, name) or ".py:" not in name:
        return name
    stem, rest = name.split(".py:", 1)
    return f"{Path(f'{stem}.py').absolute()}:{rest}"


def _names(cfg: CN) -> Iterator[tuple[str, str]]:
    """(key, name) of all code that is named."""
    for key in CODE_KEYS:
        value = _value(cfg, key)
        for name in [value] if isinstance(value, str) else value:
            if isinstance(name, str) and names_code(key, name):
                yield key, name


def _value(cfg: CN, key: str) -> Any:
    return reduce(getattr, key.split("."), cfg)


def _is_module(place: str) -> bool:
    """Whether code may be meant: a path or dotted name, or a module. Nothing is imported."""
    if not place.isidentifier():
        return True
    spec = importlib.util.find_spec(place)
    named = spec is not None and spec.origin is not None  # else a folder of that name
    return named or Path(f"{place}.py").is_file() or Path(place, "__init__.py").is_file()
