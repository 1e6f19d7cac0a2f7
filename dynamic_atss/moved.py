"""Keeps paths and arguments of an earlier release working, with a warning."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


def moved(old: str, new: str) -> Callable[[str], Any]:
    """Makes the `__getattr__` of a module that has moved, which gives the names of `new`.

    Each access warns and names the new path. Only then the new module is imported.
    """

    def find(name: str) -> Any:
        if name.startswith("__"):  # looked up by the import system
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        attribute = getattr(import_module(new), name)
        warnings.warn(
            f"the next release removes {old}: import {name} from {new}",
            DeprecationWarning,
            stacklevel=2,
        )
        return attribute

    return find


def renamed(old: str, new: str) -> property:
    """Makes a read-only attribute `old` that warns and gives the attribute `new`."""

    def get(owner: Any) -> Any:
        warnings.warn(
            f"the next release removes {type(owner).__name__}.{old}: it is called {new}",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(owner, new)

    return property(get)


def extra_was_convention(function: F) -> F:
    """Lets `function` accept the former argument `extra` (1 or 0) instead of `convention`."""

    @wraps(function)
    def wrapper(*args: Any, extra: float | None = None, **kwargs: Any) -> Any:
        if extra is not None:
            from dynamic_atss.boxes import BoxConvention  # here, because `moved` needs no torch

            kwargs["convention"] = BoxConvention(float(extra))
            warnings.warn(
                f"the next release removes {function.__name__}(extra=...): leave it out to "
                "measure by the convention of the boxes, or give a BoxConvention",
                DeprecationWarning,
                stacklevel=2,
            )
        return function(*args, **kwargs)

    return cast(F, wrapper)
