"""The head of ATSS (Zhang et al., CVPR 2020): anchors, with a quality branch.

The releases of ATSS and of Dynamic ATSS both mean it by `ATSS_ON`; here its default rule is
Dynamic ATSS.
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

# MODEL.ATSS.POSITIVE_TYPE of the release -> the rule.
POSITIVE_TYPES = {"ATSS": "dynamic_atss", "SSC": "fcos", "IoU": "max_iou", "TOPK": "topk"}


class ATSSHead(AnchorHead):
    """Deltas of one square anchor at each location or, with REGRESSION_TYPE POINT, distances, or,
    with DISTRIBUTION, a distribution of each distance (GFL)."""

    section = "ATSS"
    rule = "dynamic_atss"
    rule_key = "POSITIVE_TYPE"

    def default_rule(self) -> str:
        return POSITIVE_TYPES[self.own.POSITIVE_TYPE]

    def rule_arguments(self, rule: str) -> dict[str, Any]:
        own = self.own
        if rule == "fcos":
            return {"margin": 0.01}
        if rule == "max_iou":
            return self.thresholds() | {"inside_only": True}
        return {"topk": own.TOPK} if rule in ("dynamic_atss", "atss", "topk") else {}

    def check(self) -> None:
        super().check()
        kind = self.own.REGRESSION_TYPE
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
            quality="box" if self.own.QUALITY_BRANCH else None,
            positive="relu" if self._points() else None,
            box_values=getattr(self.coder(), "values", 4),
            box_bias=4.0 if self._points() else 0.0,
            **self.tower_arguments(),
        )

    def coder(self) -> Coder:
        own = self.own
        unit = own.ANCHOR_SIZES[0] / own.ANCHOR_STRIDES[0]
        if own.REGRESSION_TYPE == "DISTRIBUTION":
            return DistributionCoder(unit, own.REG_MAX)
        return DistanceCoder(unit) if self._points() else DeltaCoder()

    def criterion_arguments(self, assigner: Assigner) -> dict[str, Any]:
        own = {
            "box_weight": self.own.REG_LOSS_WEIGHT,
            "quality_weight": self.own.QUALITY_LOSS_WEIGHT,
            "weigh_by": self.own.BOX_WEIGHT,
        }
        return super().criterion_arguments(assigner) | own

    def criterion(self, assigner: Assigner, coder: Coder) -> nn.Module:
        from dynamic_atss.modeling.box_terms import Distribution
        from dynamic_atss.modeling.criterion import Criterion

        found = super().criterion(assigner, coder)
        if isinstance(coder, DistributionCoder) and isinstance(found, Criterion):
            weights = found.box_weight, self.own.DFL_WEIGHT
            found.box_loss, found.box_weight = Distribution(coder, found.box_loss, *weights), 1.0
        return found

    def _points(self) -> bool:
        return self.own.REGRESSION_TYPE == "POINT"
