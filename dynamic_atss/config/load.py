"""YAML file + command-line overrides -> one checked, frozen configuration."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode as CN

from dynamic_atss.config.defaults import WITHOUT_EFFECT, default_config
from dynamic_atss.errors import UserError

logger = logging.getLogger(__name__)


def load_config(file: str | Path | None = None, overrides: Sequence[str] = ()) -> CN:
    """The defaults, then the YAML `file`, then `KEY VALUE KEY VALUE ...`; frozen.

    Raises:
        UserError: file missing or broken, key unknown (names the nearest one), value of a wrong
        type.
    """
    cfg = default_config()
    entries = [(k, v, str(file)) for k, v in _file_entries(file)] if file else []
    entries += [(k, v, "command line") for k, v in _override_entries(overrides)]
    unused = [key for key, value, source in entries if not _set(cfg, key, value, source)]
    if unused:
        logger.warning("Accepted without effect (keys of two-stage models): %s", ", ".join(unused))
    cfg.freeze()
    return cfg


def known_keys(node: CN, prefix: str = "") -> Iterator[str]:
    """Full names of all leaves below `node`."""
    for name, value in node.items():
        if isinstance(value, CN):
            yield from known_keys(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def _file_entries(file: str | Path) -> list[tuple[str, Any]]:
    try:
        tree = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"--config-file {file}: {error.strerror}; give the path of a YAML file"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: not a YAML file: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict | None):
        raise UserError(
            f"{file}: expected KEY: VALUE pairs at the top, found {type(tree).__name__}"
        )
    return list(_leaves(tree or {}))


def _leaves(tree: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        elif value is not None:  # `SECTION:` with nothing below it sets nothing
            yield f"{prefix}{name}", value


def _override_entries(overrides: Sequence[str]) -> list[tuple[str, str]]:
    if len(overrides) % 2:
        raise UserError(
            f"command line: {overrides[-1]!r} has no value; overrides are KEY VALUE pairs"
        )
    return list(zip(overrides[::2], overrides[1::2], strict=True))


def _set(cfg: CN, key: str, value: Any, source: str) -> bool:
    """Sets one key; False if it is one of those that are accepted without effect."""
    if any(key == name or key.startswith(name + ".") for name in WITHOUT_EFFECT):
        return False
    *sections, name = key.split(".")
    node = cfg
    for section in sections:
        node = node.get(section) if isinstance(node, CN) else None
    if not isinstance(node, CN) or name not in node:
        raise UserError(f"{source}: unknown key {key}{_nearest(key, list(known_keys(cfg)))}")
    if isinstance(node[name], CN):
        raise UserError(f"{source}: {key} is a section, not a key; set one of its keys")
    node[name] = _coerce(value, node[name], key, source)
    return True


def _nearest(key: str, keys: list[str]) -> str:
    found = difflib.get_close_matches(key, keys, n=1, cutoff=0.0)
    return f"; the nearest is {found[0]}" if found else ""


def _coerce(value: Any, default: Any, key: str, source: str) -> Any:
    """`value` in the type of the default: "(1, 2)" -> tuple, 1 -> 1.0, [1] -> (1,)."""
    if isinstance(
        value, str
    ):  # tuples come as strings from YAML, and everything from the command line
        value = value if isinstance(default, str) else CN._decode_cfg_value(value)
    if type(value) is type(default):
        return value
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if type(default) is int and isinstance(value, float) and value.is_integer():
        return int(value)  # 9e4 is how people write 90000
    if isinstance(default, tuple | list) and isinstance(value, tuple | list):
        return type(default)(value)
    raise UserError(
        f"{source}: {key} wants {_type_name(default)} such as {default!r}, "
        f"got {type(value).__name__} {value!r}"
    )


def _type_name(value: Any) -> str:
    return {str: "a text", bool: "True or False", int: "an integer", float: "a number"}.get(
        type(value), f"a {type(value).__name__}"
    )
