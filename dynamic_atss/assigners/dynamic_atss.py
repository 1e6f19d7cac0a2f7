"""Dynamic ATSS: positives by predicted IoU + anchor IoU.

Zhang et al., J. Imaging 2022, arXiv 2201.09396.
"""

from __future__ import annotations

import torch

from dynamic_atss.assigners.base import inside, resolve, std
from dynamic_atss.assigners.nearest import nearest_candidates
from dynamic_atss.boxes import iou
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors


class DynamicATSS:
    """Quality = IoU of the predicted box, which is also the class target.

    Args:
        topk: candidate locations of a box on each level.
    """

    soft_labels = True
    quality_name = "IoU"
    needs_size = True

    def __init__(self, topk: int = 9) -> None:
        self.topk = topk

    @torch.no_grad()
    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        # propose
        pairs = nearest_candidates(priors, gt, self.topk)
        # score
        boxes = gt.boxes[:, None]
        predicted = predictions.boxes.flatten(0, 1)[pairs.flat]
        ious = iou(torch.stack((predicted, priors.boxes[pairs.prior])), boxes, extra=1)
        combined = ious.sum(0)
        # select; the release adds two standard deviations rather than taking that of the sum
        threshold = ious.mean(-1, keepdim=True).sum(0) + std(ious).sum(0)
        selected = (combined >= threshold) & inside(priors.centers[pairs.prior], boxes)
        # resolve
        return resolve(pairs, selected, combined, ious[0], predictions.boxes.shape[:2])
