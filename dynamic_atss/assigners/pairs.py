"""(Box, prior) pairs: what can be asked of them, and which of them win.

Each question is one operator, native on the CPU where it is compiled (`ops/csrc/assign_*.cpp`); the
plain PyTorch beside it is its definition and serves elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dynamic_atss import boxes as geometry
from dynamic_atss.ops.library import define
from dynamic_atss.types import BACKGROUND, Assignment, GroundTruth, Level, Predictions, Priors, rows


class Pairs(NamedTuple):
    """(Box, prior) pairs that are worth a look: K of each box, (T, K), or M in one list, (M,).

    box, (T, 1) or (M,): 0..T-1 · prior, 0..P-1 · flat = image * P + prior · exists, bool: False
    for the places of a list that hold no pair
    """

    box: Tensor
    prior: Tensor
    flat: Tensor
    exists: Tensor


def level_numbers(levels: tuple[Level, ...]) -> list[int]:
    """Height, width and stride of each level, one after the other, as operators take them."""
    return [number for x in levels for number in (x.height, x.width, x.stride)]


def levels_of(numbers: Sequence[int]) -> tuple[Level, ...]:
    """The levels of such a list."""
    return tuple(Level(*numbers[i : i + 3]) for i in range(0, len(numbers), 3))


def priors_of(boxes: Tensor, numbers: Sequence[int], offset: float) -> Priors:
    """The priors with these boxes (P, 4) on the levels of such a list."""
    levels = levels_of(numbers)
    locations = sum(level.locations for level in levels)
    return Priors(boxes, levels, len(boxes) // max(locations, 1), offset)


def ground_truth_of(boxes: Tensor, classes: Tensor, image: Tensor, extent: Tensor) -> GroundTruth:
    """With the extents (T, 2) that the host knows already."""
    gt = GroundTruth(boxes, classes, image)
    vars(gt)["extent"] = extent  # as `to_device` leaves it
    return gt


def anchor_iou(priors: Priors, gt: GroundTruth, pairs: Pairs, extra: float = 0.0) -> Tensor:
    """The IoU of each pair's prior and box."""
    return _IOU(priors.boxes, pairs.prior, gt.boxes, pairs.box, extra)


def predicted_iou(
    predictions: Predictions, gt: GroundTruth, pairs: Pairs, extra: float = 0.0
) -> Tensor:
    """The IoU of what each pair's prior predicts with the pair's box."""
    return _IOU(predictions.boxes.flatten(0, 1), pairs.flat, gt.boxes, pairs.box, extra)


def box_sides(priors: Priors, gt: GroundTruth, pairs: Pairs) -> Tensor:
    """Distances left, top, right, bottom from each pair's prior to the sides of its box: (4, T, K)
    or (4, M); all positive inside."""
    return _SIDES(priors.centers, pairs.prior, gt.boxes, pairs.box)


def centerness(priors: Priors, gt: GroundTruth, pairs: Pairs) -> Tensor:
    """Centerness of each pair's prior in its box, as `boxes.centerness`; 0 without a box, below
    0."""
    return _CENTERNESS(priors.centers, pairs.prior, gt.boxes, pairs.box)


def center_offsets(priors: Priors, gt: GroundTruth, pairs: Pairs) -> Tensor:
    """x and y of each pair's prior from the centre of its box: (2, T, K) or (2, M)."""
    return _OFFSETS(priors.centers, pairs.prior, gt.boxes, pairs.box)


def logit_of_class(predictions: Predictions, gt: GroundTruth, pairs: Pairs) -> Tensor:
    """The logit of each pair's prior for the class of its box, of the shape of pairs.flat."""
    return _LOGIT(predictions.logits.flatten(0, 1), pairs.flat, gt.classes, pairs.box)


