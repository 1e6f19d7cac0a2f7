"""Defines the head of FCOS (Tian et al., ICCV 2019): points, with a quality branch."""

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
    """Predicts distances from a point to the four sides of its box.

    The unit is a pixel or, with NORM_REG_TARGETS, a stride.
    """

    section = "FCOS"
    rule = "fcos"

    def rule_arguments(self, rule: str) -> dict[str, Any]:
        return {"radius": self.settings.CENTER_SAMPLING_RADIUS} if rule == "fcos" else {}

    def priors(self) -> AnchorGenerator:
        return PointGenerator(self.settings.FPN_STRIDES)

    def network(self, channels: int, classes: int) -> nn.Module:
        return DenseHead(
            channels,
            classes,
            quality="box" if self.settings.CENTERNESS_ON_REG else "class",
            positive="relu" if self.settings.NORM_REG_TARGETS else "exp",
            **self.tower_arguments(),
        )

    def coder(self) -> Coder:
        return DistanceCoder(1.0 if self.settings.NORM_REG_TARGETS else None)

    def criterion_arguments(self, assigner: Assigner) -> dict[str, Any]:
        from dynamic_atss.modeling.box_terms import IoU

        area = "strides" if self.settings.NORM_REG_TARGETS else "pixels"
        box_loss = IoU(self.settings.IOU_LOSS_TYPE, area)
        return super().criterion_arguments(assigner) | {"box_loss": box_loss, "box_weight": 1.0}
