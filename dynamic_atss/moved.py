"""Paths that code was imported from in an earlier release."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any


def moved(old: str, new: str) -> Callable[[str], Any]:
    """The `__getattr__` of a module that moved: what it is asked for comes from `new`.

    Each access warns with the new path. The new module is imported only then.
    """

    def find(name: str) -> Any:
        if name.startswith("__"):  # what the import system asks for
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        found = getattr(import_module(new), name)
        warnings.warn(
            f"{old} goes with the next release: import {name} from {new}",
            DeprecationWarning,
            stacklevel=2,
        )
        return found

    return find
