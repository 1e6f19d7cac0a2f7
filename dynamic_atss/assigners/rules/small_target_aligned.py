"""Defines small-target-aware task alignment, which gives tiny boxes candidates around them.

It follows Ultralytics' descriptions of YOLO26 (STAL, 2026), based on Feng et al. (TOOD), arXiv
2108.07755.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from dynamic_atss.assigners import check
from dynamic_atss.assigners.alignment import log_alignment, scaled_alignment
from dynamic_atss.assigners.base import (
    Pairs,
    best_of_box,
    box_sides,
    inside_of,
    note,
    predicted_iou,
    resolve,
    take,
    winning,
)
from dynamic_atss.assigners.ranges import priors_within
from dynamic_atss.boxes import BoxConvention
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors


class SmallTargetAligned:
    """Assigns each box the `topk` candidates of the largest t = score^alpha * IoU^beta.

    If several boxes take a prior, the one with the largest IoU wins. Then each box keeps its
    `per_box` priors of the largest t. Quality = t, scaled so that the best prior of a box has the
    largest IoU of those it keeps. It is also the class target.

    These parts are from the public descriptions:
        TOOD's alignment with these powers and `topk`.
        Candidates for targets in which no location lies.
        A second top-k after conflicts.
        One positive per box in the branch without NMS (`per_box` 1).

    These parts are chosen here:
        A side below `small` strides of the finest level is widened to `side` strides around the
        same centre. The widened side contains one to four locations of that level.
        Candidates lie inside the widened box.
        The IoU is a plain IoU with the true box. Pairs of IoU 0 are left out.

    Args:
        topk: maximum number of candidates of a box.
        per_box: maximum number of positives of a box; None: all that it wins.
        alpha, beta: powers of the class score and of the IoU.
        small, side: in strides of the finest level.

    Raises:
        ValueError: an argument has an invalid value.
    """

    soft_labels = True
    quality_name = "alignment"
    needs_size = False

    def __init__(
        self,
        topk: int = 10,
        per_box: int | None = None,
        alpha: float = 0.5,
        beta: float = 6.0,
        small: float = 1.0,
        side: float = 2.0,
    ) -> None:
        per_box = topk if per_box is None else per_box
        check.integer(1, topk=topk, per_box=per_box)
        check.at_least(0, alpha=alpha, beta=beta, small=small)
        check.at_least(small, side=side)
        self.topk, self.per_box = topk, per_box
        self.alpha, self.beta = alpha, beta
        self.small, self.side = small, side

    @torch.no_grad()
    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        # propose
        pairs = self._candidates(priors, gt)
        # score
        overlap = predicted_iou(predictions, gt, pairs, BoxConvention.EXACT)
        alignment = log_alignment(predictions, gt, pairs, overlap, self.alpha, self.beta)
        counts = pairs.exists & (alignment > -torch.inf)
        # select
        note(score="log alignment")
        best, places = best_of_box(pairs._replace(exists=counts), alignment, self.topk, len(gt))
        alignment, overlap = take(alignment, places), take(overlap, places)
        # resolve
        shape = predictions.boxes.shape[:2]
        note(score="predicted IoU")
        won = winning(best, resolve(best, best.exists, overlap, overlap, shape).gt_index)
        note(score="log alignment")
        found = resolve(best, won, alignment, overlap, shape, per_box=self.per_box)
        kept = winning(best, found.gt_index)
        quality = scaled_alignment(kept, alignment, overlap)
        note(score="log alignment")
        return resolve(best, kept, alignment, quality, shape)

    def _candidates(self, priors: Priors, gt: GroundTruth) -> Pairs:
        """Pairs each box, with its small sides widened, with the priors inside it, (M,)."""
        finest = min(level.stride for level in priors.levels)
        sides = gt.boxes[:, 2:] - gt.boxes[:, :2]
        lacking = (self.side * finest - sides).where(sides < self.small * finest, 0.0) / 2
        wide = gt.boxes + torch.cat((-lacking, lacking), dim=1)
        margin = [self.side * finest] * len(priors.levels)
        pairs = priors_within(priors, gt, wide[:, None], margin=margin)
        inside = inside_of(box_sides(priors, replace(gt, boxes=wide), pairs))
        return pairs._replace(exists=pairs.exists & inside)
