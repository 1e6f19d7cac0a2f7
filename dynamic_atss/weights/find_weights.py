"""Finds the weights in a trainer's file and strips the names of modules that wrap the model."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from dynamic_atss.errors import UserError
from dynamic_atss.weights.safe_pickle import Skipped

# Trainers save weights under these keys. Earlier keys have priority. Keys of averaged weights come
# last, because programs test the weights under the plain key: mmengine saves the averaged weights
# under "state_dict" and the trained ones under "ema_state_dict".
KEYS = tuple(
    "model state_dict model_state_dict model_state blobs weights params net network module "
    "model_ema ema ema_model ema_state_dict state_dict_ema ema_state averaged_model "
    "params_ema".split()
)
# These modules wrap the complete model, for data parallelism, for Lightning or for averages.
_OUTER = tuple(
    "module model net network detector online_model ema ema_model model_ema averaged_model".split()
)
# torch.compile, FSDP and activation checkpointing wrap these modules around any submodule.
_INNER = {"_orig_mod", "_fsdp_wrapped_module", "_fpw_module", "_checkpoint_wrapped_module"}
_DEEPEST = 3  # limit of dictionaries within dictionaries that are searched
_HOW = "save the weights only: torch.save(model.state_dict(), 'weights.pth')"


@dataclass(frozen=True)
class State:
    """Holds the weights of a file.

    Attributes:
        entries: the weights by the file's names.
        keys: the path to them, which is () at the top of the file.
        others: the paths to more weights, as a.b.
        notes: lines for the user.
    """

    entries: dict[str, Any]
    keys: tuple[str, ...] = ()
    others: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_state(content: Mapping[str, Any], path: object) -> State:
    """Finds the weights of a file. Weights under KEYS, also nested, come before those at the top.

    Raises UserError, with the keys of the file, if it has no weights with names.
    """
    (keys, state), *others = [*_candidates(content), ((), dict(content))]
    if not keys and not _holds_weights(state):
        raise UserError(_why_none(content, path))
    names = [".".join(other) for other, _ in others if other]
    notes = [f"{key} was not read: {kind}" for key, kind in _unreadable(content).items()]
    if names:
        notes.insert(0, _choice(f"weights under {'.'.join(keys)!r} are taken", names, path))
    return State(state, keys, names, notes)


def _candidates(content: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """Yields (keys, entries) of each innermost dictionary with weights below KEYS."""
    for key in KEYS if depth < _DEEPEST else ():
        value = content.get(key)
        if isinstance(value, dict):
            inner = list(_candidates(value, depth + 1))
            if inner:
                yield from (((key, *keys), state) for keys, state in inner)
            elif _holds_weights(value):
                yield (key,), value


def _holds_weights(state: Mapping[str, Any]) -> bool:
    return any(isinstance(value, Tensor | np.ndarray) for value in state.values())


def _choice(taken: str, others: list[str], path: object) -> str:
    return (
        f"{taken}, not those under {', '.join(others)}: MODEL.WEIGHT {path}#{others[0]} takes those"
    )


def _unreadable(content: Mapping[str, Any]) -> dict[str, str]:
    """Describes values under KEYS that hold no weights with names, as key -> kind of value."""
    found = {}
    for key in ("", *KEYS):
        value = content.get(key) if key else content
        lists = value.values() if isinstance(value, dict) else [value]
        if isinstance(value, Skipped):
            found[key] = f"a pickled {value.name}, which only its code could unpack; {_HOW}"
        elif any(_is_list_of_weights(item) for item in lists):
            found[key or "its top"] = (
                "a list of weights without names, which cannot be matched with a model; copy them "
                f"into their model and {_HOW}"
            )
    return found


def _is_list_of_weights(value: Any) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(v, Tensor) for v in value)


def _why_none(content: Mapping[str, Any], path: object) -> str:
    for key, kind in _unreadable(content).items():
        return f"{path}: refused: {key} is {kind}"
    held = [f"{key} ({type_name(value)})" for key, value in _below_keys(content)]
    shown = ", ".join(held[:4]) + (", ..." if len(held) > 4 else "")
    return f"{path}: refused: it has no weights with names, but {shown or 'nothing'}; {_HOW}"


def _below_keys(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields a file's entries and those of the dictionaries that are searched for weights."""
    for key, value in content.items():
        if key in KEYS and isinstance(value, dict) and value:
            yield from ((f"{key}.{name}", entry) for name, entry in value.items())
        else:
            yield str(key), value


def type_name(value: Any) -> str:
    """Returns the type of a value. For a `Skipped`, returns the name of its class."""
    return f"a pickled {value.name}" if isinstance(value, Skipped) else f"a {type(value).__name__}"


def refuse_object(content: Any, path: object) -> UserError:
    """Makes the error for a file that holds one object, not a dictionary."""
    code = ", which only its code could unpack" if isinstance(content, Skipped) else ""
    found = f"{type_name(content)}, not weights with names{code}"
    return UserError(f"{path}: refused: it holds {found}; {_HOW}")


def bare_names(names: Iterable[str], path: object) -> tuple[dict[str, str | None], list[str]]:
    """Strips the modules that wrap the model (`module._orig_mod.model.x` -> `x`, in any order).

    Returns file's name -> name in the model, and notes for the user. The value is None for a name
    outside of the wrapper that most names share, because it belongs to the trainer.
    """
    bare: dict[str, str | None] = {str(name): _without_inner(str(name)) for name in names}
    notes: list[str] = []
    while wrappers := _wrappers(name for name in bare.values() if name):
        first, *others = wrappers
        inside = f"{first}."
        for name, now in bare.items():
            bare[name] = now[len(inside) :] if now and now.startswith(inside) else None
        if others:
            notes.append(_choice(f"weights under {first!r} are taken", others, path))
    return bare, notes


def _wrappers(names: Iterable[str]) -> list[str]:
    """Lists the outer modules of the names, if more than half of the names are in such modules."""
    counts = Counter(name.split(".")[0] for name in names if "." in name)
    found = [module for module in _OUTER if module in counts]
    return found if 2 * sum(counts[m] for m in found) > counts.total() else []


def _without_inner(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _INNER)


def bare(name: object) -> str:
    """Strips the modules that wrap a published model, or submodules of it, from one name."""
    stripped = _without_inner(str(name))
    while stripped.startswith("module."):
        stripped = stripped.removeprefix("module.")
    return stripped


def split_key(path: Path) -> tuple[Path, str]:
    """Splits `file.pth#ema` into the file and the key "ema".

    The key is "" if there is none, or if a file of the complete name exists.
    """
    name, mark, key = path.name.rpartition("#")
    return (path, "") if not mark or os.path.exists(path) else (path.with_name(name), key)


def choose(content: Any, key: str, path: object) -> Any:
    """Returns the content with only the weights under `key`.

    Args:
        content: the content of the file.
        key: a key of the file, nested keys as a.b, or a module that wraps the names.
        path: the file, for messages.

    Raises UserError if the file has no such weights.
    """
    if not key:
        return content
    chosen: Any = content
    for part in key.split("."):
        chosen = chosen.get(part) if isinstance(chosen, dict) else None
    if not isinstance(chosen, dict):
        state = find_state(content, path).entries if isinstance(content, dict) else {}
        chosen = {n: v for n, v in state.items() if key in str(n).split(".")[:-1]}
    if not chosen:
        keys = ", ".join(map(str, content)) if isinstance(content, dict) else "none"
        raise UserError(f"{path}#{key}: the file has no weights under {key!r}; its keys: {keys}")
    return {k: v for k, v in content.items() if k not in KEYS} | {"model": chosen}
