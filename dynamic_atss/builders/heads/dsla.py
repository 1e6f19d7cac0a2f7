"""Defines the head of DSLA (Su et al., Pattern Recognition 2022): points, no quality branch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.builders.heads.base import Head
from dynamic_atss.modeling.coder import Coder, DistanceCoder
from dynamic_atss.modeling.head import DenseHead
from dynamic_atss.modeling.priors import AnchorGenerator, PointGenerator

if TYPE_CHECKING:
    from dynamic_atss.assigners import Assigner

MADE_OF_IOU = ("IoU", "alignment")  # qualities that contain the IoU of the prediction


class DSLAHead(Head):
    """Predicts distances from the corner of each cell. Boxes have no legacy "+1"."""

    section = "DSLA"
    rule = "dsla"
    boxes = BoxConvention.EXACT

    def rule_arguments(self, rule: str) -> dict[str, Any]:
        settings = self.settings
        if rule != "dsla":
            return {}
        return {
            "relaxation": settings.RELAXATION_FACTOR if settings.INTERVAL_RELAXATION else 0.0,
            "core_zone": settings.CORE_ZONE,
            "radius": settings.CENTER_SAMPLING_RADIUS if settings.CENTER_SAMPLING else 0.0,
        }

    def priors(self) -> AnchorGenerator:
        return PointGenerator(self.settings.FPN_STRIDES, offset=0.0)

    def network(self, channels: int, classes: int) -> nn.Module:
        return DenseHead(
            channels,
            classes,
            conv_bias=self.settings.CONV_BIAS,
            quality=None,
            positive="relu" if self.settings.NORM_REG_TARGETS else "exp",
            **self.tower_arguments(),
        )

    def coder(self) -> Coder:
        return DistanceCoder(1.0 if self.settings.NORM_REG_TARGETS else None)

    def criterion_arguments(self, assigner: Assigner) -> dict[str, Any]:
        from dynamic_atss.modeling.box_terms import IoU

        hard = self.class_loss(assigner).kind == "focal"
        return {
            "box_loss": IoU(self.settings.IOU_LOSS_TYPE),
            "class_weight": self.settings.CLS_LOSS_WEIGHT,
            "box_weight": self.settings.REG_LOSS_WEIGHT,
            "label": self._label(assigner),
            "divide_by_labels": self.divides_by_labels("positives" if hard else "labels"),
            "least_quality": 1.0,
        }

    def postprocess_arguments(self) -> dict[str, Any]:
        return {"by_location": True, "in_original": True, "nms": True}

    def _label(self, assigner: Assigner) -> str:
        if self.settings.IOU_ONLY:
            return "iou"
        coupled = self.settings.IOU_COUPLING and assigner.quality_name not in MADE_OF_IOU
        return "quality_x_iou" if coupled else "quality"
