"""What a pair costs by its classes and its IoU, as rules ask that take the cheapest."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from dynamic_atss.assigners.pairs import Pairs, at, center_offsets, logit_of_class, predicted_iou
from dynamic_atss.boxes import BoxConvention
from dynamic_atss.types import GroundTruth, Predictions, Priors

EPS = 1e-8  # of the IoU's logarithm, as YOLOX released it
EPS_SOFT = 1e-7  # the same, as mmdetection released RTMDet
FARTHEST = 300.0  # an exponent of 10 that a float64 holds


class PairCost:
    """The cost of pairs = binary cross-entropy of all classes, with 1 at the box's and 0 elsewhere,
    + iou_weight * -log IoU; and their IoU.

    Args:
        flat: image * P + prior, in any shape, of all that is ever asked for.
    """

    def __init__(
        self, predictions: Predictions, gt: GroundTruth, iou_weight: float, flat: Tensor
    ) -> None:
        self.predictions, self.gt, self.iou_weight = predictions, gt, iou_weight
        self.count = predictions.boxes[..., 0].numel()  # N * P
        logits = predictions.logits.flatten(0, 1)
        self._nobody = _cost_of_no_class(F.softplus, logits, flat.flatten())

    def __call__(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Two tensors of the shape of pairs.flat."""
        overlap = predicted_iou(self.predictions, self.gt, pairs, BoxConvention.EXACT)
        cost = at(self._nobody, pairs.flat) - logit_of_class(self.predictions, self.gt, pairs)
        return cost - self.iou_weight * (overlap + EPS).log(), overlap


def _cost_of_no_class(term: Callable[[Tensor], Tensor], logits: Tensor, flat: Tensor) -> Tensor:
    """(N * P,): the sum of each class's term as background, which the boxes of a prior share; of
    the priors in `flat` alone where they are few, as those near boxes are."""
    if torch.compiler.is_compiling() or flat.numel() >= len(logits):  # a list's length is unknown
        return term(logits).sum(-1)
    return logits.new_zeros(len(logits)).scatter_(0, flat, term(logits[flat]).sum(-1))


class SoftLabelCost:
    """The cost of pairs = quality focal loss of all classes, with the IoU as the label at the box's
    class, + iou_weight * -log IoU + 10^(distance from the box's centre in strides - radius); and
    their IoU.

    Args:
        flat: as of `PairCost`.
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
        self._nobody = _cost_of_no_class(_as_background, logits, flat.flatten())

    def __call__(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Two tensors of the shape of pairs.flat; the cost is float64."""
        overlap = predicted_iou(self.predictions, self.gt, pairs, BoxConvention.EXACT)
        logit = logit_of_class(self.predictions, self.gt, pairs).to(overlap.dtype)
        # By `logsigmoid`: `softplus` and `sigmoid` round differently at the end of a tensor, and
        # equal boxes would not cost the same.
        nothing, score = F.logsigmoid(-logit).neg_(), F.logsigmoid(logit).exp_()
        entropy = nothing - overlap * logit
        focal = (overlap - score).square_().mul_(entropy).sub_(score.square_().mul_(nothing))
        focal.add_(at(self._nobody, pairs.flat))
        focal.sub_((overlap + EPS_SOFT).log_(), alpha=self.iou_weight)
        return self._of_distance(pairs).add_(focal), overlap

    def _of_distance(self, pairs: Pairs) -> Tensor:
        """A float32 would not hold 10^(strides across a large box)."""
        x, y = center_offsets(self.priors, self.gt, pairs)
        distance = (x * x).add_(y * y).sqrt_().div_(at(self.priors.strides, pairs.prior))
        power = distance.double().sub_(self.radius).clamp_(max=FARTHEST)
        return power.mul_(math.log(10)).exp_()


def _as_background(logits: Tensor) -> Tensor:
    """The focal loss of 0 at each class."""
    return logits.sigmoid().square_().mul_(F.softplus(logits))
