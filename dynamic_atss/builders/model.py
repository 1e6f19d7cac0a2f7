"""cfg -> detector."""

from __future__ import annotations

from yacs.config import CfgNode

from dynamic_atss.builders.backbone import build_backbone
from dynamic_atss.builders.dual import build_parts
from dynamic_atss.builders.heads import build_head
from dynamic_atss.builders.limits import DTYPES
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.detector import Detector


def build_model(cfg: CfgNode, classes: int) -> Detector:
    """The detector for `classes` classes (without background), with its initial weights."""
    head = build_head(cfg)
    backbone = build_backbone(cfg)
    try:
        parts = build_parts(cfg, head, backbone.out_channels, classes)
    except ValueError as error:
        raise UserError(f"configuration of MODEL: {error}") from error
    model = Detector(
        backbone,
        parts.head,
        parts.priors,
        parts.criterion,
        parts.postprocess,
        pixel_mean=cfg.INPUT.PIXEL_MEAN,
        pixel_std=cfg.INPUT.PIXEL_STD,
        bgr255=cfg.INPUT.TO_BGR255,
        autocast=DTYPES[cfg.DTYPE],
        channels_last=cfg.MODEL.CHANNELS_LAST,
        parts=cfg.SOLVER.ACCUMULATE,
    )
    if cfg.MODEL.COMPILE:  # in place: the names of the parameters stay as they are
        model.backbone.compile()
        model.head.compile()
    return model
