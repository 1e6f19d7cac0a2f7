"""Code of the user's: classes and functions that the configuration names by file or module.

A name with a colon, "path/to/file.py:Name" or "module:Name", is code. `config.load` lets it through
only if the command line gave it or allowed it; here it is imported, checked and only then called.
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
    """What a key of the configuration names: an entry of `known`, or a class of the user's.

    Args:
        key: for the messages.
        name: a name of `known`, "path/to/file.py:Name" or "module:Name".
        known: what the package has, by name.
        functions: a function will do as well as a class.

    Raises:
        UserError: there is no such thing, or it is not defined in that file or module.
    """
    if name in known:
        return known[name]
    if not names_code(key, name):
        raise UserError(f"{key} {name!r}: {_accepted(known, name)}")
    place, _, attribute = name.rpartition(":")
    module = _imported(key, name, place)
    found = getattr(module, attribute, None)
    right = inspect.isclass(found) or (functions and inspect.isfunction(found))
    if not right or not _defined_in(module, found):
        what = "class or function" if functions else "class"
        raise UserError(
            f"{key} {name!r}: {place} defines no {what} {attribute}; it has "
            f"{', '.join(_classes(module, functions)) or 'none'}"
        )
    return found


def construct(key: str, name: str, make: Any, /, *given: Any, **arguments: Any) -> Any:
    """make(*given, **arguments), where an error of the user's becomes one line.

    Args:
        key: the section that the arguments come from, for the messages.

    Raises:
        UserError: an argument that `make` does not have, or does not accept.
    """
    _check_names(key, name, make, arguments, len(given))
    try:
        return make(*given, **arguments)
    except UserError:
        raise
    except Exception as error:  # a class of the user's may raise any
        what = described(error) if user_place(error) else error
        raise UserError(f"{key} of {name}: {what}") from error


def require(key: str, name: str, found: Any, base: type, members: Sequence[str], fits: str) -> None:
    """Refuses a class of the user's that is no `base` or leaves a method open.

    Args:
        members: what such a class has to have.
        fits: how the message says what would fit.

    Raises:
        UserError: names what is missing.
    """
    if not (inspect.isclass(found) and issubclass(found, base)):
        raise UserError(f"{key} {name!r}: is no {base.__module__}.{base.__name__}; {fits}")
    open_methods = set(getattr(found, "__abstractmethods__", ()))
    # Of the class itself: every class can be called, which hasattr would count as __call__.
    own = {x for ancestor in getattr(found, "__mro__", ()) for x in vars(ancestor)}
    missing = [x for x in members if x not in own or x in open_methods]
    if issubclass(found, nn.Module) and found.forward is nn.Module.forward:
        missing.append("forward")
    missing += sorted(open_methods - set(missing))
    if missing:
        raise UserError(f"{key} {name!r}: has no {', '.join(missing)}; {fits}")


def require_call(key: str, name: str, found: Any, count: int, fits: str) -> None:
    """Refuses what cannot be called with `count` arguments: a function, or the objects of a class.

    Nothing is made or called for it, so that a function of other arguments never runs.

    Args:
        fits: how the message says what would fit.

    Raises:
        UserError: names what is missing.
    """
    call, given = found, [None] * count
    if inspect.isclass(found):
        require(key, name, found, object, ("__call__",), fits)
        # nn.Module.__call__ takes anything and hands it to forward.
        method = "forward" if issubclass(found, nn.Module) else "__call__"
        call = getattr(found, method)
        if not isinstance(inspect.getattr_static(found, method), staticmethod | classmethod):
            given.append(None)  # self
    try:
        inspect.signature(call).bind(*given)
    except (TypeError, ValueError) as error:  # ValueError: in C, and does not tell
        raise UserError(f"{key} {name!r}: cannot be called so ({error}); {fits}") from error


def _accepted(known: Mapping[str, Any], name: str) -> str:
    """What to give in place of `name`."""
    code = 'code of your own, as "path/to/file.py:Name" or "module:Name"'
    if not known:
        return f"no such name; give {code}"
    near = nearest(name, known)
    hint = f" (the nearest is {near!r})" if near else ""
    return f"accepted are {', '.join(known)}{hint}, and {code}"


def _imported(key: str, name: str, place: str) -> Any:
    try:
        return _import(place)
    except (Exception, SystemExit) as error:  # the user's file may do anything
        raise UserError(
            f"{key} {name!r}: {place or 'nothing'} cannot be imported ({described(error)}); "
            f"{_advice(place, error)}"
        ) from error


def _advice(place: str, error: BaseException) -> str:
    """What to do about an import that failed."""
    if not user_place(error):
        return "give the path of the file, as path/to/file.py:Name, or put its folder on PYTHONPATH"
    folder = Path(place).absolute().parent
    missing = (getattr(error, "name", None) or "").partition(".")[0]
    known = isinstance(error, ModuleNotFoundError) and place.endswith(".py") and missing
    if known and ((folder / f"{missing}.py").is_file() or (folder / missing).is_dir()):
        return f"{missing} stands beside it: set PYTHONPATH={folder}"
    return "correct the file"


def _import(place: str) -> Any:
    """A module by its dotted name, from the working directory too, or by the path of its file."""
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
    """Not merely imported there; what a package takes from its own modules counts as its own."""
    home = getattr(found, "__module__", None)
    return home is not None and (home == module.__name__ or home.startswith(f"{module.__name__}."))


def _classes(module: Any, functions: bool) -> list[str]:
    """The names of what the module defines and would do."""
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
    except ValueError:  # a class in C that does not tell
        return
    if any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
        return
    for argument in arguments:
        if argument not in accepted:
            near = nearest(argument, accepted)
            takes = f"it takes {', '.join(accepted) or 'none'}"
            hint = f"the nearest is {near!r}" if near else takes
            raise UserError(f"{key}.{argument}: {name} has no such argument; {hint}")
