"""Defines the head of ATSS (Zhang et al., CVPR 2020): anchors, with a quality branch.

`ATSS_ON` chooses it in the releases of ATSS and of Dynamic ATSS. Here its default rule is Dynamic
ATSS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from dynamic_atss.builders.heads.base import AnchorHead
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.coder import Coder, DeltaCoder, DistanceCoder, DistributionCoder
from dynamic_atss.modeling.head import DenseHead

if TYPE_CHECKING:
    from dynamic_atss.assigners import Assigner

# MODEL.ATSS.POSITIVE_TYPE of the release -> name of the rule.
POSITIVE_TYPES = {"ATSS": "dynamic_atss", "SSC": "fcos", "IoU": "max_iou", "TOPK": "topk"}


class ATSSHead(AnchorHead):
    """Predicts a box from one square anchor at each location.

    REGRESSION_TYPE chooses the form: BOX predicts deltas, POINT distances, and DISTRIBUTION a
    distribution of each distance (GFL).
    """

    section = "ATSS"
    rule = "dynamic_atss"
    rule_key = "POSITIVE_TYPE"

    def default_rule(self) -> str:
        return POSITIVE_TYPES[self.settings.POSITIVE_TYPE]

    def rule_arguments(self, rule: str) -> dict[str, Any]:
        if rule == "fcos":
            return {"margin": 0.01}
        if rule == "max_iou":
            return self.thresholds() | {"inside_only": True}
        return {"topk": self.settings.TOPK} if rule in ("dynamic_atss", "atss", "topk") else {}

    def check(self) -> None:
        super().check()
        kind = self.settings.REGRESSION_TYPE
        if kind != "BOX" and self.priors().per_location != 1:
            raise UserError(
                f"MODEL.ATSS.REGRESSION_TYPE {kind} needs one anchor per location: set "
                "ASPECT_RATIOS (1.0,) and SCALES_PER_OCTAVE 1"
            )

    def network(self, channels: int, classes: int) -> nn.Module:
        return DenseHead(
            channels,
            classes,
            per_location=self.priors().per_location,
            quality="box" if self.settings.QUALITY_BRANCH else None,
            positive="relu" if self._points() else None,
            box_values=getattr(self.coder(), "values", 4),
            box_bias=4.0 if self._points() else 0.0,
            **self.tower_arguments(),
        )

    def coder(self) -> Coder:
        settings = self.settings
        unit = settings.ANCHOR_SIZES[0] / settings.ANCHOR_STRIDES[0]
        if settings.REGRESSION_TYPE == "DISTRIBUTION":
            return DistributionCoder(unit, settings.REG_MAX)
        return DistanceCoder(unit) if self._points() else DeltaCoder()

    def criterion_arguments(self, assigner: Assigner) -> dict[str, Any]:
        return super().criterion_arguments(assigner) | {
            "box_weight": self.settings.REG_LOSS_WEIGHT,
            "quality_weight": self.settings.QUALITY_LOSS_WEIGHT,
            "weigh_by": self.settings.BOX_WEIGHT,
        }

    def criterion(self, assigner: Assigner, coder: Coder) -> nn.Module:
        from dynamic_atss.modeling.box_terms import Distribution
        from dynamic_atss.modeling.criterion import Criterion

        criterion = super().criterion(assigner, coder)
        if isinstance(coder, DistributionCoder) and isinstance(criterion, Criterion):
            weights = criterion.box_weight, self.settings.DFL_WEIGHT
            criterion.box_loss = Distribution(coder, criterion.box_loss, *weights)
            criterion.box_weight = 1.0
        return criterion

    def _points(self) -> bool:
        return self.settings.REGRESSION_TYPE == "POINT"
