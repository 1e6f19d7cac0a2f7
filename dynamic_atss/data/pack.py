"""Packs the tensors of a batch into one buffer, so that one copy moves all of them to a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate

import torch
from torch import Tensor

from dynamic_atss.types import Batch, map_tensors

ALIGNMENT = 64  # bytes: any type may begin there, and so may the widest loads of a processor


def pack(batch: Batch, allocate: Callable[[int], Tensor]) -> Batch:
    """Copies all tensors of a batch into one buffer, and each batch of `scaled` into its own.

    Types, shapes and strides remain, so that images stay channels-last.

    Args:
        allocate: gives memory (bytes,) uint8.
    """
    room: list[int] = []

    def measured(x: Tensor) -> Tensor:
        room.append(-(-x.numel() * x.element_size() // ALIGNMENT) * ALIGNMENT)
        return x

    map_tensors(batch, measured)
    buffer = allocate(sum(room))
    begins = iter([0, *accumulate(room)])
    packed = map_tensors(batch, lambda x: _copied(x, buffer, next(begins)))
    scaled = tuple(pack(other, allocate) for other in batch.scaled)
    return replace(packed, scaled=scaled, buffer=buffer)


def _copied(x: Tensor, buffer: Tensor, begin: int) -> Tensor:
    """Copies a tensor into the buffer, and gives the view of it there."""
    memory = buffer[begin : begin + x.numel() * x.element_size()].view(x.dtype)
    strides = torch.empty_like(x, device="meta").stride()  # those of x, without gaps
    return memory.as_strided(x.shape, strides).copy_(x)


def pinned_bytes(count: int) -> Tensor:
    """Allocates pinned memory (count,) uint8, which a GPU reads while the host goes on."""
    return torch.empty(count, dtype=torch.uint8, pin_memory=True)
