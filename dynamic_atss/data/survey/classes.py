"""What the class names of one data set tell."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from dynamic_atss.data.survey.finding import Finding
from dynamic_atss.data.survey.surveyed import Surveyed

_NO_NAMES = ("", "~", "none", "null", "nan")  # what tools write where they have none


def names_given_twice(one: Surveyed) -> Iterator[Finding]:
    """Classes that share their name."""
    twice = [name for name, times in Counter(one.content.class_names).items() if times > 1]
    if twice:
        yield Finding(
            *("warning", "same_names", one.where, len(twice)),
            f"{one.content.class_names.count(twice[0])} classes are called {twice[0]!r}",
            "each is learnt and scored as a class of its own: join them, or name them apart",
        )


def names_nearly_the_same(one: Surveyed) -> Iterator[Finding]:
    """Classes whose names differ in letter case or in blanks and signs alone."""
    spelt: dict[str, set[str]] = {}
    for name in one.content.class_names:
        spelt.setdefault(re.sub(r"[\s_-]+", "", name).casefold(), set()).add(name)
    found = [sorted(names) for plain, names in spelt.items() if plain and len(names) > 1]
    if found:
        yield Finding(
            *("warning", "near_names", one.where, len(found)),
            f"classes {' and '.join(map(repr, found[0]))} differ in letter case, blanks or signs "
            f"alone{f' ({len(found) - 1} more such names)' if found[1:] else ''}",
            "each is learnt and scored as a class of its own: give them one name if they are one",
        )


def names_that_are_none(one: Surveyed) -> Iterator[Finding]:
    """A null is read as the text 'None'."""
    names = one.content.class_names
    odd = [i for i, name in enumerate(names) if name.strip().lower() in _NO_NAMES]
    if odd:
        yield Finding(
            *("warning", "no_name", one.where, len(odd)),
            f"the class of category id {one.content.category_ids[odd[0]]} is called "
            f"{names[odd[0]]!r}",
            "its name seems to be lacking: write it there, as results and checkpoints carry it",
        )
