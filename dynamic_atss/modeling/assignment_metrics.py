"""Numbers that tell how a rule assigns."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from dynamic_atss.boxes import iou
from dynamic_atss.modeling.matching import Matched
from dynamic_atss.types import IGNORE, GroundTruth, Priors

_NAMES = re.compile("positives(_s[0-9]+)?|boxes_without_positive|iou_of_positives|ignored")


def is_of_assignment(name: str) -> bool:
    """Whether a metric is one of `assignment_metrics`, also of a branch: "one/positives"."""
    return _NAMES.fullmatch(name.rpartition("/")[2]) is not None


@torch.no_grad()
def assignment_metrics(found: Matched, priors: Priors, gt: GroundTruth) -> dict[str, Tensor]:
    """Metrics, as of `Terms`, without a wait for the device.

    positives, positives_s8, ...: positives per image, of all levels and by the level's stride ·
    boxes_without_positive: per image · iou_of_positives: mean IoU of predicted boxes and targets,
    of all positives together · ignored: share of the priors that are IGNORE
    """
    by_level = _by_stride(found.positive.sum(0), priors)
    images = len(found.positive)
    overlap = torch.where(found.positive, iou(found.boxes, found.targets), 0.0).sum()
    total = torch.stack(list(by_level.values())).sum()
    missed = (~found.target.learnt(gt.split)).sum()
    return {
        "positives": total / images,
        **{f"positives_s{stride}": count / images for stride, count in by_level.items()},
        "boxes_without_positive": missed / images,
        "iou_of_positives": torch.stack((overlap, total.to(overlap.dtype))),
        "ignored": (found.target.gt_index == IGNORE).float().mean(),
    }


def _by_stride(counts: Tensor, priors: Priors) -> dict[int, Tensor]:
    """Sums of counts (P,); levels of one stride count together."""
    lengths = [level.locations * priors.per_location for level in priors.levels]
    sums: dict[int, Tensor] = {}
    for level, part in zip(priors.levels, counts.split(lengths), strict=True):
        sums[level.stride] = sums.get(level.stride, 0) + part.sum()
    return sums
