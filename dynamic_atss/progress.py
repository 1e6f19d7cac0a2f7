"""The bar of progress of long work."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

import torch.distributed as dist
from tqdm import tqdm

_T = TypeVar("_T")


def progress(
    iterable: Iterable[_T], label: str, total: int | None = None, *, rank: int | None = None
) -> tqdm[_T]:
    """An iterable that shows a bar with the time left on stderr while it is consumed.

    Silent on ranks other than 0 and where stderr is not a terminal (a log file, a pipe, CI).
    The bar object is returned, so that a caller may add numbers with `set_postfix`.
    rank: None asks torch.distributed.
    """
    if rank is None:
        rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
    silent = rank != 0 or not sys.stderr.isatty()
    return tqdm(iterable, desc=label, total=total, disable=silent, dynamic_ncols=True)
