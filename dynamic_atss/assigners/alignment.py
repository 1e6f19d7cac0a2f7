"""Computes the logarithm of the task alignment t = score^alpha * IoU^beta, and the quality from it.

The logarithm is needed because a small score times a small IoU^6 would round to 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dynamic_atss.assigners.pairs import Pairs, logit_of_class
from dynamic_atss.types import GroundTruth, Predictions

TINY = 1e-30  # avoids logarithms of 0, which are slow; such pairs do not count


def log_alignment(
    predictions: Predictions,
    gt: GroundTruth,
    pairs: Pairs,
    overlap: Tensor,
    alpha: float,
    beta: float,
) -> Tensor:
    """Gives log t in the shape of pairs.flat. It is -inf for an IoU of 0.

    Args:
        overlap: the predicted IoU of the pairs.
        alpha, beta: powers of the class score and of the IoU.
    """
    score = F.logsigmoid(logit_of_class(predictions, gt, pairs).to(overlap.dtype))
    found = overlap.clamp(min=TINY).log().mul_(beta).add_(score, alpha=alpha)
    return found.where(overlap > 0, -torch.inf)


def largest_of_box(won: Tensor, values: Tensor) -> Tensor:
    """Gives the largest value among the `won` pairs of each box, (T, 1)."""
    return torch.where(won, values, -torch.inf).amax(1, keepdim=True)


def scaled_alignment(won: Tensor, alignment: Tensor, overlap: Tensor) -> Tensor:
    """Gives t / (largest t of the box's positives) * their largest IoU, (T, K).

    Args:
        won: (T, K) bool, the positives.
        alignment: (T, K) log t.
    """
    share = (alignment - largest_of_box(won, alignment)).exp()
    return share * largest_of_box(won, overlap)
