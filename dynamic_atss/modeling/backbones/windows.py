"""Computes Swin's windows (Liu et al. 2021, arXiv 2103.14030) without branches on a map's size.

torchvision's modules branch on the size for padding and shifting, so an export would be valid only
for some sizes. These modules keep their weights and names, but use arithmetic that is valid for all
sizes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.swin_transformer import PatchMerging, ShiftedWindowAttention

from dynamic_atss.modeling.backbones.frozen import round_up

MASKED = -100.0  # added before the softmax for tokens that only the shift made neighbours


class Merging(PatchMerging):
    """Merges 2 x 2 tokens into a token with twice the channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Gives (N, ceil(H / 2), ceil(W / 2), 2 C) of x (N, H, W, C)."""
        pairs = _padded(x, 2).unflatten(2, (-1, 2)).unflatten(1, (-1, 2))
        merged = pairs.permute(0, 1, 3, 4, 2, 5).flatten(3)  # columns before rows, as published
        return self.reduction(self.norm(merged))


class WindowAttention(ShiftedWindowAttention):
    """Computes attention among the tokens of a window, without dropout.

    `shift_size` is [0, 0] in every second block.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Gives the attention's output for x (N, H, W, C) in the same shape."""
        side, shift = self.window_size[0], self.shift_size[0]
        padded = _padded(x, side)
        # The shift of a map with one window is 0.
        shifts = [torch.sym_min(shift, size - side) for size in padded.shape[1:3]]
        regions = None
        if shift:
            padded = _rolled(padded, [-s for s in shifts])
            regions = _windows(_regions(padded, side, shifts), side)
        mixed = self._attention(_windows(padded, side), regions)
        padded = _swapped(mixed.unflatten(3, (side, side))).flatten(3, 4).flatten(1, 2)
        if shift:
            padded = _rolled(padded, shifts)
        return _resized(padded, *x.shape[1:3])

    def _attention(self, x: Tensor, regions: Tensor | None) -> Tensor:
        """Computes the attention of windows (N, h, w, T, C) with T tokens.

        Args:
            regions: (1, h, w, T, 1). Tokens of different regions do not see each other.
        """
        q, k, v = self.qkv(x).unflatten(4, (3, self.num_heads, -1)).permute(4, 0, 1, 2, 5, 3, 6)
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) + self.get_relative_position_bias()
        if regions is not None:
            apart = (regions != regions.transpose(-2, -1))[:, :, :, None]
            logits = logits + apart.to(logits.dtype) * MASKED
        return self.proj((logits.softmax(-1) @ v).transpose(3, 4).flatten(4))


def _padded(x: Tensor, step: int) -> Tensor:
    """Pads (N, H, W, C) with zeros at the bottom and the right to multiples of `step`."""
    return _resized(x, *(round_up(size, step) for size in x.shape[1:3]))


def _resized(x: Tensor, height: int, width: int) -> Tensor:
    """Pads with zeros, or cuts, at the bottom and the right to (N, height, width, C)."""
    return F.pad(x, (0, 0, 0, width - x.shape[2], 0, height - x.shape[1]))


def _windows(x: Tensor, side: int) -> Tensor:
    """Splits (N, H, W, C) into windows (N, H / side, W / side, side * side, C)."""
    blocks = x.unflatten(2, (-1, side)).unflatten(1, (-1, side))
    return _swapped(blocks).flatten(3, 4)


def _swapped(x: Tensor) -> Tensor:
    """Swaps dimensions 2 and 3. Always copies, because only some sizes could do without."""
    return x.transpose(2, 3).clone(memory_format=torch.contiguous_format)


def _rolled(x: Tensor, shifts: Sequence[int]) -> Tensor:
    """Does torch.roll on (N, H, W, C), which ONNX supports only for fixed shifts."""
    for dim, shift in zip((1, 2), shifts, strict=True):
        size = x.shape[dim]
        places = torch.arange(size, device=x.device) - shift
        places = torch.where(places < 0, places + size, places)
        x = x.index_select(dim, torch.where(places >= size, places - size, places))
    return x


def _regions(x: Tensor, side: int, shifts: Sequence[int]) -> Tensor:
    """Numbers the regions of a shifted map whose tokens were neighbours before, (1, H, W, 1)."""
    rows, columns = (
        _parts(size, side, shift, x.device)
        for size, shift in zip(x.shape[1:3], shifts, strict=True)
    )
    return (3 * rows[:, None] + columns)[None, ..., None]


def _parts(size: int, side: int, shift: int, device: torch.device) -> Tensor:
    """Gives (size,) 0 before the last window, 1 in it, and 2 for its tokens from the other end."""
    places = torch.arange(size, device=device)
    return (places >= size - side).int() + (places >= size - shift)
