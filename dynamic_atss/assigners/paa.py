"""PAA: anchors split into positives and negatives by a mixture of two Gaussians over their losses.

Kim and Lee, ECCV 2020, arXiv 2007.08103.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

import numpy as np
import torch

from dynamic_atss.assigners.base import at_least, whole
from dynamic_atss.assigners.max_iou import MaxIoU
from dynamic_atss.boxes import giou, iou
from dynamic_atss.errors import UserError
from dynamic_atss.ops.focal import sigmoid_focal_rows
from dynamic_atss.types import BACKGROUND, Assignment, GroundTruth, Predictions, Priors


class PAA:
    """An anchor can only learn its box of the largest IoU; of a box's `topk` anchors of the lowest
    loss (focal loss of the class + GIoU loss) on every level, those of the low component are
    positives.

    Quality = IoU of the predicted box. As in the release the IoU must reach `threshold` or be the
    largest of some box, and the positives end at the low component's likeliest anchor (the paper's
    figure 3c). The mixtures are scikit-learn's, on the CPU: this rule waits for the device, and
    loops over the boxes, at some 4 ms each.

    Args:
        topk: candidates of a box on each level.
        threshold: of the anchor IoU.
        alpha, gamma: of the focal loss.

    Raises:
        UserError: without scikit-learn.
        ValueError: for a value that is not accepted.
    """

    soft_labels = False
    quality_name = "IoU"
    needs_size = True
    waits = True

    def __init__(
        self, topk: int = 9, threshold: float = 0.1, alpha: float = 0.25, gamma: float = 2.0
    ) -> None:
        whole(1, topk=topk)
        at_least(0, threshold=threshold, alpha=alpha, gamma=gamma)
        self.propose = MaxIoU(threshold, threshold)
        self.topk = topk
        self.alpha, self.gamma = alpha, gamma
        self.mixture, self.not_converged = _sklearn()

    @torch.no_grad()
    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        # propose: no anchor has two boxes, so that nothing remains to be resolved
        index = self.propose(priors, gt, predictions).gt_index
        flat = (index >= 0).flatten().nonzero().squeeze(1)
        box = index.flatten()[flat]
        # score
        predicted, target = predictions.boxes.flatten(0, 1)[flat], gt.boxes[box]
        logits, classes = predictions.logits.flatten(0, 1)[flat], gt.classes[box]
        loss = sigmoid_focal_rows(logits, classes, self.alpha, self.gamma)
        loss = loss + 1 - giou(predicted, target)
        # select
        level = priors.level[flat % len(priors)]
        kept = self._select(*(x.cpu().numpy() for x in (loss.double(), box, level)))
        keep = torch.from_numpy(kept).to(flat.device)
        gt_index = torch.full_like(index, BACKGROUND)
        gt_index.view(-1)[flat[keep]] = box[keep]
        quality = predictions.boxes.new_zeros(index.shape)
        quality.view(-1)[flat[keep]] = iou(predicted[keep], target[keep], extra=1)
        return Assignment(gt_index, quality)

    def _select(self, loss: np.ndarray, box: np.ndarray, level: np.ndarray) -> np.ndarray:
        """The positions of the positives among anchors with these losses, boxes and levels."""
        order = np.lexsort((loss, level, box))
        group = np.stack((box, level))[:, order]
        new = np.append(True, (np.diff(group) != 0).any(0))[: len(order)]
        first = np.flatnonzero(new)  # of each level of each box
        rank = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
        order = order[rank < self.topk]
        order = order[np.lexsort((loss[order], box[order]))]
        parts = np.split(order, np.flatnonzero(np.diff(box[order])) + 1)
        return np.concatenate([part[: self._positives(loss[part])] for part in parts])

    def _positives(self, loss: np.ndarray) -> int:
        """How many of a box's candidates with these rising losses are positives."""
        if len(loss) < 2 or not np.isfinite(loss).all():  # the trainer tells of the latter
            return len(loss)
        fitted = self.mixture(
            2,
            weights_init=[0.5, 0.5],
            means_init=[[loss[0]], [loss[-1]]],
            precisions_init=[[[1.0]], [[1.0]]],
            random_state=0,
        )
        with warnings.catch_warnings():  # one that has not converged serves as it is
            warnings.simplefilter("ignore", self.not_converged)
            low = fitted.fit_predict(loss[:, None]) == 0
        if not low.any():
            return len(loss)
        likelihood = fitted.score_samples(loss[:, None])
        return int(np.where(low, likelihood, -np.inf).argmax()) + 1


def _sklearn() -> tuple[Any, type[Warning]]:
    """The class of mixtures and the warning of one that has not converged."""
    try:
        mixture, exceptions = (import_module(f"sklearn.{x}") for x in ("mixture", "exceptions"))
    except ImportError as error:
        raise UserError(
            "MODEL.ASSIGNER.NAME paa: needs scikit-learn; pip install scikit-learn"
        ) from error
    return mixture.GaussianMixture, exceptions.ConvergenceWarning
