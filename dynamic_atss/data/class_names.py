"""The class names of data sets that belong together: those of a run, and a model's."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from dynamic_atss.data.annotations import Annotations
from dynamic_atss.errors import UserError
from dynamic_atss.suggest import hint

logger = logging.getLogger(__name__)
_RULE = "the data sets of a run need the same class names"


class Named(Protocol):
    """What messages read of a data set."""

    class_names: list[str]

    @property
    def annotations(self) -> Path | str: ...

    @property
    def class_advice(self) -> str: ...


def check_same(first: Named, other: Named) -> None:
    """Raises UserError: the two do not have the same class names, each once."""
    for one, two in ((first, other), (other, first)):
        lacking = Counter(one.class_names) - Counter(two.class_names)
        if lacking:
            name = f"'{next(iter(lacking))}'"
            names = name if len(lacking) == 1 else f"{name} and {len(lacking) - 1} others"
            raise UserError(
                f"{two.annotations}: lacks class {names} of {one.annotations}: {_RULE}; "
                f"{two.class_advice}"
            )
    _check_once(other.annotations, first.class_names)


def _check_once(source: Path | str, names: Sequence[str]) -> None:
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise UserError(f"{source}: class '{twice[0]}' is there twice: {_RULE}, once")


def check_known(
    source: Path | str,
    own: Sequence[str],
    with_boxes: Collection[str],
    model: Sequence[str],
) -> None:
    """Tells how the classes of a test set differ from those of the model that it tests.

    own: of the test set · with_boxes: those of them that have any

    Raises UserError: the model lacks a class that has boxes, or all classes.
    """
    for names in (own, model):
        _check_once(source, names)
    lacking = [name for name in own if name not in set(model)]
    others = [name for name in model if name not in set(own)]
    wanted = [name for name in lacking if name in with_boxes]
    if wanted or len(lacking) == len(own):
        near = hint((wanted or lacking)[0], model, "; the nearest is '{}'")
        raise UserError(
            f"{source}: the model has no class {listed(wanted or lacking)}{near}: it has "
            f"{listed(model)}; correct the name, leave its boxes out, or take another test set"
        )
    if lacking:
        text = "%s: the model has no class %s, which has no box here either"
        logger.info(text, source, listed(lacking))
    if others:
        logger.info(
            "%s: has %d of the model's %d classes and is scored on these; detections of the others "
            "are left out (%s)",
            *(source, len(model) - len(others), len(model), listed(others)),
        )


def unused_classes(content: Annotations) -> str:
    """The classes without any annotation, in words; "" if there are none."""
    names = content.class_names
    counts = np.bincount(content.classes, minlength=len(names))
    unused = [name for name, count in zip(names, counts, strict=True) if not count]
    if not unused:
        return ""
    return (
        f"{len(unused)} of its {len(names)} classes have no annotation ({listed(unused)}): they "
        "count as classes, and nothing is learnt of them from it. Take out those that are none, "
        "such as a project's name"
    )


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first names, as messages show them."""
    return ", ".join(map(repr, names[:most])) + (", ..." if len(names) > most else "")