def best_of_box(pairs: Pairs, score: Tensor, k: int, boxes: int) -> tuple[Pairs, Tensor]:
    """The k best pairs (T, k) of each box, best first and of equal ones the first, and their places
    among `pairs`: `score.take(places)` are their scores.

    Args:
        pairs: (T, K), or (M,) by box.
        score: of their shape.
        boxes: T.
    """
    box, prior, flat, exists = pairs
    places, *best = _BEST(box, prior, flat, exists, score, k, boxes)
    if box.ndim == 1:
        box = torch.arange(boxes, device=box.device)[:, None]
    return Pairs(box, *best), places


def best_and_values(
    pairs: Pairs, score: Tensor, k: int, boxes: int, *values: Tensor
) -> tuple[Tensor, ...]:
    """As an operator gives them: prior, flat and exists of `best_of_box`, and what they have of
    each of `values`; 0 for the places without a pair."""
    best, places = best_of_box(pairs, score, k, boxes)
    prior, flat, *chosen = (
        x.where(best.exists, 0) for x in (best.prior, best.flat, *(v.take(places) for v in values))
    )
    return prior, flat, best.exists, *chosen


def fake_best_and_values(boxes: Tensor, k: int, values: int) -> tuple[Tensor, ...]:
    """Tensors of these shapes, for so many values."""
    shape = (len(boxes), k)
    prior, flat = (boxes.new_empty(shape, dtype=torch.int64) for _ in range(2))
    chosen = (boxes.new_empty(shape) for _ in range(values))
    return prior, flat, boxes.new_empty(shape, dtype=torch.bool), *chosen


def resolve(
    pairs: Pairs, selected: Tensor, score: Tensor, quality: Tensor, shape: tuple[int, ...]
) -> Assignment:
    """One box per prior: of the `selected` pairs the one with the largest score, then the lowest
    gt index.

    Args:
        pairs: (T, K) or (M,), as all that follow.
        selected: bool.
        score: the largest wins.
        quality: becomes the quality of the priors whose pair wins.
        shape: (N, P).
    """
    return Assignment(
        *_RESOLVE(pairs.box, pairs.flat, pairs.exists, selected, score, quality, *shape)
    )


def _iou(boxes: Tensor, index: Tensor, gt: Tensor, box: Tensor, extra: float) -> Tensor:
    chosen = boxes.index_select(0, index.flatten()).view(*index.shape, 4)
    return geometry.iou(chosen, gt[box], extra)


def _sides(points: Tensor, index: Tensor, gt: Tensor, box: Tensor) -> Tensor:
    chosen = points.index_select(0, index.flatten()).view(*index.shape, 2)
    return geometry.sides(chosen, gt[box]).movedim(-1, 0).contiguous()


def _center_offsets(points: Tensor, index: Tensor, gt: Tensor, box: Tensor) -> Tensor:
    chosen = points.index_select(0, index.flatten()).view(*index.shape, 2)
    return (chosen - geometry.centers(gt)[box]).movedim(-1, 0).contiguous()


def _centerness(points: Tensor, index: Tensor, gt: Tensor, box: Tensor) -> Tensor:
    chosen = points.index_select(0, index.flatten()).view(*index.shape, 2)
    return geometry.centerness(chosen, rows(gt, box))


def _logit(logits: Tensor, index: Tensor, classes: Tensor, box: Tensor) -> Tensor:
    wanted = classes.index_select(0, box.flatten()).view_as(box)
    place = index * logits.shape[-1] + wanted
    return logits.flatten().index_select(0, place.flatten()).view_as(place)


