"""Paths and arguments of an earlier release, which work with a warning."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


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


def extra_was_convention(function: F) -> F:
    """The function, which also takes `extra` (1 or 0) in place of `convention`."""

    @wraps(function)
    def called(*args: Any, extra: float | None = None, **more: Any) -> Any:
        if extra is not None:
            from dynamic_atss.boxes import BoxConvention  # not for old paths, which cost nothing

            more["convention"] = BoxConvention(float(extra))
            warnings.warn(
                f"{function.__name__}(extra=...) goes with the next release: leave it out to "
                "measure by the convention of the boxes, or give a BoxConvention",
                DeprecationWarning,
                stacklevel=2,
            )
        return function(*args, **more)

    return cast(F, called)
