"""cfg -> body and feature pyramid."""

from __future__ import annotations

import re

from yacs.config import CfgNode

from dynamic_atss.builders.check import one_of
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.backbones import ResNet
from dynamic_atss.modeling.fpn import FPN, BackboneWithFPN


def build_backbone(cfg: CfgNode) -> BackboneWithFPN:
    """Body and FPN of MODEL.BACKBONE.CONV_BODY."""
    name = cfg.MODEL.BACKBONE.CONV_BODY
    match = re.fullmatch(r"R-(18|34|50|101|152)-FPN(-RETINANET)?", name)
    if not match:
        raise UserError(
            f"MODEL.BACKBONE.CONV_BODY {name!r}: accepted are R-<depth>-FPN-RETINANET with depth "
            "18, 34, 50, 101 or 152"
        )
    resnets = cfg.MODEL.RESNETS
    body = ResNet(
        int(match[1]),
        norm=_norm(cfg),
        num_groups=resnets.NUM_GROUPS,
        width_per_group=resnets.WIDTH_PER_GROUP,
        stride_in_1x1=resnets.STRIDE_IN_1X1,
        deformable=resnets.STAGE_WITH_DCN,
        modulated=resnets.WITH_MODULATED_DCN,
        deformable_groups=resnets.DEFORMABLE_GROUPS,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_CONV_BODY_AT,
        stem_out=resnets.STEM_OUT_CHANNELS,
        res2_out=resnets.RES2_OUT_CHANNELS,
    )
    fpn = FPN(
        body.out_channels,
        resnets.BACKBONE_OUT_CHANNELS,
        top_from="C5" if cfg.MODEL.RETINANET.USE_C5 else "P5",
        norm="GN" if cfg.MODEL.FPN.USE_GN else None,
        relu=cfg.MODEL.FPN.USE_RELU,
    )
    return BackboneWithFPN(body, fpn)


def _norm(cfg: CfgNode) -> str:
    if cfg.MODEL.RESNETS.NORM:
        one_of("MODEL.RESNETS.NORM", cfg.MODEL.RESNETS.NORM, ("FrozenBN", "BN", "SyncBN", "GN"))
        return cfg.MODEL.RESNETS.NORM
    if cfg.MODEL.BACKBONE.USE_GN:
        return "GN"
    return "SyncBN" if cfg.MODEL.USE_SYNCBN else "FrozenBN"
