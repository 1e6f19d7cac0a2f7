"""The options of a `Model`'s call, checked: each message names what is accepted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

from dynamic_atss.errors import UserError
from dynamic_atss.suggest import hint

_LEAST_TILE = 32
_MOST_OVERLAP = 0.9


def check_options(threshold: Any, tile: Any, overlap: Any, batch: Any) -> None:
    """Raises UserError: an option that cannot be."""
    if not _is_number(threshold, Real) or not 0 <= threshold <= 1:
        raise UserError(f"threshold {threshold!r}: give a score, 0 to 1")
    if not _is_number(tile, Integral) or (tile and tile < _LEAST_TILE):
        raise UserError(f"tile {tile!r}: give {_LEAST_TILE} pixels or more, or 0 for no tiles")
    if not _is_number(overlap, Real) or not 0 <= overlap <= _MOST_OVERLAP:
        raise UserError(
            f"overlap {overlap!r}: give a part of the tile's side, 0 to {_MOST_OVERLAP}"
        )
    if not _is_number(batch, Integral) or batch < 0:
        raise UserError(f"batch {batch!r}: give 1 or more, or 0 for the usual")


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def class_indices(
    classes: Sequence[str | int] | str | int | None, names: Sequence[str]
) -> list[int] | None:
    """Indices of classes that are given by names or indices; None: all.

    Raises:
        UserError: no such class, with the nearest name; no names or indices.
    """
    if classes is None:
        return None
    given = [classes] if isinstance(classes, str | int) else classes
    if not isinstance(given, Iterable):
        raise UserError(f'classes {classes!r}: give names or indices, such as ["{names[0]}", 0]')
    return [_index(one, names) for one in given]


def _index(given: Any, names: Sequence[str]) -> int:
    if isinstance(given, str) and given in names:
        return names.index(given)
    number = int(given) if isinstance(given, str) and given.isdecimal() else given
    if _is_number(number, Integral) and 0 <= number < len(names):
        return int(number)
    near = hint(str(given), names, "; the nearest is {}")
    known = near or f"; it has {', '.join(names[:20])}{', ...' if names[20:] else ''}"
    raise UserError(f"classes: the model has no class {given!r}{known}")
