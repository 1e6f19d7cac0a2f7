"""Names and texts from files as they may be shown: in a message, a log, a page, a picture.

A name may hold what moves the cursor, begins a new line, turns the direction of reading, or what no
encoding has. None of that reaches a terminal or a file: it stands there as an escape.
"""

from __future__ import annotations

import unicodedata

LONGEST = 200  # characters of a value in a message
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control, format, half pairs, ends of lines
_JOINERS = "\u200c\u200d"  # format characters that Persian and Indian words and emojis need


def printable(text: str, keep: str = "") -> str:
    """The text with an escape (\\n, \\x1b, \\u202e) for each character that cannot be shown.

    keep: characters that stay as they are
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or _is_shown(c) else _escape(c) for c in text)


def shown(value: object) -> str:
    """A value as Python writes it, printable and of a length that can be read."""
    try:
        text = printable(repr(value))
    except (ValueError, RecursionError):  # a number of more than 4300 digits
        text = f"a {type(value).__name__} too large to be shown"
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _is_shown(character: str) -> bool:
    return character in _JOINERS or unicodedata.category(character) not in _HIDDEN


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
