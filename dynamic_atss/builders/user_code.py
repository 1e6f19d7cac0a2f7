"""Imports, checks and calls the user's code: classes and functions that the configuration names.

A name with a colon, "path/to/file.py:Name" or "module:Name", is code. `config.load` accepts it only
if the command line gave or allowed it.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from dynamic_atss.config.code import names_code
from dynamic_atss.errors import UserError, described, user_place
from dynamic_atss.suggest import nearest


def find(key: str, name: str, known: Mapping[str, Any], *, functions: bool = False) -> Any:
    """Finds what a key of the configuration names: an entry of `known`, or the user's code.

    Args:
        key: the key that the messages state.
        name: a name of `known`, "path/to/file.py:Name" or "module:Name".
        known: the choices of the package, by name.
        functions: accepts functions as well as classes.

    Raises:
        UserError: the name is unknown, or not defined in that file or module.
    """
    if name in known:
        return known[name]
    if not names_code(key, name):
        raise UserError(f"{key} {name!r}: {_accepted(known, name)}")
    place, _, attribute = name.rpartition(":")
    module = _imported(key, name, place)
    found = getattr(module, attribute, None)
    accepted = inspect.isclass(found) or (functions and inspect.isfunction(found))
    if not accepted or not _defined_in(module, found):
        kind = "class or function" if functions else "class"
        raise UserError(
            f"{key} {name!r}: {place} defines no {kind} {attribute}; it has "
            f"{', '.join(_classes(module, functions)) or 'none'}"
        )
    return found


def construct(key: str, name: str, make: Any, /, *given: Any, **arguments: Any) -> Any:
    """Returns make(*given, **arguments). An error of the user's code becomes one line.

    Args:
        key: the section of the arguments, for the messages.

    Raises:
        UserError: `make` fails, or has no argument of such a name.
    """
    _check_names(key, name, make, arguments, len(given))
    try:
        return make(*given, **arguments)
    except UserError:
        raise
    except Exception as error:  # the user's code may raise anything
        reason = described(error) if user_place(error) else error
        raise UserError(f"{key} of {name}: {reason}") from error


def require(
    key: str, name: str, found: Any, base: type, members: Sequence[str], requirement: str
) -> None:
    """Checks that a user's class is a `base` and defines all its methods.

    Args:
        members: names that the class must define.
        requirement: ends the message; states which classes are accepted.

    Raises:
        UserError: states the missing part.
    """
    if not (inspect.isclass(found) and issubclass(found, base)):
        raise UserError(f"{key} {name!r}: is no {base.__module__}.{base.__name__}; {requirement}")
    open_methods = set(getattr(found, "__abstractmethods__", ()))
    # hasattr would find __call__ in every class, because classes can be called.
    defined = {x for ancestor in getattr(found, "__mro__", ()) for x in vars(ancestor)}
    missing = [x for x in members if x not in defined or x in open_methods]
    if issubclass(found, nn.Module) and found.forward is nn.Module.forward:
        missing.append("forward")
    missing += sorted(open_methods - set(missing))
    if missing:
        raise UserError(f"{key} {name!r}: has no {', '.join(missing)}; {requirement}")


def require_call(key: str, name: str, found: Any, count: int, requirement: str) -> None:
    """Checks that a function, or an object of a class, can be called with `count` arguments.

    Reads the signature only: nothing is made or called.

    Args:
        requirement: ends the message; states which calls are accepted.

    Raises:
        UserError: states the missing part.
    """
    call, given = found, [None] * count
    if inspect.isclass(found):
        require(key, name, found, object, ("__call__",), requirement)
        # nn.Module.__call__ accepts anything and passes it to forward.
        method = "forward" if issubclass(found, nn.Module) else "__call__"
        call = getattr(found, method)
        if not isinstance(inspect.getattr_static(found, method), staticmethod | classmethod):
            given.append(None)  # self
    try:
        inspect.signature(call).bind(*given)
    except (TypeError, ValueError) as error:  # ValueError: written in C, without a signature
        raise UserError(
            f"{key} {name!r}: cannot be called with {count} arguments ({error}); {requirement}"
        ) from error


def _accepted(known: Mapping[str, Any], name: str) -> str:
    """Says what to give instead of `name`."""
    code = 'code of your own, as "path/to/file.py:Name" or "module:Name"'
    if not known:
        return f"no such name; give {code}"
    near = nearest(name, known)
    hint = f"; the nearest is {near!r}" if near else ""
    return f"no such name{hint}; accepted are {', '.join(known)}, and {code}"


def _imported(key: str, name: str, place: str) -> Any:
    try:
        return _import(place)
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise UserError(
            f"{key} {name!r}: {place or 'nothing'} cannot be imported ({described(error)}); "
            f"{_advice(place, error)}"
        ) from error


def _advice(place: str, error: BaseException) -> str:
    """Says how to correct an import that failed."""
    if place.endswith(".py") and not Path(place).exists():
        folder = Path(place).parent
        near = nearest(Path(place).name, [file.name for file in folder.glob("*.py")])
        return f"the nearest is {folder / near}" if near else "give the path of the file"
    if not user_place(error):
        return "give the path of the file, as path/to/file.py:Name, or put its folder on PYTHONPATH"
    folder = Path(place).absolute().parent
    missing = (getattr(error, "name", None) or "").partition(".")[0]
    known = isinstance(error, ModuleNotFoundError) and place.endswith(".py") and missing
    if known and ((folder / f"{missing}.py").is_file() or (folder / missing).is_dir()):
        return f"{missing} is in the same folder: set PYTHONPATH={folder}"
    return "correct the file"


def _import(place: str) -> Any:
    """Imports a file by its path, or a module by its dotted name, also from the working folder."""
    if not place.endswith(".py"):
        if "" not in sys.path and str(Path.cwd()) not in sys.path:
            sys.path.append(str(Path.cwd()))
        return importlib.import_module(place)
    name = f"outside_{Path(place).resolve()}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, place)
    if spec is None or spec.loader is None:
        raise ImportError(place)
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded  # dataclasses and pickle look there
    try:
        spec.loader.exec_module(loaded)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return loaded


def _defined_in(module: Any, found: Any) -> bool:
    """Returns True if the module, or a module of its package, defines `found`.

    An object that the module only imports does not count.
    """
    home = getattr(found, "__module__", None)
    return home is not None and (home == module.__name__ or home.startswith(f"{module.__name__}."))


def _classes(module: Any, functions: bool) -> list[str]:
    """Lists the public classes, and with `functions` the functions, that the module defines."""
    return [
        name
        for name, value in vars(module).items()
        if (inspect.isclass(value) or (functions and inspect.isfunction(value)))
        and _defined_in(module, value)
        and not name.startswith("_")
    ]


def _check_names(key: str, name: str, make: Any, arguments: Mapping[str, Any], given: int) -> None:
    try:
        accepted = dict(list(inspect.signature(make).parameters.items())[given:])
    except ValueError:  # a class written in C, without a signature
        return
    if any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
        return
    for argument in arguments:
        if argument not in accepted:
            near = nearest(argument, accepted)
            takes = f"it takes {', '.join(accepted) or 'none'}"
            hint = f"the nearest is {near!r}" if near else takes
            raise UserError(f"{key}.{argument}: {name} has no such argument; {hint}")
