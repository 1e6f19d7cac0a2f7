"""Defines the exceptions that end a run with one line."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path
from types import FrameType

from dynamic_atss.quoting import printable

# Characters. A message with paths and a few names is shorter; a name in a file has no limit.
LONGEST_MESSAGE = 4000


class UserError(Exception):
    """Reports a mistake that the user can correct.

    The message states in one line the mistake, its file or entry, and how to correct it.

    The commands print the message without a traceback and end with `exit_code`. Characters that
    cannot be shown, as names in files may have, become escapes.

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
    """Cuts the middle of a message that is too long; the advice at its end stays."""
    half = LONGEST_MESSAGE // 2 - 10
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:half]} [...] {text[-half:]}"


class LostProcessError(UserError):
    """Reports that another process of the run has ended, does not respond, or cannot be reached.

    This is no mistake of the user. The exit code is EX_TEMPFAIL ("try again") of sysexits.h, after
    which a launcher may restart the run.
    """

    exit_code = 75


def described(error: BaseException) -> str:
    """Formats an error in the user's code as "ValueError: <its text> (<file>:<line>)"."""
    place = user_place(error)
    return f"{type(error).__name__}: {error}" + (f" ({place})" if place else "")


def user_place(error: BaseException, excluded: str = "") -> str:
    """Finds the innermost line of the user's code that an error came through, as "<file>:<line>".

    Code that belongs neither to this package, nor to Python or an installed package, is the user's.
    Returns "" if there is none in the traceback.

    Args:
        excluded: a file that does not count as the user's.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    users = [f for f in frames if f.filename != excluded and _is_users(f.filename)]
    return f"{users[-1].filename}:{users[-1].lineno}" if users else ""


def _is_users(file: str) -> bool:
    if file.startswith("<"):  # frozen parts of Python, evaluated texts
        return False
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    others = [Path(__file__).parent, *(Path(sysconfig.get_path(name)) for name in names)]
    return not any(folder.resolve() in Path(file).resolve().parents for folder in others)


def code_place(frame: FrameType | None) -> str:
    """Finds the innermost function of a running stack in this package or in the user's code.

    Returns "<function> (<file>:<line>)", which says what a thread is doing; "" if there is none.
    """
    package = str(Path(__file__).parent)
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(package) or _is_users(code.co_filename):
            return f"{code.co_name} ({Path(code.co_filename).name}:{frame.f_lineno})"
        frame = frame.f_back
    return ""
