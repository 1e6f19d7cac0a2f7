"""Checks the class names of a data set."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from dynamic_atss.data.survey.finding import Finding
from dynamic_atss.data.survey.survey_input import SurveyInput

_NO_NAMES = ("", "~", "none", "null", "nan")  # values that tools write for a missing name


def repeated_names(data: SurveyInput) -> Iterator[Finding]:
    """Finds classes of the same name."""
    repeated = [name for name, count in Counter(data.content.class_names).items() if count > 1]
    if repeated:
        yield Finding(
            "warning",
            "same_names",
            data.where,
            len(repeated),
            f"{data.content.class_names.count(repeated[0])} classes are called {repeated[0]!r}",
            "they are learnt and scored as separate classes: join them, or rename them",
        )


def similar_names(data: SurveyInput) -> Iterator[Finding]:
    """Finds classes whose names differ only in letter case, blanks or signs."""
    spelt: dict[str, set[str]] = {}
    for name in data.content.class_names:
        spelt.setdefault(re.sub(r"[\s_-]+", "", name).casefold(), set()).add(name)
    found = [sorted(names) for plain, names in spelt.items() if plain and len(names) > 1]
    if found:
        yield Finding(
            "warning",
            "near_names",
            data.where,
            len(found),
            f"classes {' and '.join(map(repr, found[0]))} differ only in letter case, blanks or "
            f"signs{f' ({len(found) - 1} more such names)' if found[1:] else ''}",
            "they are learnt and scored as separate classes: use one name if they are the same",
        )


def unnamed_classes(data: SurveyInput) -> Iterator[Finding]:
    """Finds classes without a real name. A null is read as the text 'None'."""
    names = data.content.class_names
    unnamed = [i for i, name in enumerate(names) if name.strip().lower() in _NO_NAMES]
    if unnamed:
        yield Finding(
            "warning",
            "no_name",
            data.where,
            len(unnamed),
            f"the class of category id {data.content.category_ids[unnamed[0]]} is called "
            f"{names[unnamed[0]]!r}",
            "its name seems to be missing: add it, because results and checkpoints store it",
        )
