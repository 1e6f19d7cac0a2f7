"""The head of ATSS (Zhang et al., CVPR 2020): anchors, with a quality branch.

The releases of ATSS and of Dynamic ATSS both mean it by `ATSS_ON`; here its default rule is
Dynamic ATSS.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from dynamic_atss.assigners import Assigner
from dynamic_atss.builders.heads.base import AnchorHead
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.coder import Coder, DeltaCoder, DistanceCoder
from dynamic_atss.modeling.head import DenseHead

# MODEL.ATSS.POSITIVE_TYPE of the release -> the rule.
POSITIVE_TYPES = {"ATSS": "dynamic_atss", "SSC": "fcos", "IoU": "max_iou", "TOPK": "topk"}


class ATSSHead(AnchorHead):
    """Deltas of one square anchor at each location or, with REGRESSION_TYPE POINT, distances."""

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
        if self._points() and self.priors().per_location != 1:
            raise UserError(
                "MODEL.ATSS.REGRESSION_TYPE POINT needs one anchor per location: set "
                "ASPECT_RATIOS (1.0,) and SCALES_PER_OCTAVE 1"
            )

    def network(self, channels: int, classes: int) -> nn.Module:
        return DenseHead(
            channels,
            classes,
            per_location=self.priors().per_location,
            positive="relu" if self._points() else None,
            box_bias=4.0 if self._points() else 0.0,
            **self.tower_arguments(),
        )

    def coder(self) -> Coder:
        own = self.own
        if self._points():
            return DistanceCoder(own.ANCHOR_SIZES[0] / own.ANCHOR_STRIDES[0])
        return DeltaCoder()

    def criterion_arguments(self, assigner: Assigner) -> dict[str, Any]:
        own = {
            "box_weight": self.own.REG_LOSS_WEIGHT,
            "quality_weight": self.own.QUALITY_LOSS_WEIGHT,
        }
        return super().criterion_arguments(assigner) | own

    def _points(self) -> bool:
        return self.own.REGRESSION_TYPE == "POINT"
