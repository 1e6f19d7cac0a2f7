"""The head of DSLA (Su et al., Pattern Recognition 2022): points, no quality branch."""

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

MADE_OF_IOU = ("IoU", "alignment")  # qualities that hold the IoU of the prediction


class DSLAHead(Head):
    """Distances from a point on the corner of its cell; boxes without the legacy "+1"."""

    section = "DSLA"
    rule = "dsla"
    boxes = BoxConvention.EXACT

    def rule_arguments(self, rule: str) -> dict[str, Any]:
        own = self.own
        if rule != "dsla":
            return {}
        return {
            "relaxation": own.RELAXATION_FACTOR if own.INTERVAL_RELAXATION else 0.0,
            "core_zone": own.CORE_ZONE,
            "radius": own.CENTER_SAMPLING_RADIUS if own.CENTER_SAMPLING else 0.0,
        }

    def priors(self) -> AnchorGenerator:
        return PointGenerator(self.own.FPN_STRIDES, offset=0.0)

    def network(self, channels: int, classes: int) -> nn.Module:
        return DenseHead(
            channels,
            classes,
            conv_bias=self.own.CONV_BIAS,
            quality=None,
            positive="relu" if self.own.NORM_REG_TARGETS else "exp",
            **self.tower_arguments(),
        )

    def coder(self) -> Coder:
        return DistanceCoder(1.0 if self.own.NORM_REG_TARGETS else None)

    def criterion_arguments(self, assigner: Assigner) -> dict[str, Any]:
        from dynamic_atss.modeling.box_terms import IoU

        hard = self.class_loss(assigner).kind == "focal"
        return {
            "box_loss": IoU(self.own.IOU_LOSS_TYPE),
            "class_weight": self.own.CLS_LOSS_WEIGHT,
            "box_weight": self.own.REG_LOSS_WEIGHT,
            "label": self._label(assigner),
            "divide_by_labels": self.divides_by_labels("positives" if hard else "labels"),
            "least_quality": 1.0,
        }

    def postprocess_arguments(self) -> dict[str, Any]:
        return {"by_location": True, "in_original": True, "nms": True}

    def _label(self, assigner: Assigner) -> str:
        if self.own.IOU_ONLY:
            return "iou"
        coupled = self.own.IOU_COUPLING and assigner.quality_name not in MADE_OF_IOU
        return "quality_x_iou" if coupled else "quality"
