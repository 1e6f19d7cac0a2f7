"""Bodies whose first parts do not learn."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class FrozenParts(nn.Module):
    """A body with frozen parts: they have no gradient and stay in evaluation mode.

    So the statistics of their batch norms do not move, nor do they drop anything at random.
    """

    def __init__(self) -> None:
        super().__init__()
        self._frozen: tuple[nn.Module, ...] = ()  # a tuple, so that names do not change

    def freeze(self, parts: Sequence[nn.Module]) -> None:
        """From now on these parts do not learn."""
        self._frozen = tuple(parts)
        for part in self._frozen:
            part.requires_grad_(False)
            part.eval()

    def train(self, mode: bool = True) -> FrozenParts:
        """As every module's, but frozen parts stay as they are."""
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self


def check_freeze_at(freeze_at: int, parts: int, what: str) -> None:
    """Raises ValueError unless freeze_at counts 0 to `parts` parts; `what` names them."""
    if not 0 <= freeze_at <= parts:
        raise ValueError(f"freeze_at counts {what}, 0 to {parts}, not {freeze_at}")


def whole(size: int, step: int) -> int:
    """size > 0 rounded up to a multiple of `step`.

    In this form, and not size + -size % step, the sizes of all later maps stay short expressions of
    the image's where an export traces them for any size: (size - 1) // 2 // 2 is (size - 1) // 4.
    """
    return ((size - 1) // step + 1) * step


def pad_to(x: Tensor, step: int) -> Tensor:
    """(N, C, H, W), by zeros at the right and the bottom to multiples of `step`."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, whole(width, step) - width, 0, whole(height, step) - height))
