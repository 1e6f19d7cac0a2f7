"""Computes the costs of pairs from class scores and IoU, for rules that take the cheapest pairs."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from dynamic_atss.assigners.pairs import Pairs, center_offsets, logit_of_class, predicted_iou, take
from dynamic_atss.boxes import BoxConvention
from dynamic_atss.types import GroundTruth, Predictions, Priors

EPS = 1e-8  # added to the IoU before the logarithm, as in YOLOX
EPS_SOFT = 1e-7  # the same in mmdetection's RTMDet
FARTHEST = 300.0  # largest exponent of 10, which a float64 can hold


class PairCost:
    """Computes the cost and the IoU of pairs.

    Cost = binary cross-entropy of all classes + iou_weight * -log IoU. The class target is 1 for
    the class of the box and 0 for others.

    Args:
        flat: image * P + prior, in any shape, of all priors that may occur.
    """

    def __init__(
        self, predictions: Predictions, gt: GroundTruth, iou_weight: float, flat: Tensor
    ) -> None:
        self.predictions, self.gt, self.iou_weight = predictions, gt, iou_weight
        self.count = predictions.boxes[..., 0].numel()  # N * P
        logits = predictions.logits.flatten(0, 1)
        self._background = _background_cost(F.softplus, logits, flat.flatten())

    def __call__(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Gives cost and IoU in the shape of pairs.flat."""
        overlap = predicted_iou(self.predictions, self.gt, pairs, BoxConvention.EXACT)
        cost = take(self._background, pairs.flat) - logit_of_class(self.predictions, self.gt, pairs)
        return cost - self.iou_weight * (overlap + EPS).log(), overlap


def _background_cost(term: Callable[[Tensor], Tensor], logits: Tensor, flat: Tensor) -> Tensor:
    """Sums the terms of all classes as background for each prior, (N * P,).

    All boxes of a prior share this sum. If `flat` has few priors, computes only theirs.
    """
    # torch.compile does not know the length of `flat`.
    if torch.compiler.is_compiling() or flat.numel() >= len(logits):
        return term(logits).sum(-1)
    return logits.new_zeros(len(logits)).scatter_(0, flat, term(logits[flat]).sum(-1))


class SoftLabelCost:
    """Computes the cost and the IoU of pairs.

    Cost = quality focal loss of all classes + iou_weight * -log IoU + 10^(distance - radius). The
    label of the box's class is the IoU. The distance is that from the box's centre in strides.

    Args:
        flat: image * P + prior, in any shape, of all priors that may occur.
    """

    def __init__(
        self,
        priors: Priors,
        gt: GroundTruth,
        predictions: Predictions,
        iou_weight: float,
        radius: float,
        flat: Tensor,
    ) -> None:
        self.priors, self.gt, self.predictions = priors, gt, predictions
        self.iou_weight, self.radius = iou_weight, radius
        logits = predictions.logits.flatten(0, 1).to(predictions.boxes.dtype)
        self._background = _background_cost(_as_background, logits, flat.flatten())

    def __call__(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Gives cost (float64) and IoU in the shape of pairs.flat."""
        overlap = predicted_iou(self.predictions, self.gt, pairs, BoxConvention.EXACT)
        logit = logit_of_class(self.predictions, self.gt, pairs).to(overlap.dtype)
        # `softplus` and `sigmoid` round differently at the end of a tensor, so the costs of equal
        # boxes would differ. `logsigmoid` does not.
        as_background, score = F.logsigmoid(-logit).neg_(), F.logsigmoid(logit).exp_()
        entropy = as_background - overlap * logit
        focal = (overlap - score).square_().mul_(entropy)
        focal.sub_(score.square_().mul_(as_background)).add_(take(self._background, pairs.flat))
        focal.sub_((overlap + EPS_SOFT).log_(), alpha=self.iou_weight)
        return self._of_distance(pairs).add_(focal), overlap

    def _of_distance(self, pairs: Pairs) -> Tensor:
        """Computes the term of the distance in float64, because a float32 would overflow."""
        x, y = center_offsets(self.priors, self.gt, pairs)
        distance = (x * x).add_(y * y).sqrt_().div_(take(self.priors.strides, pairs.prior))
        power = distance.double().sub_(self.radius).clamp_(max=FARTHEST)
        return power.mul_(math.log(10)).exp_()


def _as_background(logits: Tensor) -> Tensor:
    """Computes the focal loss of each class for the target 0."""
    return logits.sigmoid().square_().mul_(F.softplus(logits))
