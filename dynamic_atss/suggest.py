"""The nearest known name to one that is unknown, for messages."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

CUTOFF = 0.6  # difflib's own: below it a name is more likely something else than a slip


def nearest(name: str, known: Iterable[str], cutoff: float = CUTOFF) -> str | None:
    """The known name that is most alike, in any letter case; None if no one is alike.

    A name may leave out the first parts: "MSRA/R-50" is near to "ImageNetPretrained/MSRA/R-50".
    cutoff: how much has to be alike, 0 to 1; for names with a common ending more than the usual
    """
    parts = len(re.split(r"[./]", name))
    forms: dict[str, str] = {}
    for full in known:
        forms.setdefault(_tail(full, parts).lower(), full)
    forms |= {full.lower(): full for full in list(forms.values())}
    found = difflib.get_close_matches(name.lower(), forms, n=5, cutoff=cutoff)
    return next((forms[f] for f in found if _rests_alike(name.lower(), f, cutoff)), None)


def hint(name: str, known: Iterable[str], text: str) -> str:
    """`text` with the nearest name in place of its "{}"; "" if no name is alike."""
    found = nearest(name, known)
    return text.format(found) if found is not None else ""


def _rests_alike(name: str, other: str, cutoff: float) -> bool:
    """Whether what follows equal first parts is alike: those make any two keys of a section so."""
    parts, others = name.split("."), other.split(".")
    while len(parts) > 1 and len(others) > 1 and parts[0] == others[0]:
        parts, others = parts[1:], others[1:]
    rests = ".".join(others), ".".join(parts)
    return difflib.SequenceMatcher(None, *rests).ratio() >= cutoff


def _tail(name: str, parts: int) -> str:
    """The last parts of a name: those of keys end at dots, those of paths at slashes."""
    starts = [0, *(m.end() for m in re.finditer(r"[./]", name))]
    return name[starts[max(0, len(starts) - parts)] :]
