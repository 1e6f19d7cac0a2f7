"""The exceptions that end a run with one line."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path
from types import FrameType

from dynamic_atss.quoting import printable

LONGEST_MESSAGE = (
    4000  # characters of a message: paths and a few names; a name in a file has no limit
)


class UserError(Exception):
    """A mistake in what the user gave: the message says in one line which file and entry it is, and
    how to correct it.

    The tools print the message without a traceback and end with `exit_code`. Names from files may
    be in it: what cannot be shown stands there as an escape.

    >>> from dynamic_atss import UserError, load
    >>> try:
    ...     load("nowhere.pth")
    ... except UserError as error:
    ...     print(error)
    nowhere.pth: no such weights: ...
    """

    exit_code = 2

    def __init__(self, message: object = "") -> None:
        super().__init__(_shortened(printable(str(message), keep="\n\t")))


def _shortened(text: str) -> str:
    """Without its middle, where it is too long to be read: the advice stands at the end."""
    half = LONGEST_MESSAGE // 2 - 10
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:half]} [...] {text[-half:]}"


class Lost(UserError):
    """Another process of the run has gone, stands still, or cannot be reached: nobody's mistake.

    The exit code is EX_TEMPFAIL of sysexits.h, "try again": launchers may start the run anew.
    """

    exit_code = 75


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


def code_place(frame: FrameType | None) -> str:
    """The innermost function of a running stack that belongs to this package or to the user, as
    "<function> (<file>:<line>)": what a thread is busy with. "" where a function has just ended."""
    package = str(Path(__file__).parent)
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(package) or _is_own(code.co_filename):
            return f"{code.co_name} ({Path(code.co_filename).name}:{frame.f_lineno})"
        frame = frame.f_back
    return ""
