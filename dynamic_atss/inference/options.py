"""Checks the options of a call of `Model`. Each message states the accepted values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from torch import Tensor

from dynamic_atss.errors import UserError
from dynamic_atss.suggest import hint

_MIN_TILE = 32
_MAX_OVERLAP = 0.9


def check_options(threshold: Any, tile: Any, overlap: Any, batch: Any) -> None:
    """Raises UserError if an option has a wrong type or is out of range."""
    if not _is_number(threshold, Real) or not 0 <= threshold <= 1:
        raise UserError(f"threshold {threshold!r}: give a score, 0 to 1")
    if not _is_number(tile, Integral) or (tile and tile < _MIN_TILE):
        raise UserError(f"tile {tile!r}: give {_MIN_TILE} pixels or more, or 0 for no tiles")
    if not _is_number(overlap, Real) or not 0 <= overlap <= _MAX_OVERLAP:
        raise UserError(
            f"overlap {overlap!r}: give a fraction of the tile's side, 0 to {_MAX_OVERLAP}"
        )
    if not _is_number(batch, Integral) or batch < 0:
        raise UserError(f"batch {batch!r}: give 1 or more, or 0 for the default")


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def class_indices(classes: Any, names: Sequence[str]) -> list[int] | None:
    """Returns the indices of classes that are given by names or indices; None for all.

    Args:
        classes: one name or index, several of them, or an array or tensor (C,) of them.

    Raises:
        UserError: a class is unknown (states the nearest name), or `classes` is no sequence.
    """
    if classes is None:
        return None
    given = _plain(classes)
    given = [given] if isinstance(given, str | int) else given
    if not isinstance(given, Iterable):
        raise UserError(f'classes {classes!r}: give names or indices, such as ["{names[0]}", 0]')
    return [_index(entry, names) for entry in given]


def _plain(value: Any) -> Any:
    """Converts arrays, tensors and numbers of numpy to lists and numbers of Python."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic | Tensor) else value


def _index(entry: Any, names: Sequence[str]) -> int:
    given = _plain(entry)
    if isinstance(given, str) and given in names:
        return names.index(given)
    number = int(given) if isinstance(given, str) and given.isdecimal() else given
    if _is_number(number, Integral) and 0 <= number < len(names):
        return int(number)
    near = hint(str(given), names, "; the nearest is {}")
    known = near or f"; it has {', '.join(names[:20])}{', ...' if names[20:] else ''}"
    raise UserError(f"classes: the model has no class {given!r}{known}")
