"""Compares the class names of the data sets of a run, and of a data set and a model."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from dynamic_atss.data.annotations import Annotations
from dynamic_atss.errors import UserError
from dynamic_atss.suggest import hint

logger = logging.getLogger(__name__)
_RULE = "the data sets of a run need the same class names"


class Named(Protocol):
    """Lists the members of a data set that messages use."""

    class_names: list[str]

    @property
    def annotations(self) -> Path | str: ...

    @property
    def class_advice(self) -> str: ...


def check_same(first: Named, other: Named) -> None:
    """Raises UserError unless both have the same class names, each once."""
    for left, right in ((first, other), (other, first)):
        missing = Counter(left.class_names) - Counter(right.class_names)
        if missing:
            name = next(iter(missing))
            others = "" if len(missing) == 1 else f" and {len(missing) - 1} others"
            raise UserError(
                f"{right.annotations}: lacks class '{name}'{others} of {left.annotations}"
                f"{_similar_name(name, right.class_names)}: {_RULE}; {right.class_advice}"
            )
    _check_once(other.annotations, first.class_names)


def _similar_name(name: str, others: Sequence[str]) -> str:
    """Says which of the other names is a spelling of `name`. Returns "" if none is."""
    for difference, is_same in _SPELLINGS:
        same = [other for other in others if is_same(name, other)]
        if same:
            return f", but has '{same[0]}', which differs only in {difference}"
    return ""


def _letters(name: str) -> str:
    return re.sub(r"[\W_]+", "", name)


def _bare(name: str) -> str:
    return _letters(name).casefold()


def _one_is_plural(name: str, other: str) -> bool:
    short, long = sorted((_bare(name), _bare(other)), key=len)
    return long in (f"{short}s", f"{short}es", f"{short[:-1]}ies")


# Sorted from the smallest difference to the largest.
_SPELLINGS: tuple[tuple[str, Callable[[str, str], bool]], ...] = (
    ("letter case", lambda a, b: a.casefold() == b.casefold()),
    ("blanks and signs", lambda a, b: _letters(a) == _letters(b)),
    ("letter case, blanks and signs", lambda a, b: _bare(a) == _bare(b)),
    ("its plural", _one_is_plural),
)


def _check_once(source: Path | str, names: Sequence[str]) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise UserError(f"{source}: class '{repeated[0]}' occurs twice: {_RULE}, each once")


def check_known(
    source: Path | str,
    in_test_set: Sequence[str],
    with_boxes: Collection[str],
    in_model: Sequence[str],
) -> None:
    """Compares the classes of a test set with those of a model and logs differences.

    Args:
        source: the annotations of the test set, for messages.
        in_test_set: the classes of the test set.
        with_boxes: the classes of the test set that have boxes.
        in_model: the classes of the model.

    Raises UserError if the model lacks a class that has boxes, or all classes.
    """
    for names in (in_test_set, in_model):
        _check_once(source, names)
    missing = [name for name in in_test_set if name not in set(in_model)]
    others = [name for name in in_model if name not in set(in_test_set)]
    missing_with_boxes = [name for name in missing if name in with_boxes]
    if missing_with_boxes or len(missing) == len(in_test_set):
        names = missing_with_boxes or missing
        near = _similar_name(names[0], in_model) or hint(
            names[0], in_model, "; the nearest is '{}'"
        )
        raise UserError(
            f"{source}: the model has no class {listed(names)}{near}: it has "
            f"{listed(in_model)}; correct the name, remove its boxes, or use another test set"
        )
    if missing:
        text = "%s: the model has no class %s, which has no boxes in this test set"
        logger.info(text, source, listed(missing))
    if others:
        logger.info(
            "%s: has %d of the model's %d classes and is scored on these; detections of the others "
            "are left out (%s)",
            source,
            len(in_model) - len(others),
            len(in_model),
            listed(others),
        )


def unused_classes(content: Annotations) -> str:
    """Lists the classes without boxes, for the log. Returns "" if there are none."""
    names = content.class_names
    counts = np.bincount(content.classes, minlength=len(names))
    unused = [name for name, count in zip(names, counts, strict=True) if not count]
    return f"{len(unused)} of {len(names)} classes have no box: {listed(unused)}" if unused else ""


def listed(names: Sequence[str], most: int = 5) -> str:
    """Lists the first `most` names, quoted, for a message."""
    return ", ".join(map(repr, names[:most])) + (", ..." if len(names) > most else "")
