"""Finds the known name that is nearest to an unknown one, for messages."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path

CUTOFF = 0.6  # difflib's default: a name less similar is probably not a misspelling


def nearest(name: str, known: Iterable[str], cutoff: float = CUTOFF) -> str | None:
    """Gives the known name that is most similar, in any letter case; None if none is similar.

    A name may lack its first parts: "MSRA/R-50" is near to "ImageNetPretrained/MSRA/R-50".

    Args:
        cutoff: the least similarity, 0 to 1. Names with a common ending need a higher one.
    """
    parts = len(re.split(r"[./]", name))
    forms: dict[str, str] = {}
    for full in known:
        forms.setdefault(_tail(full, parts).lower(), full)
    forms |= {full.lower(): full for full in list(forms.values())}
    found = difflib.get_close_matches(name.lower(), forms, n=5, cutoff=cutoff)
    return next((forms[f] for f in found if _ends_similarly(name.lower(), f, cutoff)), None)


def hint(name: str, known: Iterable[str], text: str) -> str:
    """Puts the nearest name in place of "{}" in `text`; "" if no name is similar."""
    found = nearest(name, known)
    return text.format(found) if found is not None else ""


def nearest_path(path: Path) -> Path | None:
    """Gives the existing path that is most similar to a missing one; None if none is similar.

    Only the first missing part of `path` is replaced.
    """
    missing = [path, *path.parents]
    while missing and missing[-1].exists():
        missing.pop()
    if not missing:
        return None
    first = missing[-1]
    try:
        near = nearest(first.name, (file.name for file in first.parent.iterdir()))
    except OSError:  # a file, or a folder that may not be read
        return None
    found = first.parent / near / path.relative_to(first) if near else path
    return found if found.exists() else None


def path_advice(path: Path, otherwise: str = "check the path") -> str:
    """Advises what to do about a path that does not exist, for the end of a message.

    Args:
        otherwise: the advice if no path is similar.
    """
    near = nearest_path(path)
    return f"the nearest is {near}" if near else otherwise


def _ends_similarly(name: str, other: str, cutoff: float) -> bool:
    """Returns True if the names are similar without the first parts that both have.

    All keys of a section have the same first parts.
    """
    parts, others = name.split("."), other.split(".")
    while len(parts) > 1 and len(others) > 1 and parts[0] == others[0]:
        parts, others = parts[1:], others[1:]
    matcher = difflib.SequenceMatcher(None, ".".join(others), ".".join(parts))
    return matcher.ratio() >= cutoff


def _tail(name: str, parts: int) -> str:
    """Gives the last `parts` parts of a name, which end at dots (keys) or slashes (paths)."""
    starts = [0, *(m.end() for m in re.finditer(r"[./]", name))]
    return name[starts[max(0, len(starts) - parts)] :]
