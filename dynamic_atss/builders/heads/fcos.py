"""The head of FCOS (Tian et al., ICCV 2019): points, with a quality branch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from dynamic_atss.builders.heads.base import Head
from dynamic_atss.modeling.coder import Coder, DistanceCoder
from dynamic_atss.modeling.head import DenseHead
from dynamic_atss.modeling.priors import AnchorGenerator, PointGenerator

if TYPE_CHECKING:
    from dynamic_atss.assigners import Assigner


class FCOSHead(Head):
    """Distances from a point to the four sides, in pixels or, with NORM_REG_TARGETS, in strides."""

    section = "FCOS"
    rule = "fcos"

    def rule_arguments(self, rule: str) -> dict[str, Any]:
        return {"radius": self.own.CENTER_SAMPLING_RADIUS} if rule == "fcos" else {}

    def priors(self) -> AnchorGenerator:
        return PointGenerator(self.own.FPN_STRIDES)

    def network(self, channels: int, classes: int) -> nn.Module:
        return DenseHead(
            channels,
            classes,
            quality="box" if self.own.CENTERNESS_ON_REG else "class",
            positive="relu" if self.own.NORM_REG_TARGETS else "exp",
            **self.tower_arguments(),
        )

    def coder(self) -> Coder:
        return DistanceCoder(1.0 if self.own.NORM_REG_TARGETS else None)

    def criterion_arguments(self, assigner: Assigner) -> dict[str, Any]:
        from dynamic_atss.modeling.box_terms import IoU

        area = "strides" if self.own.NORM_REG_TARGETS else "pixels"
        own = {"box_loss": IoU(self.own.IOU_LOSS_TYPE, area), "box_weight": 1.0}
        return super().criterion_arguments(assigner) | own
