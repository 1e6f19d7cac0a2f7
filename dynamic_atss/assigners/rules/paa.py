"""Defines PAA, which separates positives and negatives by two Gaussians over their losses.

Kim and Lee, ECCV 2020, arXiv 2007.08103.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynamic_atss.assigners import check
from dynamic_atss.assigners.base import Pairs, best_of_box, note, predicted_iou, resolve
from dynamic_atss.assigners.reference.mixture import LOW_COMPONENT
from dynamic_atss.assigners.rules.max_iou import MaxIoU
from dynamic_atss.boxes import giou
from dynamic_atss.losses import sigmoid_focal_rows
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors


class PAA:
    """Selects those of a box's anchors with low losses that are in the mixture's low component.

    An anchor can learn only its box of the largest IoU. The candidates of a box are its `topk`
    anchors of the lowest loss (focal loss of the class + GIoU loss) on each level. As in the
    release, their anchor IoU must reach `threshold` or be the largest of some box. The positives
    end at the likeliest anchor of the low component (figure 3c of the paper).

    Quality = IoU of the predicted box. The rule waits for the device once, for the number of
    anchors that have a box.

    Args:
        topk: candidates of a box on each level.
        threshold: of the anchor IoU.
        alpha, gamma: of the focal loss.

    Raises:
        ValueError: an argument has an invalid value.
    """

    soft_labels = False
    quality_name = "IoU"
    needs_size = True
    waits = True

    def __init__(
        self, topk: int = 9, threshold: float = 0.1, alpha: float = 0.25, gamma: float = 2.0
    ) -> None:
        check.integer(1, topk=topk)
        check.at_least(0, threshold=threshold, alpha=alpha, gamma=gamma)
        self.propose = MaxIoU(threshold, threshold)
        self.topk = topk
        self.alpha, self.gamma = alpha, gamma

    @torch.no_grad()
    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        # propose; each anchor has one box, so there are no conflicts to resolve
        index = self.propose(priors, gt, predictions).gt_index
        pairs, group = _by_box_and_level(priors, index)
        if not pairs.flat.numel():  # no box overlaps any anchor
            return Assignment(index, predictions.boxes.new_zeros(index.shape))
        # score
        loss = self._loss(gt, predictions, pairs)
        # select
        groups = pairs._replace(box=group)
        note(score="-loss", box=pairs.box)
        best, loss = _lowest(groups, loss, self.topk, len(priors.levels), len(gt))
        rank = torch.arange(loss.shape[1], device=loss.device)
        kept = rank < LOW_COMPONENT(loss, best.exists.sum(1))[:, None]
        kept |= ~loss.isfinite()  # the trainer reports them
        quality = predicted_iou(predictions, gt, best)
        note(score="predicted IoU", in_low_component=kept)
        return resolve(best, kept, quality, quality, index.shape)

    def _loss(self, gt: GroundTruth, predictions: Predictions, pairs: Pairs) -> Tensor:
        """Gives the losses of the pairs, (M,) float64."""
        classes = gt.classes.index_select(0, pairs.box)
        logits = predictions.logits.flatten(0, 1)
        loss = sigmoid_focal_rows(logits, pairs.flat, classes, self.alpha, self.gamma)
        predicted = predictions.boxes.flatten(0, 1).index_select(0, pairs.flat)
        return (loss + 1 - giou(predicted, gt.boxes.index_select(0, pairs.box))).double()


def _by_box_and_level(priors: Priors, index: Tensor) -> tuple[Pairs, Tensor]:
    """Lists the pairs of `index` (N, P) by box and level.

    Returns:
        the pairs (M,), and their groups (M,), box * L + level.
    """
    flat = (index >= 0).flatten().nonzero().squeeze(1)
    box, prior = index.flatten().index_select(0, flat), flat % len(priors)
    group = box * len(priors.levels) + priors.level.index_select(0, prior)
    group, order = group.sort(stable=True)
    box, prior, flat = (x.index_select(0, order) for x in (box, prior, flat))
    return Pairs(box, prior, flat, torch.ones_like(flat, dtype=torch.bool)), group


def _lowest(groups: Pairs, loss: Tensor, k: int, levels: int, boxes: int) -> tuple[Pairs, Tensor]:
    """Gives the k pairs of the lowest loss on each level, sorted by loss for each box.

    Args:
        groups: pairs (M,) whose box is box * L + level.
        loss: (M,).

    Returns:
        the pairs (T, L * k) and their losses, inf for missing pairs.
    """
    score = torch.where(loss.isnan(), -torch.inf, -loss)  # NaN counts as the highest loss
    best, places = best_of_box(groups, score, k, boxes * levels)
    rows = (boxes, levels * k)
    exists = best.exists.view(rows)
    loss = torch.where(exists, loss.take(places).view(rows), torch.inf)
    loss, order = loss.sort(dim=1, stable=True)
    box = torch.arange(boxes, device=loss.device)[:, None]
    prior, flat, exists = (x.view(rows).gather(1, order) for x in (best.prior, best.flat, exists))
    return Pairs(box, prior, flat, exists), loss
