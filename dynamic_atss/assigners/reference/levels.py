"""Levels as operators take them, and the constants that are made of them once: a copy to the device
would wait for it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from dynamic_atss.types import Level


def level_numbers(levels: tuple[Level, ...]) -> list[int]:
    """Height, width and stride of each level, one after the other, as operators take them."""
    return [number for x in levels for number in (x.height, x.width, x.stride)]


def levels_of(numbers: Sequence[int]) -> tuple[Level, ...]:
    """The levels of such a list."""
    return tuple(Level(*numbers[i : i + 3]) for i in range(0, len(numbers), 3))


def anchors_of(numbers: Sequence[int], priors: int) -> int:
    """Anchors at each location of the levels of such a list, where there are so many priors."""
    locations = sum(level.locations for level in levels_of(numbers))
    return priors // locations if locations else 1


@lru_cache(maxsize=64)
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """`values` as a tensor that is made once for each device: to make it waits for the device."""
    return torch.tensor(values, device=device)


class Grid(NamedTuple):
    """Constants of the levels."""

    stride: Tensor  # (L, 1)
    last: Tensor  # (L, 2): the last column and row
    width: Tensor  # (L,)
    first: Tensor  # (L,): index of the level's first location
    locations: int  # of all levels


@lru_cache(maxsize=64)
def grid_of(numbers: tuple[int, ...], device: torch.device) -> Grid:
    levels = levels_of(numbers)
    locations = torch.tensor([level.locations for level in levels])
    return Grid(
        stride=torch.tensor([[float(level.stride)] for level in levels]).to(device),
        last=torch.tensor([[level.width - 1.0, level.height - 1.0] for level in levels]).to(device),
        width=torch.tensor([level.width for level in levels]).to(device),
        first=(locations.cumsum(0) - locations).to(device),
        locations=int(locations.sum()),
    )
