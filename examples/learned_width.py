"""Defines a rule that learns. Positives farther from the centre of their box weigh less.

The rule learns how fast the weight falls in x and in y, after AutoAssign's centre prior (Zhu et
al., arXiv 2007.03496). ATSS selects the positives.

python tools/train_net.py --config-file configs/quickstart/bccd_R_18.yaml \
  MODEL.ASSIGNER.NAME examples/learned_width.py:LearnedWidth
"""

import torch
from torch import Tensor, nn

from dynamic_atss.assigners.rules.atss import ATSS
from dynamic_atss.boxes import centers
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors, rows


class LearnedWidth(nn.Module):
    """Weighs ATSS's positives by a Gaussian around the centre of each box.

    Args:
        width: initial distance at which the weight is exp(-1), in half sides of the box.
        pull: weight of the loss that keeps the width above 0. At 0 no positive would count.
    """

    soft_labels = False
    quality_name = "centerness"
    needs_size = True

    def __init__(self, width: float = 1.0, pull: float = 0.1) -> None:
        super().__init__()
        self.rule, self.pull = ATSS(), pull
        self.width = nn.Parameter(torch.full((2,), float(width)))

    def forward(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        found = self.rule(priors, gt, predictions)
        boxes = rows(gt.boxes, found.gt_index)  # 0 where a prior is not positive
        half = ((boxes[..., 2:] - boxes[..., :2]) / 2).clamp(min=1)
        offset = (priors.centers - centers(boxes)) / half
        weight: Tensor = (-(offset / self.width).square().sum(-1)).exp()
        return Assignment(
            found.gt_index,
            found.quality,
            weight=weight,
            losses={"loss_width": self.pull * self.width.square().reciprocal().mean()},
            metrics={"width": self.width.mean()},
        )
