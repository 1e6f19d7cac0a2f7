"""Compares the data sets of a run.

Finds classes that are never learnt, and files that are in several sets.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from dynamic_atss.data.survey.finding import Finding, several, share
from dynamic_atss.data.survey.survey_input import SurveyInput


def used_classes(data: SurveyInput) -> Counter[str]:
    """Counts the objects of each class."""
    counts = np.bincount(
        data.content.classes[data.objects()], minlength=len(data.content.class_names)
    )
    used: Counter[str] = Counter()
    for name, count in zip(data.content.class_names, counts.tolist(), strict=True):
        used[name] += count  # several classes may have the same name
    return used


def unused_classes(
    sets: Sequence[SurveyInput], tests: Sequence[SurveyInput] = ()
) -> Iterator[Finding]:
    """Finds classes without objects in all training sets, and their objects in test sets."""
    used: Counter[str] = Counter()
    for data in sets:
        used.update(used_classes(data))
    unused = [name for name, count in used.items() if not count]
    if unused:
        in_tests = "".join(_objects_in_test(test, set(unused)) for test in tests)
        yield Finding(
            "warning",
            "unused_class",
            _where(sets),
            len(unused),
            f"{share(len(unused), len(used), 'classes')} without any object ({_names(unused)})"
            f"{in_tests}",
            _unused_advice(sets[0], unused),
        )


def _objects_in_test(test: SurveyInput, unused: set[str]) -> str:
    """Describes, in a sentence, the objects of a test set whose classes are never learnt."""
    counts = [count for name, count in used_classes(test).items() if count and name in unused]
    return (
        f". {test.where} has {several(sum(counts), 'object')} of {len(counts)} of them, which "
        "cannot be found and lower the mean AP"
        if counts
        else ""
    )


def _unused_advice(data: SurveyInput, unused: list[str]) -> str:
    if data.content.class_names[0] in unused and data.content.category_ids[0] == 0:
        return (
            f"category 0, {data.content.class_names[0]!r}, may be the name of the project, which "
            "Roboflow adds: remove it from 'categories'"
        )
    return "the model has outputs for them that learn nothing: remove them, or add objects"


def untrained_classes(train: Sequence[SurveyInput], test: SurveyInput) -> Iterator[Finding]:
    """Finds classes with objects in a test set that no training set has.

    `unused_classes` finds those that a training set has, but without objects.
    """
    known = set().union(*(data.content.class_names for data in train))
    missing = {n: c for n, c in used_classes(test).items() if c and n not in known}
    if train and missing:
        yield Finding(
            "warning",
            "untrained_class",
            test.where,
            len(missing),
            f"{several(len(missing), 'class', 'classes')} with "
            f"{several(sum(missing.values()), 'object')} that the training set does not have "
            f"({_names(list(missing))})",
            "they cannot be found and lower the mean AP: add training images, or remove them",
        )


def without_boxes(test: SurveyInput) -> Iterator[Finding]:
    if not used_classes(test).total():
        yield Finding(
            "warning",
            "nothing_to_score",
            test.where,
            len(test.names),
            f"none of its {len(test.names):,} images has a box, so that the test gives no score",
            "give a test set with annotations, or none (--skip-test)",
        )


def listed_twice(data: SurveyInput) -> Iterator[Finding]:
    repeated = [file for file, count in Counter(data.files()).items() if count > 1]
    if repeated:
        yield Finding(
            "warning",
            "listed_twice",
            data.where,
            len(repeated),
            f"{share(len(repeated), len(data.names), 'files')} listed twice or more, such as "
            f"{repeated[0]!r}",
            "join their entries: an object that only one entry has is background in the other",
        )


def files_in_both(first: SurveyInput, second: SurveyInput, code: str) -> Iterator[Finding]:
    """Finds pictures that are in both data sets. `code` is a key of _IN_BOTH."""
    known = set(first.files())
    common = [file for file in second.files() if file in known]
    if common:
        description, advice = _IN_BOTH[code]
        same = first.where == second.where
        yield Finding(
            "warning",
            code,
            first.where if same else f"{first.where} and {second.where}",
            len(common),
            f"{share(len(common), len(second.names), description)} ({common[0]!r})",
            advice,
        )


# Description and advice for pictures in two training sets, and in a training and a test set.
_IN_BOTH = {
    "trained_twice": (
        "images of the second set are in the first as well",
        "they are trained on twice as often, and an object that only one of the sets has is "
        "background in the other: keep them in one",
    ),
    "shared_files": (
        "test images are trained on as well",
        "the scores say nothing about new pictures: remove them from one of the sets",
    ),
}


def never_found(test: SurveyInput) -> Iterator[Finding]:
    """Finds boxes in a test set that no detection can match.

    The scores count them, as COCO's evaluation does, so that scores can be compared.
    """
    content = test.content
    x, y, w, h = content.xywh.T
    height, width = content.sizes[content.image_index].T
    outside = (x >= width) | (y >= height) | (x + w <= 0) | (y + h <= 0)
    lost = np.isfinite(content.xywh).all(1) & (w >= 0) & (h >= 0) & ~content.crowd
    lost &= outside | (w == 0) | (h == 0)
    if lost.any():
        first = int(np.argmax(lost))
        numbers = ", ".join(f"{v:g}" for v in content.xywh[first])
        yield Finding(
            "warning",
            "never_found",
            test.where,
            int(lost.sum()),
            f"{share(int(lost.sum()), len(lost), 'boxes')} of the test set have no extent in their "
            f"image, such as ({numbers}) of {test.image_of(first)}: no detection can match them, "
            "and they count as missed objects, as in COCO's evaluation",
            "correct them, or remove them",
        )


def together_findings(train: Sequence[SurveyInput], tests: Sequence[SurveyInput]) -> list[Finding]:
    """Compares the training and test sets of a run, and checks the file list of each set."""
    found = [*unused_classes(train, tests)] if train else []
    for pair in itertools.combinations(train, 2):
        found += files_in_both(*pair, "trained_twice")
    for data in (*train, *tests):
        found += listed_twice(data)
    for test in tests:
        found += without_boxes(test)
        found += never_found(test)
        found += untrained_classes(train, test)
        found += [f for data in train for f in files_in_both(data, test, "shared_files")]
    return found


def _where(sets: Sequence[SurveyInput]) -> str:
    return " + ".join(data.where for data in sets)


def _names(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
