"""Escapes names and texts from files, so that messages, logs, pages and pictures can show them.

A name may contain characters that move the cursor, begin a new line, change the direction of
reading, or exist in no encoding. Each becomes an escape before it reaches a terminal or a file.
"""

from __future__ import annotations

import unicodedata

LONGEST = 200  # characters of a value in a message
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control, format, surrogate, line and paragraph ends
_JOINERS = "\u200c\u200d"  # format characters that Persian and Indian words and emojis need


def printable(text: str, keep: str = "") -> str:
    """Replaces each character that cannot be shown by an escape (\\n, \\x1b, \\u202e).

    Args:
        keep: characters that are not replaced.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or _is_shown(c) else _escape(c) for c in text)


def shown(value: object) -> str:
    """Formats a value by `repr`, with escapes, and cuts it to `LONGEST` characters."""
    try:
        text = printable(repr(value))
    except (ValueError, RecursionError):  # a number of more than 4300 digits
        text = f"a {type(value).__name__} too large to be shown"
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _is_shown(character: str) -> bool:
    return character in _JOINERS or unicodedata.category(character) not in _HIDDEN


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
