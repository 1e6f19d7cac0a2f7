"""Swin's windows (Liu et al. 2021, arXiv 2103.14030) without a branch on the size of a map.

torchvision's modules, whose weights and names stay, decide by the size what they pad and whether
they shift: an export would hold for some sizes only. Arithmetic holds for all.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.swin_transformer import PatchMerging, ShiftedWindowAttention

from dynamic_atss.modeling.backbones.parts import whole

MASKED = -100.0  # of tokens that a shift only brought into one window, before the softmax


class Merging(PatchMerging):
    """Two by two tokens become one of twice the channels."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) -> (N, ceil(H / 2), ceil(W / 2), 2 C)."""
        pairs = _whole(x, 2).unflatten(2, (-1, 2)).unflatten(1, (-1, 2))
        merged = pairs.permute(0, 1, 3, 4, 2, 5).flatten(3)  # columns before rows, as published
        return self.reduction(self.norm(merged))


class WindowAttention(ShiftedWindowAttention):
    """Attention among the tokens of a window, without dropout; `shift_size` is [0, 0] in every
    second block."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) -> the same shape."""
        side, shift = self.window_size[0], self.shift_size[0]
        padded = _whole(x, side)
        # A map of one window is not shifted.
        shifts = [torch.sym_min(shift, size - side) for size in padded.shape[1:3]]
        regions = None
        if shift:
            padded = torch.roll(padded, [-s for s in shifts], (1, 2))
            regions = _windows(_regions(padded, side, shifts), side)
        mixed = self._attention(_windows(padded, side), regions)
        padded = _swapped(mixed.unflatten(3, (side, side))).flatten(3, 4).flatten(1, 2)
        if shift:
            padded = torch.roll(padded, shifts, (1, 2))
        return _resized(padded, *x.shape[1:3])

    def _attention(self, x: Tensor, regions: Tensor | None) -> Tensor:
        """Windows (N, h, w, T, C) of T tokens, and their regions (1, h, w, T, 1): tokens of two do
        not see each other."""
        q, k, v = self.qkv(x).unflatten(4, (3, self.num_heads, -1)).permute(4, 0, 1, 2, 5, 3, 6)
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) + self.get_relative_position_bias()
        if regions is not None:
            apart = (regions != regions.transpose(-2, -1))[:, :, :, None]
            logits = logits + apart.to(logits.dtype) * MASKED
        return self.proj((logits.softmax(-1) @ v).transpose(3, 4).flatten(4))


def _whole(x: Tensor, step: int) -> Tensor:
    """(N, H, W, C), by zeros below and at the right to multiples of `step`."""
    return _resized(x, *(whole(size, step) for size in x.shape[1:3]))


def _resized(x: Tensor, height: int, width: int) -> Tensor:
    """(N, height, width, C): padded by zeros, or cut, below and at the right."""
    return F.pad(x, (0, 0, 0, width - x.shape[2], 0, height - x.shape[1]))


def _windows(x: Tensor, side: int) -> Tensor:
    """(N, H, W, C) -> (N, H / side, W / side, side * side, C)."""
    blocks = x.unflatten(2, (-1, side)).unflatten(1, (-1, side))
    return _swapped(blocks).flatten(3, 4)


def _swapped(x: Tensor) -> Tensor:
    """Dimensions 2 and 3; a copy in any case, as whether views suffice depends on the size."""
    return x.transpose(2, 3).clone(memory_format=torch.contiguous_format)


def _regions(x: Tensor, side: int, shifts: Sequence[int]) -> Tensor:
    """(1, H, W, 1), of a shifted map: which tokens were neighbours before."""
    rows, columns = (
        _parts(size, side, shift, x.device)
        for size, shift in zip(x.shape[1:3], shifts, strict=True)
    )
    return (3 * rows[:, None] + columns)[None, ..., None]


def _parts(size: int, side: int, shift: int, device: torch.device) -> Tensor:
    """(size,): 0, in the last window 1, of that 2 where it came from the other end."""
    places = torch.arange(size, device=device)
    return (places >= size - side).int() + (places >= size - shift)
