"""The one exception for what a user can correct."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

from dynamic_atss.quoting import printable


class UserError(Exception):
    """A mistake in what the user gave: the message says in one line which file and entry it is, and
    how to correct it.

    The tools print the message without a traceback and end with exit code 2. Names from files may
    be in it: what cannot be shown stands there as an escape.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(printable(str(message), keep="\n\t"))


def described(error: BaseException) -> str:
    """An error in code of the user's, as "ValueError: <its text> (<file>:<line>)"."""
    place = own_place(error)
    return f"{type(error).__name__}: {error}" + (f" ({place})" if place else "")


def own_place(error: BaseException, but: str = "") -> str:
    """Where in code of the user's an error was raised, as "<file>:<line>"; "" if it was not.

    The user's is what belongs neither to this package nor to Python or an installed package; of
    several such calls the innermost counts. but: a file that does not count
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename != but and _is_own(frame.filename)]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else ""


def _is_own(file: str) -> bool:
    if file.startswith("<"):  # frozen parts of Python, evaluated texts
        return False
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    others = [Path(__file__).parent, *(Path(sysconfig.get_path(name)) for name in names)]
    return not any(folder.resolve() in Path(file).resolve().parents for folder in others)
