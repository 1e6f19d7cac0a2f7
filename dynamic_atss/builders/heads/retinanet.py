"""Defines the head of RetinaNet (Lin et al., ICCV 2017): nine anchors at each location.

It has no quality branch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from dynamic_atss.builders.heads.base import AnchorHead
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.coder import Coder, DeltaCoder
from dynamic_atss.modeling.head import DenseHead

if TYPE_CHECKING:
    from dynamic_atss.assigners import Assigner
    from dynamic_atss.modeling.criterion import DenseCriterion


class RetinaNetHead(AnchorHead):
    """Learns deltas of anchors by smooth L1 and classes by focal loss."""

    section = "RETINANET"
    rule = "max_iou"

    def rule_arguments(self, rule: str) -> dict[str, Any]:
        return self.thresholds() | {"inside_only": False} if rule == "max_iou" else {}

    def check(self) -> None:
        super().check()
        model = self.model
        if model.CLASS_LOSS_DIVISOR:
            raise UserError(
                f"MODEL.CLASS_LOSS_DIVISOR {model.CLASS_LOSS_DIVISOR!r}: the head "
                f"{type(self).__name__} divides by positives + images; leave this key out"
            )

    def network(self, channels: int, classes: int) -> nn.Module:
        return DenseHead(
            channels,
            classes,
            per_location=self.priors().per_location,
            norm=False,
            scales=False,
            quality=None,
            **self.tower_arguments(),
        )

    def coder(self) -> Coder:
        return DeltaCoder()

    def criterion_type(self) -> type[DenseCriterion]:
        from dynamic_atss.modeling.criterion import RetinaNetCriterion

        return RetinaNetCriterion

    def criterion_arguments(self, assigner: Assigner) -> dict[str, Any]:
        return {"beta": self.settings.BBOX_REG_BETA, "divisor": self.settings.BBOX_REG_WEIGHT}
