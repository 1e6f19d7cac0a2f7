"""Builds the body and the feature pyramid from the configuration."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from dynamic_atss.builders.user_code import construct, find, require
from dynamic_atss.config.code import names_code
from dynamic_atss.errors import UserError, described
from dynamic_atss.modeling.backbones import MobileNetV2, ResNet, Swin, TimmBody
from dynamic_atss.modeling.backbones.resnet import DEPTHS
from dynamic_atss.modeling.backbones.swin import SIZES
from dynamic_atss.modeling.fpn import FPN, BackboneWithFPN
from dynamic_atss.suggest import nearest

logger = logging.getLogger(__name__)

Builder = Callable[[CfgNode], nn.Module]
TIMM = "timm/"
KEY = "MODEL.BACKBONE.CONV_BODY"
REQUIREMENT = (
    "a body is a torch.nn.Module whose forward takes images (N, 3, H, W) and gives a list of the "
    "maps of strides 8, 16 and 32, their channels in the list out_channels"
)


def build_backbone(cfg: CfgNode) -> BackboneWithFPN:
    """Builds the body of MODEL.BACKBONE.CONV_BODY and its FPN.

    Raises:
        UserError: the body or the FPN cannot be built.
    """
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
    """Builds the network that CONV_BODY names.

    The name is a class of the user's code, timm/<name>, or a key of BODIES, also with "-RETINANET".

    Raises:
        ValueError: the name is unknown, or a key does not apply to the body.
    """
    name = cfg.MODEL.BACKBONE.CONV_BODY
    custom = find_custom_body(cfg)
    if custom is not None:
        build: Builder = partial(_custom, make=custom)
    elif name.startswith(TIMM):
        build = partial(_timm, name=name.removeprefix(TIMM))
    elif (key := name.removesuffix("-RETINANET")) in BODIES:
        build = BODIES[key]
    else:
        near = nearest(key, BODIES)
        hint = f"; nearest: {near}-RETINANET" if near else ""
        raise ValueError(f"accepted are {ACCEPTED}{hint}")
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
    """Builds the body of the FCOS release, which trains its batch norm."""
    freeze_at = cfg.MODEL.BACKBONE.FREEZE_CONV_BODY_AT
    return MobileNetV2(norm=_norm(cfg, "BN"), freeze_at=freeze_at)


def _timm(cfg: CfgNode, name: str) -> TimmBody:
    freeze_at = cfg.MODEL.BACKBONE.FREEZE_CONV_BODY_AT
    return TimmBody(name, norm=_norm(cfg, ""), freeze_at=freeze_at)


def find_custom_body(cfg: CfgNode) -> type[nn.Module] | None:
    """Finds the user's class that CONV_BODY names; None for a body of the package.

    Raises:
        UserError: the class is no `nn.Module`, or arguments are given for a body of the package.
    """
    name, arguments = cfg.MODEL.BACKBONE.CONV_BODY, cfg.MODEL.BACKBONE.ARGS
    if not names_code(KEY, name):
        if arguments:
            raise UserError(
                f"MODEL.BACKBONE.ARGS.{next(iter(arguments))}: {name} takes no arguments; remove "
                f"the key, or name a body of your own by {KEY}"
            )
        return None
    found = find(KEY, name, {})
    require(KEY, name, found, nn.Module, (), REQUIREMENT)
    return found


def _custom(cfg: CfgNode, make: type[nn.Module]) -> nn.Module:
    """Builds a body of the user's code; passes `norm` and `freeze_at` if it has these arguments."""
    name, backbone = cfg.MODEL.BACKBONE.CONV_BODY, cfg.MODEL.BACKBONE
    published = {"norm": _norm(cfg, ""), "freeze_at": backbone.FREEZE_CONV_BODY_AT}
    accepted = inspect.signature(make).parameters
    if "freeze_at" not in accepted and backbone.FREEZE_CONV_BODY_AT:
        logger.info(
            "%s %s: takes no argument freeze_at, so MODEL.BACKBONE.FREEZE_CONV_BODY_AT %d has no "
            "effect: all its layers are trained",
            KEY,
            name,
            backbone.FREEZE_CONV_BODY_AT,
        )
    given = {key: value for key, value in published.items() if key in accepted}
    body = construct("MODEL.BACKBONE.ARGS", name, make, **(given | dict(backbone.ARGS)))
    _check_maps(name, body)
    return body


def _check_maps(name: str, body: nn.Module) -> None:
    """Raises UserError unless a 64 x 64 image gives feature maps of strides 8, 16 and 32."""
    channels: Any = getattr(body, "out_channels", None)
    numbers = list(channels) if isinstance(channels, list | tuple) else []
    if len(numbers) != 3 or not all(isinstance(x, int) for x in numbers):
        raise UserError(f"{KEY} {name!r}: its out_channels is {channels!r}; {REQUIREMENT}")
    wanted = [(1, c, 64 // s, 64 // s) for c, s in zip(numbers, (8, 16, 32), strict=True)]
    body.eval()  # in training, batch norm would fail on the 1 x 1 maps of one image
    try:
        with torch.no_grad():
            maps = body(torch.zeros(1, 3, 64, 64))
    except Exception as error:  # the user's code may raise anything
        reason = f"its forward fails ({described(error)})"
        raise UserError(f"{KEY} {name!r}: {reason}; {REQUIREMENT}") from error
    body.train()
    if not isinstance(maps, list | tuple) or not all(isinstance(x, Tensor) for x in maps):
        raise UserError(
            f"{KEY} {name!r}: its forward gives {_kind(maps)}, not a list of tensors; {REQUIREMENT}"
        )
    found = [tuple(x.shape) for x in maps]
    if found != wanted:
        raise UserError(
            f"{KEY} {name!r}: an image of 64 x 64 gives maps {found} with out_channels "
            f"{channels}; {REQUIREMENT}"
        )


def _kind(maps: Any) -> str:
    """Describes the result of a body for a message."""
    if isinstance(maps, list | tuple):
        return f"a {type(maps).__name__} of {', '.join(type(x).__name__ for x in maps)}"
    shape = f" of shape {tuple(maps.shape)}" if isinstance(maps, Tensor) else ""
    return f"{type(maps).__name__}{shape}"


def _norm(cfg: CfgNode, default: str) -> str:
    if cfg.MODEL.RESNETS.NORM:
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
