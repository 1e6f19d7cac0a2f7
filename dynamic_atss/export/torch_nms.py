"""Expresses the project's NMS operator by operators of PyTorch.

An exported file then needs no library but torch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynamic_atss.boxes import BoxConvention


def greedy_nms(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    threshold: float,
    convention: BoxConvention,
    limit: int,
) -> tuple[Tensor, Tensor]:
    """Does the same as `dynamic_atss.ops.nms.batched_multiclass_nms` for finite boxes.

    Handles a batch of N images at once, in a loop over the kept boxes.
    """
    wide = boxes.double()
    left = torch.where(scores > 0, scores, 0.0)
    places = torch.arange(torch.sym_min(limit, scores.shape[1]), device=scores.device)
    keep = torch.full_like(places, -1)[None].expand(scores.shape[0], -1).clone()

    def more(step: Tensor, left: Tensor, keep: Tensor) -> Tensor:
        return (step < keep.shape[1]) & (left > 0).any()

    def take(step: Tensor, left: Tensor, keep: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        best, place = left.max(1, keepdim=True)  # the first of equal scores
        chosen = wide.gather(1, place[..., None].expand(-1, -1, 4))
        gone = (convention.iou(wide, chosen) > threshold) & (classes == classes.gather(1, place))
        now = torch.where((places == step) & (best > 0), place, keep)
        return step + 1, torch.where(gone, 0.0, left).scatter(1, place, 0.0), now

    first = torch.zeros((), dtype=torch.int64, device=scores.device)
    _, _, keep = torch.while_loop(more, take, (first, left, keep))
    return keep, (keep >= 0).sum(1)
