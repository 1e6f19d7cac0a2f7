"""What the data sets of a run tell together: classes that are never learnt, files in several."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from dynamic_atss.data.survey.finding import Finding, several, share
from dynamic_atss.data.survey.surveyed import Surveyed


def used_classes(one: Surveyed) -> Counter[str]:
    """How many objects each class has."""
    counts = np.bincount(one.content.classes[one.objects()], minlength=len(one.content.class_names))
    used: Counter[str] = Counter()
    for name, count in zip(one.content.class_names, counts.tolist(), strict=True):
        used[name] += count  # two classes may have one name
    return used


def unused_classes(sets: Sequence[Surveyed], tests: Sequence[Surveyed] = ()) -> Iterator[Finding]:
    """Classes of a training, which may have several sets, that no box has; what the test sets have
    of them."""
    used: Counter[str] = Counter()
    for one in sets:
        used.update(used_classes(one))
    unused = [name for name, count in used.items() if not count]
    if unused:
        tested = "".join(_tested(test, set(unused)) for test in tests)
        yield Finding(
            *("warning", "unused_class", _where(sets), len(unused)),
            f"{share(len(unused), len(used), 'classes')} without any object ({_names(unused)})"
            f"{tested}",
            _mend(sets[0], unused),
        )


def _tested(test: Surveyed, unused: set[str]) -> str:
    """A sentence on the objects of a test set that are of classes which are never learnt."""
    counts = [count for name, count in used_classes(test).items() if count and name in unused]
    return (
        f". {test.where} has {several(sum(counts), 'object')} of {len(counts)} of them, which "
        "cannot be found and lower the mean AP"
        if counts
        else ""
    )


def _mend(one: Surveyed, unused: list[str]) -> str:
    if one.content.class_names[0] in unused and one.content.category_ids[0] == 0:
        return (
            f"category 0, {one.content.class_names[0]!r}, may be the project's name, which "
            "Roboflow writes there: take it out of 'categories'"
        )
    return "the model has an output for them that learns nothing: take them out, or add objects"


def untrained_classes(train: Sequence[Surveyed], test: Surveyed) -> Iterator[Finding]:
    """Classes that a test set has objects of, but no training set knows; those that are known there
    and have no object are told of once, by `unused_classes`."""
    known = set().union(*(one.content.class_names for one in train))
    lacking = {n: c for n, c in used_classes(test).items() if c and n not in known}
    if train and lacking:
        yield Finding(
            *("warning", "untrained_class", test.where, len(lacking)),
            f"{several(len(lacking), 'class', 'classes')} with "
            f"{several(sum(lacking.values()), 'object')} that the training set does not have "
            f"({_names(list(lacking))})",
            "they cannot be found and lower the mean AP: add training images, or take them out",
        )


def without_boxes(test: Surveyed) -> Iterator[Finding]:
    if not used_classes(test).total():
        yield Finding(
            *("warning", "nothing_to_score", test.where, len(test.names)),
            f"none of its {len(test.names):,} images has a box, so that the test gives no score",
            "give a test set with annotations, or none (--skip-test)",
        )


def listed_twice(one: Surveyed) -> Iterator[Finding]:
    twice = [file for file, times in Counter(one.files()).items() if times > 1]
    if twice:
        yield Finding(
            *("warning", "listed_twice", one.where, len(twice)),
            f"{share(len(twice), len(one.names), 'files')} listed twice or more, such as "
            f"{twice[0]!r}",
            "join their entries: an object that only one of them has is background in the other",
        )


def files_in_both(one: Surveyed, other: Surveyed, code: str) -> Iterator[Finding]:
    """Pictures that two data sets have. code: a key of _IN_BOTH"""
    known = set(one.files())
    common = [file for file in other.files() if file in known]
    if common:
        what, advice = _IN_BOTH[code]
        where = one.where if one.where == other.where else f"{one.where} and {other.where}"
        yield Finding(
            *("warning", code, where, len(common)),
            f"{share(len(common), len(other.names), what)} ({common[0]!r})",
            advice,
        )


# What pictures that are in both mean: two training sets, a training set and a test set.
_IN_BOTH = {
    "trained_twice": (
        "images of the latter are in the former, too",
        "they are trained on twice as often, and an object that only one of the sets has is "
        "background in the other: keep them in one",
    ),
    "shared_files": (
        "images to test with that are trained on, too",
        "the scores say nothing about new pictures: take them out of one of the two",
    ),
}


def never_found(test: Surveyed) -> Iterator[Finding]:
    """Objects to test with that no detection can match. COCO's own evaluation counts them, and so
    do the scores here, as numbers would not compare otherwise."""
    content = test.content
    x, y, w, h = content.xywh.T
    height, width = content.sizes[content.image].T
    outside = (x >= width) | (y >= height) | (x + w <= 0) | (y + h <= 0)
    lost = np.isfinite(content.xywh).all(1) & (w >= 0) & (h >= 0) & ~content.crowd
    lost &= outside | (w == 0) | (h == 0)
    if lost.any():
        first = int(np.argmax(lost))
        numbers = ", ".join(f"{v:g}" for v in content.xywh[first])
        yield Finding(
            *("warning", "never_found", test.where, int(lost.sum())),
            f"{share(int(lost.sum()), len(lost), 'boxes')} to test with have no extent in their "
            f"image, such as ({numbers}) of {test.image_of(first)}: no detection can match them, "
            "and they count as missed objects, as in COCO's own evaluation",
            "correct them, or take them out",
        )


def together_findings(train: Sequence[Surveyed], tests: Sequence[Surveyed]) -> list[Finding]:
    """Of the training sets, as one, and the test sets of a run; of each set's list of files."""
    found = [*unused_classes(train, tests)] if train else []
    for pair in itertools.combinations(train, 2):
        found += files_in_both(*pair, "trained_twice")
    for one in (*train, *tests):
        found += listed_twice(one)
    for test in tests:
        found += without_boxes(test)
        found += never_found(test)
        found += untrained_classes(train, test)
        found += [f for one in train for f in files_in_both(one, test, "shared_files")]
    return found


def _where(sets: Sequence[Surveyed]) -> str:
    return " + ".join(one.where for one in sets)


def _names(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
