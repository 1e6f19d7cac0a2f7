"""cfg -> the sizes and passes of a test, one or, with TEST.BBOX_AUG.ENABLED, many."""

from __future__ import annotations

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

# The release gives SCALES below this the long side of the plain test, if the passes vote.
_SMALL = 800


def build_test_resizes(cfg: CfgNode) -> list[Resize]:
    """Of the test itself first, then of each of the further sizes."""
    sizes = [(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)]
    if cfg.TEST.BBOX_AUG.ENABLED:
        sizes += [(scale, _max_size(cfg, scale)) for scale in cfg.TEST.BBOX_AUG.SCALES]
    return [Resize((short,), long, exact=cfg.INPUT.EXACT_RESIZE) for short, long in sizes]


def build_tested(cfg: CfgNode, model: Detector) -> nn.Module:
    """What is tested: the model itself, or the model in all the passes of TEST.BBOX_AUG.

    The thresholds and limits of the joined detections are the keys that the release reads,
    whichever head is on.
    """
    aug = cfg.TEST.BBOX_AUG
    if not aug.ENABLED:
        return model
    # Without SCALE_RANGES, and without VOTE as in the release, all sizes count.
    ranges = aug.SCALE_RANGES if aug.VOTE and aug.SCALE_RANGES else [None] * len(aug.SCALES)
    scales = [ScaleOptions(flip=aug.H_FLIP)]
    scales += [ScaleOptions(aug.SCALE_H_FLIP, tuple(r) if r is not None else None) for r in ranges]
    return AugmentedDetector(model, scales, _merge(cfg), nms=aug.VOTE)


def _max_size(cfg: CfgNode, scale: int) -> int:
    plain = cfg.TEST.BBOX_AUG.VOTE and scale < _SMALL
    return cfg.INPUT.MAX_SIZE_TEST if plain else cfg.TEST.BBOX_AUG.MAX_SIZE


def _merge(cfg: CfgNode) -> Callable[..., Detections]:
    """A threshold of 0 merges nothing, as in the release."""
    aug, limit = cfg.TEST.BBOX_AUG, cfg.MODEL.ATSS.PRE_NMS_TOP_N
    threshold = cfg.MODEL.ATSS.NMS_TH
    if not aug.VOTE:
        threshold, limit = cfg.MODEL.FCOS.NMS_TH, cfg.TEST.DETECTIONS_PER_IMG
    if not threshold:
        return partial(keep_best, limit=limit)
    if not aug.VOTE or aug.MERGE_TYPE == "nms":
        return partial(merge_by_nms, threshold=threshold, limit=limit)
    soft = cfg.MODEL.RETINANET.INFERENCE_TH if aug.MERGE_TYPE == "soft-vote" else None
    return partial(merge_by_vote, threshold=aug.VOTE_TH, soft_threshold=soft, limit=limit)
