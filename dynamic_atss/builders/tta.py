"""Builds the sizes and passes of a test: one, or several with TEST.BBOX_AUG.ENABLED."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from torch import nn
from yacs.config import CfgNode

from dynamic_atss.data.transforms import Resize
from dynamic_atss.modeling.detector import Detector
from dynamic_atss.modeling.tta import (
    AugmentedDetector,
    ScaleOptions,
    keep_best,
    merge_by_nms,
    merge_by_vote,
)
from dynamic_atss.types import Detections

logger = logging.getLogger(__name__)

# If the passes vote, the release limits the long side as in a plain test for SCALES below this.
_SMALL = 800


def build_test_resizes(cfg: CfgNode) -> list[Resize]:
    """Builds the resizes: that of the plain test first, then one for each further scale."""
    sizes = [(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)]
    if cfg.TEST.BBOX_AUG.ENABLED:
        sizes += [(scale, _max_size(cfg, scale)) for scale in cfg.TEST.BBOX_AUG.SCALES]
    return [Resize((short,), long, exact=cfg.INPUT.EXACT_RESIZE) for short, long in sizes]


def build_test_model(cfg: CfgNode, model: Detector) -> nn.Module:
    """Returns the model to test: the model itself, or with all passes of TEST.BBOX_AUG.

    The joined detections use the thresholds and limits that the release reads, for every head.
    """
    aug = cfg.TEST.BBOX_AUG
    if not aug.ENABLED:
        return model
    _warn_without_nms(cfg)
    # Without SCALE_RANGES or, as in the release, without VOTE, boxes of all sizes count.
    ranges = aug.SCALE_RANGES if aug.VOTE and aug.SCALE_RANGES else [None] * len(aug.SCALES)
    scales = [ScaleOptions(flip=aug.H_FLIP)]
    scales += [ScaleOptions(aug.SCALE_H_FLIP, tuple(r) if r is not None else None) for r in ranges]
    return AugmentedDetector(model, scales, _merge(cfg), nms=aug.VOTE)


def _max_size(cfg: CfgNode, scale: int) -> int:
    plain = cfg.TEST.BBOX_AUG.VOTE and scale < _SMALL
    return cfg.INPUT.MAX_SIZE_TEST if plain else cfg.TEST.BBOX_AUG.MAX_SIZE


def _warn_without_nms(cfg: CfgNode) -> None:
    """Warns that a model without NMS finds each object once in every pass.

    So the passes are joined by NMS or votes also for such a model.
    """
    one = cfg.MODEL.ONE_TO_ONE
    without = "MODEL.ONE_TO_ONE" if one.NAME and one.PREDICTS else ""
    without = without or ("" if cfg.TEST.NMS else "TEST.NMS False")
    if without:
        logger.warning(
            "%s predicts without NMS, but TEST.BBOX_AUG finds an object in each of its passes. "
            "They are joined by %s",
            without,
            _joined_by(cfg),
        )


def _joined_by(cfg: CfgNode) -> str:
    """Says how TEST.BBOX_AUG joins the passes."""
    aug = cfg.TEST.BBOX_AUG
    key, threshold = _threshold(cfg)
    if not threshold:
        return f"nothing ({key} 0): set it to 0.6 or so"
    return aug.MERGE_TYPE if aug.VOTE else "nms"


def _threshold(cfg: CfgNode) -> tuple[str, float]:
    """Returns the key of the IoU threshold that joins the passes, and its value.

    A threshold of 0 joins nothing, as in the release, also with votes.
    """
    section = "ATSS" if cfg.TEST.BBOX_AUG.VOTE else "FCOS"
    return f"MODEL.{section}.NMS_TH", cfg.MODEL[section].NMS_TH


def _merge(cfg: CfgNode) -> Callable[..., Detections]:
    """Returns the function that merges the passes.

    A threshold of 0 merges nothing, as in the release.
    """
    aug, limit = cfg.TEST.BBOX_AUG, cfg.MODEL.ATSS.PRE_NMS_TOP_N
    _, threshold = _threshold(cfg)
    if not aug.VOTE:
        limit = cfg.TEST.DETECTIONS_PER_IMG
    if not threshold:
        return partial(keep_best, limit=limit)
    if not aug.VOTE or aug.MERGE_TYPE == "nms":
        return partial(merge_by_nms, threshold=threshold, limit=limit)
    soft = cfg.MODEL.RETINANET.INFERENCE_TH if aug.MERGE_TYPE == "soft-vote" else None
    return partial(merge_by_vote, threshold=aug.VOTE_TH, soft_threshold=soft, limit=limit)