def _best_of_box(
    box: Tensor, prior: Tensor, flat: Tensor, exists: Tensor, score: Tensor, k: int, boxes: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    score = torch.where(exists, score, -torch.inf)
    order = score.flatten().argsort(descending=True, stable=True)
    # By score, and then by box without losing that order.
    box = box.expand_as(score).flatten().contiguous()
    order = order[box[order].argsort(stable=True)]
    rank = torch.arange(len(order), device=order.device) - torch.searchsorted(box, box)
    kept = (rank < k) & exists.take(order)
    place = torch.where(kept, box * k + rank, boxes * k)  # the others: in one at the end
    found = order.new_full((boxes * k + 1,), -1).scatter_(0, place, order)
    found = found[: boxes * k].view(boxes, k)
    places = found.clamp(min=0)
    if not score.numel():
        return places, places.clone(), places.clone(), found >= 0
    return places, prior.take(places), flat.take(places), found >= 0


def _fake_best(
    box: Tensor, prior: Tensor, flat: Tensor, exists: Tensor, score: Tensor, k: int, boxes: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    shape = (boxes, k)
    places, best, best_flat = (box.new_empty(shape) for _ in range(3))
    return places, best, best_flat, box.new_empty(shape, dtype=torch.bool)


def _resolve(
    box: Tensor,
    flat: Tensor,
    exists: Tensor,
    selected: Tensor,
    score: Tensor,
    quality: Tensor,
    images: int,
    priors: int,
) -> tuple[Tensor, Tensor]:
    slots = images * priors
    gt, score = box.expand_as(selected).flatten(), score.flatten()
    none = torch.iinfo(gt.dtype).max
    # Pairs that are out write to a slot of their own at the end: no boolean indexing, no wait for
    # the device.
    flat = torch.where(selected & exists, flat, slots).flatten()
    best = score.new_full((slots + 1,), -torch.inf).scatter_reduce_(0, flat, score, "amax")
    flat = torch.where(score >= best.index_select(0, flat), flat, slots)
    lowest = gt.new_full((slots + 1,), none).scatter_reduce_(0, flat, gt, "amin")
    flat = torch.where(gt == lowest.index_select(0, flat), flat, slots)
    index = lowest.fill_(BACKGROUND).scatter_(0, flat, gt)[:slots]
    won = quality.new_zeros(slots + 1).scatter_(0, flat, quality.flatten())[:slots]
    return index.view(images, priors), won.view(images, priors)


def _fake_resolve(
    box: Tensor,
    flat: Tensor,
    exists: Tensor,
    selected: Tensor,
    score: Tensor,
    quality: Tensor,
    images: int,
    priors: int,
) -> tuple[Tensor, Tensor]:
    shape = (images, priors)
    return box.new_empty(shape), quality.new_empty(shape)


_IOU = define(
    "pair_iou(Tensor boxes, Tensor index, Tensor gt, Tensor box, float extra) -> Tensor",
    _iou,
    lambda boxes, index, gt, box, extra: boxes.new_empty(index.shape),
)
_SIDES = define(
    "pair_sides(Tensor points, Tensor index, Tensor gt, Tensor box) -> Tensor",
    _sides,
    lambda points, index, gt, box: points.new_empty(4, *index.shape),
)
_OFFSETS = define(
    "pair_center_offsets(Tensor points, Tensor index, Tensor gt, Tensor box) -> Tensor",
    _center_offsets,
    lambda points, index, gt, box: points.new_empty(2, *index.shape),
)
_CENTERNESS = define(
    "pair_centerness(Tensor points, Tensor index, Tensor gt, Tensor box) -> Tensor",
    _centerness,
    lambda points, index, gt, box: points.new_empty(index.shape),
)
_LOGIT = define(
    "pair_logit(Tensor logits, Tensor index, Tensor classes, Tensor box) -> Tensor",
    _logit,
    lambda logits, index, classes, box: logits.new_empty(index.shape),
)
_BEST = define(
    "best_of_box(Tensor box, Tensor prior, Tensor flat, Tensor exists, Tensor score, int k,"
    " int boxes) -> (Tensor, Tensor, Tensor, Tensor)",
    _best_of_box,
    _fake_best,
)
_RESOLVE = define(
    "resolve(Tensor box, Tensor flat, Tensor exists, Tensor selected, Tensor score,"
    " Tensor quality, int images, int priors) -> (Tensor, Tensor)",
    _resolve,
    _fake_resolve,
)
