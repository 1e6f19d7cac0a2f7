"""Does non-maximum suppression within classes for a batch at once."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import nms

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.ops.library import define

# The reference handles up to so many boxes of all classes in one pass, whose time and (on a GPU)
# memory are quadratic. It handles more boxes class by class, which needs a call (and on a GPU a
# wait) per class. With 80 classes on a CPU, 5,000 boxes take 35 ms in one pass and 10 ms by class,
# and 1,000 boxes take 1 ms and 7 ms.
_ONE_PASS = 2_000
_ONE_PASS_GPU = 20_000


def batched_multiclass_nms(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    threshold: float,
    convention: BoxConvention = BoxConvention.LEGACY,
    limit: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Selects the boxes of each image that NMS keeps.

    A box is suppressed by a better box of its class and image with IoU > threshold. Of equal scores
    the first is better. The IoU is computed in float64. An IoU of NaN, which infinite coordinates
    give, suppresses nothing. No shape depends on the data, and nothing waits for the device.

    Args:
        boxes: (N, K, 4) xyxy.
        scores: (N, K). Only boxes with a score above 0 are candidates.
        classes: (N, K) int64, any numbers.
        threshold: at least 0.
        convention: of the boxes.
        limit: maximum number of kept boxes of an image; None: no limit.

    Returns:
        keep: (N, L) int64 indices into K, best score first, then -1. L = min(K, limit).
        counts: (N,) int64 number of kept boxes of each image.

    Raises:
        ValueError: a shape, a dtype, the threshold or the limit is wrong.
    """
    _check(boxes, scores, classes, threshold, limit)
    dtype = torch.promote_types(torch.promote_types(boxes.dtype, scores.dtype), torch.float32)
    return _OP(boxes.to(dtype), scores.to(dtype), classes, threshold, convention.value, limit)


def multiclass_nms(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    threshold: float,
    convention: BoxConvention = BoxConvention.LEGACY,
    limit: int | None = None,
) -> Tensor:
    """Selects boxes (M, 4) of one image by `batched_multiclass_nms`, and gives their indices.

    The best score comes first. Waits for the device.
    """
    image = boxes[None], scores[None], classes[None]
    keep, counts = batched_multiclass_nms(*image, threshold, convention, limit)
    return keep[0, : int(counts)]


def _check(
    boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float, limit: int | None
) -> None:
    shapes = [tuple(x.shape) for x in (boxes, scores, classes)]
    if scores.dim() != 2 or shapes[2] != shapes[1] or shapes[0] != (*shapes[1], 4):
        raise ValueError(
            "NMS: boxes, scores and classes have shapes {}, {}, {}; give (N, K, 4), (N, K), "
            "(N, K)".format(*shapes)
        )
    if not (boxes.is_floating_point() and scores.is_floating_point()):
        raise ValueError(f"NMS: boxes {boxes.dtype}, scores {scores.dtype}; give floating point")
    devices = [x.device for x in (boxes, scores, classes)]
    if len(set(devices)) > 1:
        raise ValueError(
            "NMS: boxes are on {}, scores on {}, classes on {}; move them to one device".format(
                *devices
            )
        )
    if classes.dtype != torch.int64:
        raise ValueError(f"NMS: classes are {classes.dtype}; give torch.int64")
    if not threshold >= 0:  # also refuses NaN
        raise ValueError(f"threshold is {threshold}; it must be a number of at least 0")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; it must be at least 1")


def _reference(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    threshold: float,
    offset: float,
    limit: int | None,
) -> tuple[Tensor, Tensor]:
    """Defines the operator by torchvision's NMS, image by image."""
    keep = classes.new_full((len(scores), _length(scores, limit)), -1)
    counts = classes.new_zeros(len(scores))
    for n in range(len(scores)):
        candidate = (scores[n] > 0).nonzero()[:, 0]
        best = _one_image(
            boxes[n][candidate], scores[n][candidate], classes[n][candidate], threshold, offset
        )
        kept = candidate[best][:limit]
        keep[n, : len(kept)] = kept
        counts[n] = len(kept)
    return keep, counts


def _one_image(
    boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float, offset: float
) -> Tensor:
    corners, scores = boxes.double(), scores.double()
    corners[:, 2:] += offset
    if 0 < len(boxes) <= (_ONE_PASS if boxes.device.type == "cpu" else _ONE_PASS_GPU):
        # This moves the classes apart, so that one pass handles them all. It requires that no sum
        # is rounded, because then the IoUs are bitwise equal.
        span = 2 * (corners.max() - corners.min()).ceil() + 1
        shift = (classes.unique(return_inverse=True)[1] * span)[:, None]
        apart = corners + shift
        if ((apart - shift == corners) & (apart - corners == shift)).all():
            return nms(apart, scores, threshold)
    return _class_by_class(corners, scores, classes, threshold)


def _class_by_class(corners: Tensor, scores: Tensor, classes: Tensor, threshold: float) -> Tensor:
    kept = [classes.new_zeros(0)]
    for c in classes.unique():
        members = (classes == c).nonzero()[:, 0]
        kept.append(members[nms(corners[members], scores[members], threshold)])
    keep = torch.cat(kept).sort().values  # equal scores then stay in the order of their indices
    return keep[scores[keep].argsort(descending=True, stable=True)]


def _fake(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    threshold: float,
    offset: float,
    limit: int | None,
) -> tuple[Tensor, Tensor]:
    keep = classes.new_empty((scores.shape[0], _length(scores, limit)))
    return keep, classes.new_empty(scores.shape[0])


def _length(scores: Tensor, limit: int | None) -> int | torch.SymInt:
    return scores.shape[1] if limit is None else torch.sym_min(limit, scores.shape[1])


_OP = define(
    "batched_multiclass_nms(Tensor boxes, Tensor scores, Tensor classes, float threshold,"
    " float offset, int? limit) -> (Tensor, Tensor)",
    _reference,
    _fake,
)
