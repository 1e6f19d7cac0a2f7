"""cfg -> head, with the priors, losses and post-processing that go with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from yacs.config import CfgNode

from dynamic_atss.assigners import Assigner
from dynamic_atss.engine import distributed
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.box_terms import IoU
from dynamic_atss.modeling.coder import DeltaCoder, DistanceCoder
from dynamic_atss.modeling.criterion import (
    ClassLoss,
    Criterion,
    RetinaNetCriterion,
    default_class_loss,
)
from dynamic_atss.modeling.head import DenseHead
from dynamic_atss.modeling.postprocess import PostProcess
from dynamic_atss.modeling.priors import AnchorGenerator, PointGenerator

MADE_OF_IOU = ("IoU", "alignment")  # qualities that hold the IoU of the prediction


class Parts(NamedTuple):
    """What differs between the published heads."""

    head: DenseHead
    priors: AnchorGenerator
    criterion: Criterion | RetinaNetCriterion
    postprocess: PostProcess


def head_name(cfg: CfgNode) -> str:
    """The head that is switched on, a key of HEADS, and its section of MODEL.

    Raises:
        UserError: none, or several.
    """
    on = [name for name in HEADS if cfg.MODEL[f"{name}_ON"]]
    if len(on) != 1:
        keys = [f"MODEL.{name}_ON" for name in on or HEADS]
        what = "several heads are" if on else "no head is"
        raise UserError(f"{what} switched on: set one of {', '.join(keys)} True")
    return on[0]


def build_parts(cfg: CfgNode, assigner: Assigner, channels: int, classes: int) -> Parts:
    """The head that is switched on, over maps of `channels`, for `classes` classes."""
    return HEADS[head_name(cfg)](cfg, assigner, channels, classes)


def build_priors(cfg: CfgNode) -> AnchorGenerator:
    """The priors of the head that is switched on."""
    name = head_name(cfg)
    own = cfg.MODEL[name]
    if name == "FCOS":
        return PointGenerator(own.FPN_STRIDES)
    if name == "DSLA":
        return PointGenerator(own.FPN_STRIDES, offset=0.0)
    sizes = own.ANCHOR_SIZES
    return AnchorGenerator(
        own.ANCHOR_STRIDES, sizes, own.ASPECT_RATIOS, own.OCTAVE, own.SCALES_PER_OCTAVE
    )


def _build_atss(cfg: CfgNode, assigner: Assigner, channels: int, classes: int) -> Parts:
    own, priors = cfg.MODEL.ATSS, build_priors(cfg)
    points = own.REGRESSION_TYPE == "POINT"
    if points and priors.per_location != 1:
        raise ValueError("MODEL.ATSS.REGRESSION_TYPE POINT needs one anchor per location")
    head = DenseHead(
        channels,
        classes,
        per_location=priors.per_location,
        positive="relu" if points else None,
        box_bias=4.0 if points else 0.0,
        **_shared(own),
    )
    coder = DistanceCoder(own.ANCHOR_SIZES[0] / own.ANCHOR_STRIDES[0]) if points else DeltaCoder()
    criterion = Criterion(
        assigner,
        coder,
        distributed.average,
        class_loss=_class_loss(cfg, assigner),
        box_weight=own.REG_LOSS_WEIGHT,
        divide_by_labels=_divides_by_labels(cfg),
    )
    return Parts(head, priors, criterion, _postprocess(cfg, coder))


def _build_fcos(cfg: CfgNode, assigner: Assigner, channels: int, classes: int) -> Parts:
    own = cfg.MODEL.FCOS
    head = DenseHead(
        channels,
        classes,
        quality="box" if own.CENTERNESS_ON_REG else "class",
        positive="relu" if own.NORM_REG_TARGETS else "exp",
        **_shared(own),
    )
    coder = DistanceCoder(1.0 if own.NORM_REG_TARGETS else None)
    criterion = Criterion(
        assigner,
        coder,
        distributed.average,
        class_loss=_class_loss(cfg, assigner),
        box_loss=IoU(own.IOU_LOSS_TYPE, "strides" if own.NORM_REG_TARGETS else "pixels"),
        box_weight=1.0,
        divide_by_labels=_divides_by_labels(cfg),
    )
    return Parts(head, build_priors(cfg), criterion, _postprocess(cfg, coder))


def _build_retinanet(cfg: CfgNode, assigner: Assigner, channels: int, classes: int) -> Parts:
    own, priors, coder = cfg.MODEL.RETINANET, build_priors(cfg), DeltaCoder()
    head = DenseHead(
        channels,
        classes,
        per_location=priors.per_location,
        norm=False,
        scales=False,
        quality=None,
        **_shared(own),
    )
    criterion = RetinaNetCriterion(
        assigner,
        coder,
        distributed.average,
        class_loss=_class_loss(cfg, assigner),
        beta=own.BBOX_REG_BETA,
        divisor=own.BBOX_REG_WEIGHT,
    )
    return Parts(head, priors, criterion, _postprocess(cfg, coder))


def _build_dsla(cfg: CfgNode, assigner: Assigner, channels: int, classes: int) -> Parts:
    own = cfg.MODEL.DSLA
    head = DenseHead(
        channels,
        classes,
        conv_bias=own.CONV_BIAS,
        quality=None,
        positive="relu" if own.NORM_REG_TARGETS else "exp",
        **_shared(own),
    )
    coder = DistanceCoder(1.0 if own.NORM_REG_TARGETS else None)
    class_loss = _class_loss(cfg, assigner)
    hard = class_loss.kind == "focal"
    criterion = Criterion(
        assigner,
        coder,
        distributed.average,
        class_loss=class_loss,
        box_loss=IoU(own.IOU_LOSS_TYPE),
        class_weight=own.CLS_LOSS_WEIGHT,
        box_weight=own.REG_LOSS_WEIGHT,
        label=_dsla_label(own, assigner),
        divide_by_labels=_divides_by_labels(cfg, own="positives" if hard else "labels"),
        least_quality=1.0,
    )
    by_location = {"by_location": True, "extra": 0.0, "in_original": True}
    return Parts(head, build_priors(cfg), criterion, _postprocess(cfg, coder, **by_location))


HEADS: dict[str, Callable[[CfgNode, Assigner, int, int], Parts]] = {
    "ATSS": _build_atss,
    "FCOS": _build_fcos,
    "RETINANET": _build_retinanet,
    "DSLA": _build_dsla,
}


def _shared(own: CfgNode) -> dict[str, Any]:
    """What the sections of all heads say alike (RetinaNet's has no deformable tower)."""
    return {
        "num_convs": own.NUM_CONVS,
        "deformable_last": own.get("USE_DCN_IN_TOWER", False),
        "prior_prob": own.PRIOR_PROB,
    }


def _class_loss(cfg: CfgNode, assigner: Assigner) -> ClassLoss:
    own = cfg.MODEL[head_name(cfg)]
    return default_class_loss(assigner, cfg.MODEL.CLASS_LOSS, own.LOSS_ALPHA, own.LOSS_GAMMA)


def _dsla_label(own: CfgNode, assigner: Assigner) -> str:
    if own.IOU_ONLY:
        return "iou"
    coupled = own.IOU_COUPLING and assigner.quality_name not in MADE_OF_IOU
    return "quality_x_iou" if coupled else "quality"


def _divides_by_labels(cfg: CfgNode, own: str = "positives") -> bool:
    return (cfg.MODEL.CLASS_LOSS_DIVISOR or own) == "labels"


def _postprocess(cfg: CfgNode, coder: Any, **kwargs: Any) -> PostProcess:
    own = cfg.MODEL[head_name(cfg)]
    return PostProcess(
        coder,
        score_threshold=own.INFERENCE_TH,
        nms_threshold=own.NMS_TH,
        pre_nms_top_n=own.PRE_NMS_TOP_N,
        detections_per_image=cfg.TEST.DETECTIONS_PER_IMG,
        **kwargs,
    )
