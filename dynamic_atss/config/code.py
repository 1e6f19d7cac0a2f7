"""Finds names of code in a configuration, and refuses those that only a file gives."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from yacs.config import CfgNode as CN

from dynamic_atss.config.special_keys import CODE_KEYS, DATA_FORMATS
from dynamic_atss.errors import UserError
from dynamic_atss.suggest import nearest


def names_code(key: str, name: str) -> bool:
    """Returns True if `name` is code of the user: "file.py:Name" or "module:Name".

    Args:
        key: the configuration key, or SPEC. Only names of data sets may begin with a format, such
            as "coco:".
    """
    formats = DATA_FORMATS if key.startswith(("DATASETS", "SPEC")) else ()
    return ":" in name and name.partition(":")[0] not in formats


def refuse_code(
    cfg: CN, overridden: set[str], file: str | Path | None, trusted: Sequence[str] = ()
) -> None:
    """Raises UserError for the first key that names code which the user has not named.

    Args:
        overridden: the keys that the command line gives.
        file: the configuration's file, for the message.
        trusted: names of code that the command line gives elsewhere.
    """
    accepted = [_absolute(key, name) for key in CODE_KEYS for name in trusted]
    for key, name in _code_names(cfg):
        if key not in overridden and _absolute(key, name) not in accepted:
            raise UserError(
                f"{file}: {key} {name!r} is code, and code that only a file names does not run: "
                "if you trust it, add --allow-code (in Python allow_code=True)"
            )


def refuse_unknown_formats(cfg: CN) -> None:
    """Raises UserError for a data set whose format is misspelt, such as "COCO:a:b".

    The misspelt format would be taken for a module of the user.
    """
    for key, name in _code_names(cfg):
        if key.startswith("DATASETS"):
            refuse_unknown_format(key, name)


def refuse_unknown_format(key: str, name: str) -> None:
    """Raises UserError if the name of a data set, which names code, has a misspelt format."""
    place = name.partition(":")[0]
    near = nearest(place.lower(), DATA_FORMATS)
    if near and (place.lower() == near or not _is_module(place)):
        raise UserError(
            f"{key} {name!r}: there is no data format {place!r}; the nearest is {near!r}, "
            f"as {near}{name.removeprefix(place)}"
        )


def with_absolute_code(cfg: CN) -> CN:
    """Copies `cfg` with absolute paths of code files, so that it works from any folder."""
    copy = cfg.clone()
    copy.defrost()
    for key in CODE_KEYS:
        section, _, name = key.rpartition(".")
        node, value = _value(copy, section), _value(copy, key)
        if isinstance(value, str):
            node[name] = _absolute(key, value)
        else:
            node[name] = type(value)(_absolute(key, entry) for entry in value)
    return copy


def code_files(cfg: CN) -> list[Path]:
    """Lists the files of code that the configuration names, as absolute paths.

    Leaves out modules.
    """
    names = [name for _, name in _code_names(cfg) if ".py:" in name]
    return [Path(f"{name.split('.py:', 1)[0]}.py").absolute() for name in dict.fromkeys(names)]


def _absolute(key: str, name: Any) -> Any:
    """Makes the path of a code file absolute; returns any other value as it is."""
    if not isinstance(name, str) or not names_code(key, name) or ".py:" not in name:
        return name
    stem, attribute = name.split(".py:", 1)
    return f"{Path(f'{stem}.py').absolute()}:{attribute}"


def _code_names(cfg: CN) -> Iterator[tuple[str, str]]:
    """Yields (key, name) for each name of code in the configuration."""
    for key in CODE_KEYS:
        value = _value(cfg, key)
        for name in [value] if isinstance(value, str) else value:
            if isinstance(name, str) and names_code(key, name):
                yield key, name


def _value(cfg: CN, key: str) -> Any:
    return reduce(getattr, key.split("."), cfg)


def _is_module(place: str) -> bool:
    """Returns True if `place` can be code: a path, a dotted name or a module. Imports nothing."""
    if not place.isidentifier():
        return True
    spec = importlib.util.find_spec(place)
    is_module = spec is not None and spec.origin is not None  # a mere folder has no origin
    return is_module or Path(f"{place}.py").is_file() or Path(place, "__init__.py").is_file()
