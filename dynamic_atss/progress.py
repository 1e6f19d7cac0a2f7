"""Shows a progress bar for long work."""

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
    """Wraps `iterable` so that a bar on stderr shows the progress and the time left.

    The bar is hidden on ranks other than 0 and where stderr is not a terminal (a log file, a pipe,
    CI). The caller may add numbers with `set_postfix`.

    Args:
        rank: the rank of this process; None: as torch.distributed says.
    """
    if rank is None:
        rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
    silent = rank != 0 or not sys.stderr.isatty()
    return tqdm(iterable, desc=label, total=total, disable=silent, dynamic_ncols=True)
