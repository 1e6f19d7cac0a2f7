"""POTO: one prior for each box, by class score and predicted IoU together.

Wang et al. (DeFCN), CVPR 2021, arXiv 2012.03544.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynamic_atss.assigners.base import (
    Pairs,
    at_least,
    best_of_box,
    logit_of_class,
    note,
    predicted_iou,
    resolve,
)
from dynamic_atss.assigners.matching import best_matching
from dynamic_atss.assigners.ranges import points_inside
from dynamic_atss.boxes import BoxConvention
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors


class POTO:
    """Of a box's priors within `radius` strides of its centre, and in it, one is positive: that of
    the matching, box by prior, with the largest sum of score^(1 - alpha) * IoU^alpha.

    Quality = 1: the release weighs no positive. The matching is exact, as released, but over the
    pairs of boxes with their own priors (the release: with all, the others at -1); it runs on the
    host, for which this rule waits. With `exact` False it is the release's approximation, without a
    wait: every box takes its best prior, and of several boxes that take one, the best pair wins and
    the others have none. A box without a prior in its region has none here; the release gives it
    one of those at -1, wherever its solver begins (see MODEL.ASSIGNER.AT_LEAST_ONE).

    Args:
        alpha: power of the IoU.
        radius: of the region around the centre, in strides; 0: the whole box.
        exact: by matching, not by each box's own best prior.

    Raises:
        ValueError: for a value that is not accepted.
    """

    soft_labels = False
    quality_name = "match"
    needs_size = False
    waits = True

    def __init__(self, alpha: float = 0.8, radius: float = 1.5, exact: bool = True) -> None:
        at_least(0, alpha=alpha, radius=radius)
        if alpha > 1:
            raise ValueError(f"alpha is {alpha}; it must be a number from 0 to 1")
        self.alpha, self.radius = alpha, radius
        self.exact = self.waits = exact  # of this one, in place of the class's

    @torch.no_grad()
    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        # propose
        pairs = points_inside(priors, gt, radius=self.radius)
        # score
        quality = self._quality(gt, predictions, pairs)
        # select
        note(score="score and IoU")
        if self.exact:
            selected = _matched(pairs, quality, len(gt))
        else:
            pairs, places = best_of_box(pairs, quality, 1, len(gt))
            selected, quality = pairs.exists, quality.take(places)
        # resolve
        note(score="score and IoU", matched=selected)
        return resolve(
            pairs, selected, quality, torch.ones_like(quality), predictions.boxes.shape[:2]
        )

    def _quality(self, gt: GroundTruth, predictions: Predictions, pairs: Pairs) -> Tensor:
        """(M,) in [0, 1]."""
        overlap = predicted_iou(predictions, gt, pairs, BoxConvention.EXACT)  # as the release
        score = logit_of_class(predictions, gt, pairs).sigmoid()
        # The trainer tells of what is not finite.
        return (score ** (1 - self.alpha) * overlap**self.alpha).nan_to_num(0.0)


def _matched(pairs: Pairs, quality: Tensor, boxes: int) -> Tensor:
    """(M,) bool. The release's -1 for no pair is 0 here, so that one more box that has a prior
    counts for more than any quality."""
    real = pairs.exists.nonzero().squeeze(1)
    box, flat, value = (x.index_select(0, real) for x in (pairs.box, pairs.flat, quality))
    matched = best_matching(box, flat, value.double() + 1, boxes)
    return torch.zeros_like(pairs.exists).index_put_((real,), matched)
