"""Reads lists of names, such as DATASETS.TRAIN, in the forms that people write."""

from __future__ import annotations

import ast
import re

# The beginning of a name of DATASETS. A comma before any other text is part of a path.
_DATA_SET = re.compile(
    r"""\s*['"]?(?:(?:coco|voc|yolo):      # a format
    |[^,]*?\.py:[A-Za-z_]\w*(?=:|\s*['"]?\Z)  # the file of a user's format
    |[A-Za-z_][\w.]*:[A-Za-z_]\w*:            # or its module
    |\w+\s*['"]?\Z)                           # or a catalog name
    """,
    re.VERBOSE,
)
_CODE = re.compile(r".*:")  # the beginning of a name of another key


def names_in(key: str, text: str) -> tuple[object, ...] | None:
    """Reads the names in `text`; None if `text` is another value, such as a number.

    The text is a Python tuple or list, or names separated by commas, with or without quotes and
    brackets. Backslashes belong to paths: "C:\\new" contains no line break.

    Args:
        key: a key of NAME_LISTS, which decides how names begin.
    """
    try:
        value = ast.literal_eval(_doubled(text.strip()))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return tuple(_split(text, _DATA_SET if key.startswith("DATASETS") else _CODE))
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, tuple | list) else None


def missing_bracket(text: str) -> str:
    """Gives the bracket that a list of names lacks at its start or end; "" if none is missing.

    A bracket elsewhere may be part of a path.
    """
    text = text.strip()
    for opening, closing in ("()", "[]"):
        if text.startswith(opening):
            return "" if text.endswith(closing) else closing
    for opening, closing in ("()", "[]"):
        if text.endswith(closing) and text.count(opening) < text.count(closing):
            return opening
    return ""


def _doubled(text: str) -> str:
    r"""Doubles single backslashes, but not those of \\, \' and \"."""
    return re.sub(r"""\\\\|\\['"]|\\""", lambda m: m[0] if len(m[0]) == 2 else "\\\\", text)


def _split(text: str, start: re.Pattern[str]) -> list[str]:
    """Splits `text` at its commas, and rejoins a piece that does not begin like a name."""
    text = text.strip()
    if text[:1] + text[-1:] in ("()", "[]"):
        text = text[1:-1]
    names: list[str] = []
    for piece in text.split(","):
        if names and piece.strip() and not start.match(piece):
            names[-1] += f",{piece}"
        else:
            names.append(piece)
    return [name for name in (n.strip().strip("'\"").strip() for n in names) if name]
