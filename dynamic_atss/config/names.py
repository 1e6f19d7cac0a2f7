"""Lists of names, such as DATASETS.TRAIN, in the ways that people write them."""

from __future__ import annotations

import ast
import re

# What a name of DATASETS begins with. A comma elsewhere belongs to a path.
_DATA_SET = re.compile(
    r"""\s*['"]?(?:(?:coco|voc|yolo):      # a format
    |[^,]*?\.py:[A-Za-z_]\w*(?=:|\s*['"]?\Z)  # the file of a format of one's own
    |[A-Za-z_][\w.]*:[A-Za-z_]\w*:            # or its module
    |\w+\s*['"]?\Z)                           # or a catalog name
    """,
    re.VERBOSE,
)
_CODE = re.compile(r".*:")  # what a name of another key begins with


def names_in(key: str, text: str) -> tuple[object, ...] | None:
    """The names in a text: a Python tuple or list, or names with commas between them, with quotes
    and brackets or without. None for a text that is another value, such as a number.

    key: of NAME_LISTS, which says what its names look like

    Backslashes are those of paths: "C:\\new" has no line break.
    """
    try:
        value = ast.literal_eval(_doubled(text.strip()))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return tuple(_split(text, _DATA_SET if key.startswith("DATASETS") else _CODE))
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, tuple | list) else None


def missing_bracket(text: str) -> str:
    """The bracket that a list of names lacks at its start or its end; "" if it lacks none.

    A bracket elsewhere may belong to a path.
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
    r"""Single backslashes doubled, but for those of \\, \' and \"."""
    return re.sub(r"""\\\\|\\['"]|\\""", lambda m: m[0] if len(m[0]) == 2 else "\\\\", text)


def _split(text: str, start: re.Pattern[str]) -> list[str]:
    """The pieces between commas; one that begins like no name is a part of the one before."""
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
