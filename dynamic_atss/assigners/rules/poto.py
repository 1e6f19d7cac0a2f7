"""Defines POTO, which matches one prior to each box by class score and predicted IoU.

Wang et al. (DeFCN), CVPR 2021, arXiv 2012.03544.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynamic_atss.assigners import check
from dynamic_atss.assigners.base import (
    Pairs,
    best_of_box,
    logit_of_class,
    note,
    predicted_iou,
    resolve,
)
from dynamic_atss.assigners.one_to_one import best_matching
from dynamic_atss.assigners.ranges import points_inside
from dynamic_atss.boxes import BoxConvention
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors


class POTO:
    """Matches boxes and priors with the largest sum of score^(1 - alpha) * IoU^alpha.

    The priors of a box lie inside it and within `radius` strides of its centre. Quality = 1,
    because the release does not weigh positives.

    The matching is exact, as released. It runs on the CPU, so the rule waits for the device. With
    `exact` False it is the release's approximation, which does not wait. Then every box takes its
    best prior. If several boxes take the same prior, the best pair wins and the others get none.

    The matching uses only pairs of a box and its priors. The release uses all pairs and gives the
    others the value -1. A box without a prior in its region gets none here. In the release it gets
    an arbitrary prior (see MODEL.ASSIGNER.AT_LEAST_ONE).

    Args:
        alpha: power of the IoU.
        radius: of the region around the centre in strides; 0: the entire box.
        exact: True matches exactly.

    Raises:
        ValueError: an argument has an invalid value.
    """

    soft_labels = False
    quality_name = "match"
    needs_size = False
    waits = True

    def __init__(self, alpha: float = 0.8, radius: float = 1.5, exact: bool = True) -> None:
        check.at_least(0, alpha=alpha, radius=radius)
        if alpha > 1:
            raise ValueError(f"alpha is {alpha}; it must be a number from 0 to 1")
        self.alpha, self.radius = alpha, radius
        self.exact = self.waits = exact  # replaces the attribute of the class

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
        """Gives the value of each pair, (M,) in [0, 1]."""
        overlap = predicted_iou(predictions, gt, pairs, BoxConvention.EXACT)  # as in the release
        score = logit_of_class(predictions, gt, pairs).sigmoid()
        # The trainer reports values that are not finite.
        return (score ** (1 - self.alpha) * overlap**self.alpha).nan_to_num(0.0)


def _matched(pairs: Pairs, quality: Tensor, boxes: int) -> Tensor:
    """Flags the matched pairs, (M,).

    Adds 1 to each value, so that an additional matched box counts more than any quality. This
    corresponds to the release's -1 for other pairs.
    """
    real = pairs.exists.nonzero().squeeze(1)
    box, flat, value = (x.index_select(0, real) for x in (pairs.box, pairs.flat, quality))
    matched = best_matching(box, flat, value.double() + 1, boxes)
    return torch.zeros_like(pairs.exists).index_put_((real,), matched)
