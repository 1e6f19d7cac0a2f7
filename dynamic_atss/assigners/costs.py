"""What a pair costs by its classes and its IoU, as rules ask that take the cheapest."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from dynamic_atss.assigners.pairs import Pairs, logit_of_class, predicted_iou
from dynamic_atss.boxes import BoxConvention
from dynamic_atss.types import GroundTruth, Predictions

EPS = 1e-8  # of the IoU's logarithm, as YOLOX released it


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
        self._nobody = _cost_of_no_class(predictions.logits.flatten(0, 1), flat.flatten())

    def __call__(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Two tensors of the shape of pairs.flat."""
        overlap = predicted_iou(self.predictions, self.gt, pairs, BoxConvention.EXACT)
        cost = self._nobody[pairs.flat] - logit_of_class(self.predictions, self.gt, pairs)
        return cost - self.iou_weight * (overlap + EPS).log(), overlap


def _cost_of_no_class(logits: Tensor, flat: Tensor) -> Tensor:
    """(N * P,): the cross-entropy of all classes with 0, which the boxes of a prior share; of the
    priors in `flat` alone where they are few, as those near boxes are."""
    if flat.numel() >= len(logits):
        return F.softplus(logits).sum(-1)
    return logits.new_zeros(len(logits)).scatter_(0, flat, F.softplus(logits[flat]).sum(-1))
