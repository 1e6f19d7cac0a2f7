"""Loads a YAML file and command-line overrides into one checked, frozen configuration."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode as CN

from dynamic_atss.config.code import refuse_code, refuse_unknown_formats
from dynamic_atss.config.data_names import refuse_miswritten
from dynamic_atss.config.defaults import default_config
from dynamic_atss.config.files import advice, config_path
from dynamic_atss.config.names import missing_bracket, names_in
from dynamic_atss.config.other_names import other_name
from dynamic_atss.config.special_keys import FREE_SECTIONS, NAME_LISTS, WITHOUT_EFFECT
from dynamic_atss.errors import UserError
from dynamic_atss.quoting import printable, shown
from dynamic_atss.reading import YAML_BYTES, read_text
from dynamic_atss.suggest import nearest
from dynamic_atss.yaml_text import load_yaml


def load_config(
    file: str | Path | None = None, overrides: Sequence[str] = (), *, allow_code: bool = False
) -> CN:
    """Applies the YAML `file`, then `KEY VALUE KEY VALUE ...`, to the defaults. Freezes the result.

    If a `file` "configs/..." does not exist, the file of that name in the package is read. Keys of
    two-stage models are accepted and left out; `keys_without_effect` lists them.

    Args:
        file: a YAML file; None: only the defaults.
        overrides: keys and their values, alternating.
        allow_code: accepts names of code in the file. Otherwise a name of code is accepted only
            from `overrides`, so that reading a file does not decide which code runs.

    Raises:
        UserError: the file is missing or broken, a key is unknown, a value has a wrong type, or
            only the file names some code.
    """
    file = config_path(file) if file else None
    entries = _file_entries(file) if file else []
    return _checked(entries, str(file), overrides, allow_code)


def parse_config(
    text: str, source: str, overrides: Sequence[str] = (), *, allow_code: bool = False
) -> CN:
    """Does the same as `load_config` for a YAML text, such as that in a checkpoint.

    Args:
        source: the name of the text in messages.

    Raises:
        UserError: as `load_config`.
    """
    return _checked(_text_entries(text, source), source, overrides, allow_code)


def _checked(
    given: Sequence[tuple[str, Any]], source: str, overrides: Sequence[str], allow_code: bool
) -> CN:
    cfg, defaults = default_config(), default_config()
    entries = [(k, v, source) for k, v in given]
    entries += [(k, v, "command line") for k, v in _override_entries(overrides)]
    unused = {key for key, value, where in entries if not _set(cfg, defaults, key, value, where)}
    for key in unused:
        cfg.register_deprecated_key(key)
    for key in ("DATASETS.TRAIN", "DATASETS.TEST"):
        refuse_miswritten(key, _look_up(cfg, key))
    refuse_unknown_formats(cfg)
    if not allow_code:
        refuse_code(cfg, set(overrides[::2]), source)
    cfg.freeze()
    return cfg


def keys_without_effect(cfg: CN) -> list[str]:
    """Lists the keys of two-stage models that `load_config` has left out of `cfg`."""
    return sorted(cfg.__dict__[CN.DEPRECATED_KEYS])


def known_keys(node: CN, prefix: str = "") -> Iterator[str]:
    """Yields the full names of all keys below `node`."""
    for name, value in node.items():
        if isinstance(value, CN):
            yield from known_keys(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def _file_entries(file: str | Path) -> list[tuple[str, Any]]:
    try:
        text = read_text(file, YAML_BYTES)
    except OSError as error:
        raise UserError(f"--config-file {file}: {error.strerror}; {advice(file)}") from None
    except ValueError as error:
        raise UserError(f"{file}: not a YAML file: {error}") from None
    return _text_entries(text, str(file))


def _text_entries(text: str, source: str) -> list[tuple[str, Any]]:
    try:
        tree = load_yaml(text)
    except ValueError as error:
        raise UserError(f"{source}: not a YAML file: {error}") from None
    if not isinstance(tree, dict | None):
        raise UserError(
            f"{source}: expected KEY: VALUE pairs at the top, found {type(tree).__name__}"
        )
    return list(_leaves(tree or {}))


def _leaves(tree: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        elif value is not None:  # `SECTION:` with nothing below it sets nothing
            yield f"{prefix}{name}", value


def _override_entries(overrides: Sequence[str]) -> list[tuple[str, str]]:
    keys = {*known_keys(default_config())}
    for word, value in zip(overrides[::2], [*overrides[1::2], None], strict=False):
        if word.partition("=")[0] in keys and "=" in word:
            key, _, given = word.partition("=")
            raise UserError(f"command line: {word}: write {key} {given}, without the =")
        if value is None:
            raise UserError(
                f"command line: {word!r} has no value; give KEY VALUE pairs, and join several "
                "values of one key by commas, without spaces"
            )
    return list(zip(overrides[::2], overrides[1::2], strict=True))


def _set(cfg: CN, defaults: CN, key: str, value: Any, source: str) -> bool:
    """Sets one key. Returns False if the key is accepted without effect."""
    if any(key == name or key.startswith(name + ".") for name in WITHOUT_EFFECT):
        return False
    section, _, name = key.rpartition(".")
    if section in FREE_SECTIONS:
        _look_up(cfg, section)[name] = decoded(value) if isinstance(value, str) else value
        return True
    default = _look_up(defaults, key)
    if default is None:
        raise UserError(f"{source}: unknown key {printable(key)}; {_advice(key, defaults)}")
    if isinstance(default, CN):
        raise UserError(f"{source}: {key} is a section, not a key; set one of its keys")
    (_look_up(cfg, section) if section else cfg)[name] = _coerce(value, default, key, source)
    return True


def _advice(key: str, defaults: CN) -> str:
    """Says what to write instead of an unknown key."""
    if name := other_name(key):
        return f"here it is {name}"
    near = nearest(key, known_keys(defaults))
    return f"the nearest is {near}" if near else "dynamic_atss/config/defaults.py lists all"


def _look_up(cfg: CN, key: str) -> Any:
    """Gives the value or section of a full name; None if there is none (no default is None)."""
    node: Any = cfg
    for name in key.split("."):
        node = node.get(name) if isinstance(node, CN) else None
    return node


def _coerce(value: Any, default: Any, key: str, source: str) -> Any:
    """Converts `value` to the type of the default. Texts may come from YAML files, too."""
    if isinstance(value, str) and not isinstance(default, str):
        value = _names(key, value, source) if key in NAME_LISTS else decoded(value)
    try:
        return _as(default, value)
    except (TypeError, OverflowError):  # an integer that no float holds
        wanted = _type_name(default)
        wanted += "" if isinstance(default, bool) else f" such as {default!r}"
        got = f"{type(value).__name__} {shown(value)}"
        raise UserError(f"{source}: {key} wants {wanted}, got {got}") from None


def _names(key: str, text: str, source: str) -> Any:
    if bracket := missing_bracket(text):
        raise UserError(f"{source}: {key} {text!r}: add the missing bracket {bracket!r}")
    names = names_in(key, text)
    return text if names is None else names


def decoded(text: str) -> Any:
    """Evaluates the Python literal in `text`; returns `text` if it is no literal."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _as(default: Any, value: Any) -> Any:
    """Converts `value` to the type of `default`, entry by entry.

    Examples: 1 -> 1.0, [1] -> (1,), 9e4 -> 90000. A single number becomes the only entry:
    800 -> (800,).

    Entries are not checked if the default is empty: `check_config` checks them.

    Raises:
        TypeError: the types do not match.
        OverflowError: no float can hold the integer.
    """
    if isinstance(default, tuple | list) and isinstance(value, tuple | list):
        return type(default)(_as(default[0], entry) if default else entry for entry in value)
    if default and isinstance(default, tuple | list) and type(value) in (int, float):
        return type(default)([_as(default[0], value)])
    if type(value) is int:
        float(value)  # raises OverflowError for an integer too long to print
    if type(value) is type(default):
        return value
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if type(default) is int and isinstance(value, float) and value.is_integer():
        return int(value)
    raise TypeError


def _type_name(value: Any) -> str:
    return {str: "a text", bool: "True or False", int: "an integer", float: "a number"}.get(
        type(value), f"a {type(value).__name__}"
    )
