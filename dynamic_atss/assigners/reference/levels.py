"""Converts levels for operators, and caches their constants on the device.

A copy to the device waits for it, so each constant is copied once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from dynamic_atss.types import Level


def level_numbers(levels: tuple[Level, ...]) -> list[int]:
    """Gives height, width and stride of each level in one list, the form that operators take."""
    return [number for x in levels for number in (x.height, x.width, x.stride)]


def levels_of(numbers: Sequence[int]) -> tuple[Level, ...]:
    """Gives the levels of a list of `level_numbers`."""
    return tuple(Level(*numbers[i : i + 3]) for i in range(0, len(numbers), 3))


def anchors_of(numbers: Sequence[int], priors: int) -> int:
    """Gives the number of anchors per location, from `level_numbers` and the number of priors."""
    locations = sum(level.locations for level in levels_of(numbers))
    return priors // locations if locations else 1


@lru_cache(maxsize=64)
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Gives the values as a tensor. Creates it once per device, because that waits for it."""
    return torch.tensor(values, device=device)


class Grid(NamedTuple):
    """Holds constants of L levels."""

    stride: Tensor  # (L, 1)
    last: Tensor  # (L, 2): the last column and row
    width: Tensor  # (L,)
    first: Tensor  # (L,): index of the level's first location
    locations: int  # number of locations of all levels


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
