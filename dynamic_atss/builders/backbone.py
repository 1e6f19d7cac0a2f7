"""cfg -> body and feature pyramid."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from yacs.config import CfgNode

from dynamic_atss.builders.check import one_of
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.backbones import MobileNetV2, ResNet, Swin, TimmBody
from dynamic_atss.modeling.backbones.resnet import DEPTHS
from dynamic_atss.modeling.backbones.swin import SIZES
from dynamic_atss.modeling.fpn import FPN, BackboneWithFPN
from dynamic_atss.modeling.layers import NORMS

Builder = Callable[[CfgNode], nn.Module]
TIMM = "timm/"


def build_backbone(cfg: CfgNode) -> BackboneWithFPN:
    """Body of MODEL.BACKBONE.CONV_BODY and FPN. Raises UserError for what cannot be built."""
    try:
        body: Any = build_body(cfg)
        fpn = FPN(
            body.out_channels,
            cfg.MODEL.RESNETS.BACKBONE_OUT_CHANNELS,
            top_from="C5" if cfg.MODEL.RETINANET.USE_C5 else "P5",
            norm="GN" if cfg.MODEL.FPN.USE_GN else None,
            relu=cfg.MODEL.FPN.USE_RELU,
        )
    except ValueError as error:
        name = cfg.MODEL.BACKBONE.CONV_BODY
        raise UserError(f"MODEL.BACKBONE.CONV_BODY {name!r}: {error}") from error
    return BackboneWithFPN(body, fpn)


def build_body(cfg: CfgNode) -> nn.Module:
    """The network that CONV_BODY names: a key of BODIES, also with -RETINANET, or timm/<name>."""
    name = cfg.MODEL.BACKBONE.CONV_BODY
    if name.startswith(TIMM):
        build: Builder = partial(_timm, name=name.removeprefix(TIMM))
    elif (key := name.removesuffix("-RETINANET")) in BODIES:
        build = BODIES[key]
    else:
        near = difflib.get_close_matches(key, BODIES, n=1, cutoff=0)[0]
        raise ValueError(f"accepted are {ACCEPTED}; nearest: {near}-RETINANET")
    if any(cfg.MODEL.RESNETS.STAGE_WITH_DCN) and not name.startswith("R-"):
        raise ValueError("has no deformable stages; leave MODEL.RESNETS.STAGE_WITH_DCN out")
    return build(cfg)


def _resnet(cfg: CfgNode, depth: int) -> ResNet:
    resnets = cfg.MODEL.RESNETS
    return ResNet(
        depth,
        norm=_norm(cfg, "FrozenBN"),
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


def _swin(cfg: CfgNode, size: str) -> Swin:
    if _norm(cfg, ""):
        raise ValueError("has layer norms; leave MODEL.RESNETS.NORM, USE_GN and USE_SYNCBN out")
    freeze_at = cfg.MODEL.BACKBONE.FREEZE_CONV_BODY_AT
    return Swin(size, drop_path=cfg.MODEL.SWIN.DROP_PATH, freeze_at=freeze_at)


def _mobilenet(cfg: CfgNode) -> MobileNetV2:
    """Of the FCOS release, which trains its batch norm."""
    freeze_at = cfg.MODEL.BACKBONE.FREEZE_CONV_BODY_AT
    return MobileNetV2(norm=_norm(cfg, "BN"), freeze_at=freeze_at)


def _timm(cfg: CfgNode, name: str) -> TimmBody:
    freeze_at = cfg.MODEL.BACKBONE.FREEZE_CONV_BODY_AT
    return TimmBody(name, norm=_norm(cfg, ""), freeze_at=freeze_at)


def _norm(cfg: CfgNode, default: str) -> str:
    if cfg.MODEL.RESNETS.NORM:
        one_of("MODEL.RESNETS.NORM", cfg.MODEL.RESNETS.NORM, NORMS)
        return cfg.MODEL.RESNETS.NORM
    if cfg.MODEL.BACKBONE.USE_GN:
        return "GN"
    return "SyncBN" if cfg.MODEL.USE_SYNCBN else default


BODIES: dict[str, Builder] = {
    **{f"R-{depth}-FPN": partial(_resnet, depth=depth) for depth in DEPTHS},
    **{f"SWIN-{size}-FPN": partial(_swin, size=size) for size in SIZES},
    "MNV2-FPN": _mobilenet,
}
ACCEPTED = (
    f"R-<{'|'.join(map(str, DEPTHS))}>-FPN-RETINANET, SWIN-<{'|'.join(SIZES)}>-FPN-RETINANET, "
    "MNV2-FPN-RETINANET and timm/<name>"
)
