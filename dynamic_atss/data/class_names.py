"""The class names of data sets that belong together: those of a run, and a model's."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Protocol

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
            first_name = next(iter(lacking))
            name = f"'{first_name}'"
            names = name if len(lacking) == 1 else f"{name} and {len(lacking) - 1} others"
            raise UserError(
                f"{two.annotations}: lacks class {names} of {one.annotations}"
                f"{_spelt(first_name, two.class_names)}: {_RULE}; {two.class_advice}"
            )
    _check_once(other.annotations, first.class_names)


def _spelt(name: str, others: Sequence[str]) -> str:
    """Which of other names is the same one in another spelling, in words; "" if none is."""
    for difference, is_same in _SPELLINGS:
        same = [other for other in others if is_same(name, other)]
        if same:
            return f", but has '{same[0]}', which differs in {difference} alone"
    return ""


def _letters(name: str) -> str:
    return re.sub(r"[\W_]+", "", name)


def _bare(name: str) -> str:
    return _letters(name).casefold()


def _one_is_plural(name: str, other: str) -> bool:
    short, long = sorted((_bare(name), _bare(other)), key=len)
    return long in (f"{short}s", f"{short}es", f"{short[:-1]}ies")


# From the least difference on.
_SPELLINGS: tuple[tuple[str, Callable[[str, str], bool]], ...] = (
    ("letter case", lambda a, b: a.casefold() == b.casefold()),
    ("blanks and signs", lambda a, b: _letters(a) == _letters(b)),
    ("letter case, blanks and signs", lambda a, b: _bare(a) == _bare(b)),
    ("its plural", _one_is_plural),
)


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
        name = (wanted or lacking)[0]
        near = _spelt(name, model) or hint(name, model, "; the nearest is '{}'")
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


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first names, as messages show them."""
    return ", ".join(map(repr, names[:most])) + (", ..." if len(names) > most else "")
