"""cfg -> detector."""

from __future__ import annotations

from yacs.config import CfgNode

from dynamic_atss.assigners import ASSIGNERS, Assigner
from dynamic_atss.builders.backbone import build_backbone
from dynamic_atss.builders.check import DTYPES, one_of
from dynamic_atss.engine import distributed
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.coder import DeltaCoder, DistanceCoder
from dynamic_atss.modeling.criterion import Criterion
from dynamic_atss.modeling.detector import Detector
from dynamic_atss.modeling.head import AnchorHead
from dynamic_atss.modeling.postprocess import PostProcess
from dynamic_atss.modeling.priors import AnchorGenerator


def build_assigner(cfg: CfgNode) -> Assigner:
    """The rule that MODEL.ASSIGNER.NAME names; "" is what the published files mean by ATSS_ON."""
    name = cfg.MODEL.ASSIGNER.NAME or "dynamic_atss"
    one_of("MODEL.ASSIGNER.NAME", name, ASSIGNERS)
    return ASSIGNERS[name](topk=cfg.MODEL.ATSS.TOPK)  # type: ignore[call-arg]


def build_priors(cfg: CfgNode) -> AnchorGenerator:
    """The anchors of every level."""
    atss = cfg.MODEL.ATSS
    return AnchorGenerator(
        atss.ANCHOR_STRIDES,
        atss.ANCHOR_SIZES,
        atss.ASPECT_RATIOS,
        atss.OCTAVE,
        atss.SCALES_PER_OCTAVE,
    )


def build_head(cfg: CfgNode, channels: int, classes: int, per_location: int) -> AnchorHead:
    """The head over feature maps of `channels`, with so many anchors at each location."""
    atss = cfg.MODEL.ATSS
    distances = atss.REGRESSION_TYPE == "POINT"
    if distances and per_location != 1:
        raise ValueError("MODEL.ATSS.REGRESSION_TYPE POINT needs one anchor per location")
    return AnchorHead(
        channels,
        classes,
        num_levels=len(atss.ANCHOR_STRIDES),
        per_location=per_location,
        num_convs=atss.NUM_CONVS,
        deformable_last=atss.USE_DCN_IN_TOWER,
        distances=distances,
        prior_prob=atss.PRIOR_PROB,
    )


def build_coder(cfg: CfgNode) -> DeltaCoder | DistanceCoder:
    """Deltas of the anchor, or distances in units of the anchor's side over its stride."""
    atss = cfg.MODEL.ATSS
    if atss.REGRESSION_TYPE == "POINT":
        return DistanceCoder(atss.ANCHOR_SIZES[0] / atss.ANCHOR_STRIDES[0])
    return DeltaCoder()


def build_criterion(cfg: CfgNode) -> Criterion:
    """The rule and the losses."""
    atss = cfg.MODEL.ATSS
    return Criterion(
        build_assigner(cfg),
        build_coder(cfg),
        distributed.average,
        alpha=atss.LOSS_ALPHA,
        gamma=atss.LOSS_GAMMA,
        box_weight=atss.REG_LOSS_WEIGHT,
    )


def build_postprocess(cfg: CfgNode) -> PostProcess:
    """From the head's output to detections."""
    atss = cfg.MODEL.ATSS
    return PostProcess(
        build_coder(cfg),
        score_threshold=atss.INFERENCE_TH,
        nms_threshold=atss.NMS_TH,
        pre_nms_top_n=atss.PRE_NMS_TOP_N,
        detections_per_image=cfg.TEST.DETECTIONS_PER_IMG,
    )


def build_model(cfg: CfgNode, classes: int) -> Detector:
    """The detector for `classes` classes (without background), with its initial weights."""
    try:
        backbone, priors = build_backbone(cfg), build_priors(cfg)
        head = build_head(cfg, backbone.out_channels, classes, priors.per_location)
    except ValueError as error:
        raise UserError(f"configuration of MODEL: {error}") from error
    model = Detector(
        backbone,
        head,
        priors,
        build_criterion(cfg),
        build_postprocess(cfg),
        pixel_mean=cfg.INPUT.PIXEL_MEAN,
        pixel_std=cfg.INPUT.PIXEL_STD,
        bgr255=cfg.INPUT.TO_BGR255,
        autocast=DTYPES[cfg.DTYPE],
        channels_last=cfg.MODEL.CHANNELS_LAST,
    )
    if cfg.MODEL.COMPILE:  # in place: the names of the parameters stay as they are
        model.backbone.compile()
        model.head.compile()
    return model
