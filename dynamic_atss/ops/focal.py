"""Focal losses with sparse targets: a class index per prior instead of an (M, C) target.

`classes` (M,) int64: 0..C-1 for positives, BACKGROUND = -1: all C classes are negatives,
IGNORE = -2: the prior does not count.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dynamic_atss.types import IGNORE


def quality_focal_loss(
    logits: Tensor, classes: Tensor, quality: Tensor, gamma: float = 2.0
) -> Tensor:
    """Sum of |q - p|^gamma BCE(p, q), q the quality at a positive's class and 0 elsewhere (Li et
    al., NeurIPS 2020; in the Dynamic ATSS release).

    Args:
        logits: (M, C).
        classes: (M,), see above.
        quality: (M,) in [0, 1]; read at positives only.
    """
    negative = logits.sigmoid().pow(gamma) * F.softplus(logits)
    x, positive = _at_class(logits, classes)
    at_class = x.sigmoid().pow(gamma) * F.softplus(x)
    wanted = (quality - x.sigmoid()).abs().pow(gamma) * (F.softplus(x) - quality * x)
    return _sum(negative, classes) + torch.where(positive, wanted - at_class, 0.0).sum()


def varifocal_loss(
    logits: Tensor, classes: Tensor, quality: Tensor, alpha: float = 0.75, gamma: float = 2.0
) -> Tensor:
    """Sum of q BCE(p, q) at a positive's class, q its quality, and alpha p^gamma BCE(p, 0)
    elsewhere, which includes positives of quality 0 (Zhang et al., CVPR 2021, arXiv 2008.13367).

    Args:
        logits: (M, C).
        classes: (M,), see above.
        quality: (M,) in [0, 1]; read at positives only.
    """
    negative = alpha * logits.sigmoid().pow(gamma) * F.softplus(logits)
    x, positive = _at_class(logits, classes)
    at_class = alpha * x.sigmoid().pow(gamma) * F.softplus(x)
    wanted = quality * (F.softplus(x) - quality * x)
    positive = positive & (quality > 0)
    return _sum(negative, classes) + torch.where(positive, wanted - at_class, 0.0).sum()


def sigmoid_focal_loss(
    logits: Tensor, classes: Tensor, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    """Sum of the focal loss (Lin et al., ICCV 2017) with targets 1 at a positive's class, 0
    elsewhere.

    Args:
        logits: (M, C).
        classes: (M,), see above.
    """
    return sigmoid_focal_rows(logits, classes, alpha, gamma).sum()


def sigmoid_focal_rows(
    logits: Tensor, classes: Tensor, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    """(M,) the focal loss of each row, as in `sigmoid_focal_loss`."""
    negative = (1 - alpha) * logits.sigmoid().pow(gamma) * F.softplus(logits)
    x, positive = _at_class(logits, classes)
    at_class = (1 - alpha) * x.sigmoid().pow(gamma) * F.softplus(x)
    wanted = alpha * (-x).sigmoid().pow(gamma) * F.softplus(-x)
    return _rows(negative, classes) + torch.where(positive, wanted - at_class, 0.0)


def _at_class(logits: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Each row's logit at its class (any class where there is none), and which rows are
    positive."""
    return logits.gather(1, classes.clamp(min=0)[:, None]).squeeze(1), classes >= 0


def _sum(loss: Tensor, classes: Tensor) -> Tensor:
    return _rows(loss, classes).sum()


def _rows(loss: Tensor, classes: Tensor) -> Tensor:
    return torch.where(classes == IGNORE, 0.0, loss.sum(1))
