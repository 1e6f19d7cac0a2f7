"""Computes metrics of an assignment."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from dynamic_atss.boxes import iou
from dynamic_atss.modeling.gather_targets import Matched
from dynamic_atss.types import IGNORE, Assignment, GroundTruth, Priors

# Classes of box sizes. A size is the square root of width x height in pixels of the resized image.
# Each class starts at twice the size of the previous one, like the strides.
SIZES = ("0to8", "8to16", "16to32", "32to64", "64to128", "128to256", "256up")
BY_SIZE = ("boxes", "positives", "boxes_without_positive")

_NAMES = re.compile(
    rf"positives(_s[0-9]+)?|boxes_without_positive|iou_of_positives|ignored"
    rf"|({'|'.join(BY_SIZE)})_({'|'.join(SIZES)})"
)


def is_of_assignment(name: str) -> bool:
    """Returns True if a name is one of `assignment_metrics`, also of a branch ("one/positives")."""
    return _NAMES.fullmatch(name.rpartition("/")[2]) is not None


@torch.no_grad()
def assignment_metrics(found: Matched, priors: Priors, gt: GroundTruth) -> dict[str, Tensor]:
    """Computes the metrics for `Terms` without waiting for the device.

    Returns:
        positives, positives_s8, ...: positives per image, on all levels and by stride.
        boxes_without_positive: per image.
        iou_of_positives: mean IoU of predicted boxes and targets over all positives.
        ignored: share of the priors that are IGNORE.
        boxes_8to16, positives_8to16, boxes_without_positive_8to16, ...: per image, for the boxes
            of each of `SIZES`.
    """
    by_level = _by_stride(found.positive.sum(0), priors)
    images = len(found.positive)
    overlap = torch.where(found.positive, iou(found.boxes, found.targets), 0.0).sum()
    total = torch.stack(list(by_level.values())).sum()
    counts = _positives_of_boxes(found.target, gt.object_count)
    return {
        "positives": total / images,
        **{f"positives_s{stride}": count / images for stride, count in by_level.items()},
        "boxes_without_positive": (counts == 0).sum() / images,
        "iou_of_positives": torch.stack((overlap, total.to(overlap.dtype))),
        "ignored": (found.target.gt_index == IGNORE).float().mean(),
        **_by_size(counts, gt, images),
    }


def _by_stride(counts: Tensor, priors: Priors) -> dict[int, Tensor]:
    """Sums the counts (P,) by stride."""
    lengths = [level.locations * priors.per_location for level in priors.levels]
    sums: dict[int, Tensor] = {}
    for level, part in zip(priors.levels, counts.split(lengths), strict=True):
        sums[level.stride] = sums.get(level.stride, 0) + part.sum()
    return sums


def _positives_of_boxes(target: Assignment, boxes: int) -> Tensor:
    """Counts the positives of each of the T = `boxes` boxes, (T,) int64."""
    index = torch.where(target.positive, target.gt_index, boxes).flatten()
    counts = torch.zeros(boxes + 1, dtype=torch.int64, device=index.device)
    return counts.scatter_add_(0, index, torch.ones_like(index))[:boxes]


def _by_size(counts: Tensor, gt: GroundTruth, images: int) -> dict[str, Tensor]:
    """Gives the numbers of BY_SIZE per image for each of SIZES.

    Args:
        counts: (T,) positives by box.
    """
    size = size_of(gt.convention.area(gt.boxes[: gt.object_count]))
    member = size == torch.arange(len(SIZES), device=size.device)[:, None]
    each = torch.stack((torch.ones_like(counts), counts, counts == 0))
    sums = (member[:, None] * each).sum(-1) / images  # (S, 3)
    names = [f"{name}_{size}" for size in SIZES for name in BY_SIZE]
    return dict(zip(names, sums.flatten().unbind(), strict=True))


def size_of(area: Tensor) -> Tensor:
    """Converts areas (...) in square pixels to indices of SIZES.

    Uses the exponent of the area, which is exact. Copying a table to the device would wait for it.
    """
    exponent = torch.frexp(area.clamp(min=0, max=2.0**40)).exponent - 1  # of 2, rounded down
    return (exponent // 2 - 2).clamp(0, len(SIZES) - 1)
