"""The head of RetinaNet (Lin et al., ICCV 2017): nine anchors a location, no quality branch."""

from __future__ import annotations

from typing import Any

from torch import nn

from dynamic_atss.assigners import Assigner
from dynamic_atss.builders.heads.base import Head
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.coder import Coder, DeltaCoder
from dynamic_atss.modeling.criterion import RetinaNetCriterion
from dynamic_atss.modeling.head import DenseHead
from dynamic_atss.modeling.priors import AnchorGenerator


class RetinaNetHead(Head):
    """Deltas of anchors by smooth L1, classes by focal loss."""

    section = "RETINANET"
    rule = "max_iou"
    criterion_type = RetinaNetCriterion

    def rule_arguments(self, rule: str) -> dict[str, Any]:
        if rule != "max_iou":
            return {}
        limits = {"positive": self.own.FG_IOU_THRESHOLD, "negative": self.own.BG_IOU_THRESHOLD}
        return limits | {"inside_only": False}

    def check(self) -> None:
        super().check()
        model = self.cfg.MODEL
        if model.CLASS_LOSS_DIVISOR:
            raise UserError(
                f"MODEL.CLASS_LOSS_DIVISOR {model.CLASS_LOSS_DIVISOR!r}: the head of "
                "MODEL.RETINANET_ON divides by positives + images; leave this key out"
            )

    def priors(self) -> AnchorGenerator:
        own = self.own
        return AnchorGenerator(
            own.ANCHOR_STRIDES,
            own.ANCHOR_SIZES,
            own.ASPECT_RATIOS,
            own.OCTAVE,
            own.SCALES_PER_OCTAVE,
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

    def criterion_arguments(self, assigner: Assigner) -> dict[str, Any]:
        return {"beta": self.own.BBOX_REG_BETA, "divisor": self.own.BBOX_REG_WEIGHT}
