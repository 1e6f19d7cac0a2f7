"""Where the weights stand in a trainer's file, and their names without what wrapped the model."""

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
from dynamic_atss.weights.inert import Skipped

# Keys that trainers put weights under; earlier ones are taken first. Averaged weights come last:
# some trainers (mmengine) keep the trained weights under "ema_state_dict" and the averaged ones
# under "state_dict", so the plain key is the one that the file's own program would test.
KEYS = (
    *("model", "state_dict", "model_state_dict", "model_state", "blobs", "weights", "params"),
    *("net", "network", "module", "model_ema", "ema", "ema_model", "ema_state_dict"),
    *("state_dict_ema", "ema_state", "averaged_model", "params_ema"),
)
# Modules that hold the whole model: data parallel, Lightning, averages.
_OUTER = (
    *("module", "model", "net", "network", "detector", "online_model"),
    *("ema", "ema_model", "model_ema", "averaged_model"),
)
# Modules that torch.compile, FSDP and activation checkpointing put around any part.
_INNER = {"_orig_mod", "_fsdp_wrapped_module", "_fpw_module", "_checkpoint_wrapped_module"}
_DEEPEST = 3  # wrappers within wrappers
_HOW = "save its weights alone: torch.save(model.state_dict(), 'weights.pth')"


@dataclass(frozen=True)
class State:
    """entries, by the file's names · keys, where they stand; () is the top of the file · others,
    where more weights stand · notes, what to tell the user"""

    entries: dict[str, Any]
    keys: tuple[str, ...] = ()
    others: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_state(content: Mapping[str, Any], path: object) -> State:
    """The weights of a file. Raises UserError where there are none by name; it says what is there.

    Weights under one of KEYS, also within each other, come before entries at the top.
    """
    (keys, state), *others = [*_candidates(content), ((), dict(content))]
    if not keys and not _holds_weights(state):
        raise UserError(_why_none(content, path))
    names = [".".join(other) for other, _ in others if other]
    notes = [f"{key} was not read: {what}" for key, what in _unreadable(content).items()]
    if names:
        notes.insert(0, _choice(f"weights under {'.'.join(keys)!r} are taken", names, path))
    return State(state, keys, names, notes)


def _candidates(content: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """(keys, entries) of each dictionary with weights below KEYS, the innermost ones."""
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
        f"{taken}, not those under {', '.join(others)}: MODEL.WEIGHT {path}#{others[0]} for these"
    )


def _unreadable(content: Mapping[str, Any]) -> dict[str, str]:
    """What stands under KEYS and holds no weights by name: key -> what it is."""
    found = {}
    for key in ("", *KEYS):
        value = content.get(key) if key else content
        lists = value.values() if isinstance(value, dict) else [value]
        if isinstance(value, Skipped):
            found[key] = f"a pickled {value.name}, whose own code would have to run; {_HOW}"
        elif any(_is_list_of_weights(item) for item in lists):
            found[key or "its top"] = (
                "a list of weights without names, which no model can be matched with; copy them "
                f"into their model and {_HOW}"
            )
    return found


def _is_list_of_weights(value: Any) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(v, Tensor) for v in value)


def _why_none(content: Mapping[str, Any], path: object) -> str:
    for key, what in _unreadable(content).items():
        return f"{path}: refused: {key} is {what}"
    held = [f"{key} ({what_is(value)})" for key, value in _below_keys(content)]
    shown = ", ".join(held[:4]) + (", ..." if len(held) > 4 else "")
    return f"{path}: refused: holds no weights by name, but {shown or 'nothing'}; {_HOW}"


def _below_keys(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """A file's entries, and those of the dictionaries where weights are looked for."""
    for key, value in content.items():
        if key in KEYS and isinstance(value, dict) and value:
            yield from ((f"{key}.{name}", entry) for name, entry in value.items())
        else:
            yield str(key), value


def what_is(value: Any) -> str:
    """The type of a value, with the class's name if it was not read."""
    return f"a pickled {value.name}" if isinstance(value, Skipped) else f"a {type(value).__name__}"


def refuse_object(content: Any, path: object) -> UserError:
    """The error of a file that is one object, not a dictionary."""
    code = ", whose own code would have to run" if isinstance(content, Skipped) else ""
    what = f"{what_is(content)}, not weights by name{code}"
    return UserError(f"{path}: refused: holds {what}; {_HOW}")


def bare_names(names: Iterable[str], path: object) -> tuple[dict[str, str | None], list[str]]:
    """The file's names -> those within the model, and what to tell of the choice.

    Modules that wrap the whole model go, in any order (`module._orig_mod.model.x` -> `x`). A name
    outside of the wrapper that most names share is None: it belongs to the trainer.
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
    """The outer modules of the names, if more than half of the names are in one."""
    counts = Counter(name.split(".")[0] for name in names if "." in name)
    found = [module for module in _OUTER if module in counts]
    return found if 2 * sum(counts[m] for m in found) > counts.total() else []


def _without_inner(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _INNER)


def bare(name: object) -> str:
    """One name without the modules that wrap parts or all of a published model."""
    plain = _without_inner(str(name))
    while plain.startswith("module."):
        plain = plain.removeprefix("module.")
    return plain


def split_key(path: Path) -> tuple[Path, str]:
    """`file.pth#ema` -> the file and "ema"; "" where nothing is chosen, or a file has that name."""
    name, mark, key = path.name.rpartition("#")
    return (path, "") if not mark or os.path.exists(path) else (path.with_name(name), key)


def choose(content: Any, key: str, path: object) -> Any:
    """The content with the weights under `key` in place of its others. `key`: one of the file's,
    keys within each other as a.b, or a module that wraps the names.

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
