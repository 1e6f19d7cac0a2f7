"""Provides the base class of bodies whose first parts do not learn."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class FrozenParts(nn.Module):
    """Defines a body with frozen parts, which have no gradient and stay in evaluation mode.

    So their batch norms keep their statistics, and they do not drop anything at random.
    """

    def __init__(self) -> None:
        super().__init__()
        self._frozen: tuple[nn.Module, ...] = ()  # a tuple, so that names do not change

    def freeze(self, parts: Sequence[nn.Module]) -> None:
        """Freezes these parts."""
        self._frozen = tuple(parts)
        for part in self._frozen:
            part.requires_grad_(False)
            part.eval()

    def train(self, mode: bool = True) -> FrozenParts:
        """Sets the mode of all parts except frozen ones."""
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self


def check_freeze_at(freeze_at: int, parts: int, names: str) -> None:
    """Raises ValueError unless freeze_at is from 0 to `parts`.

    Args:
        names: names of the parts, for the message.
    """
    if not 0 <= freeze_at <= parts:
        raise ValueError(f"freeze_at counts {names}, 0 to {parts}, not {freeze_at}")


def round_up(size: int, step: int) -> int:
    """Rounds size > 0 up to a multiple of `step`.

    The form size + -size % step would give long expressions when an export traces any size. With
    this form the sizes of later maps stay short: (size - 1) // 2 // 2 becomes (size - 1) // 4.
    """
    return ((size - 1) // step + 1) * step


def pad_to(x: Tensor, step: int) -> Tensor:
    """Pads (N, C, H, W) with zeros at the right and the bottom to multiples of `step`."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, round_up(width, step) - width, 0, round_up(height, step) - height))
