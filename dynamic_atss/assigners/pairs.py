"""Computes values of (box, prior) pairs, and resolves which pairs win.

Slow parts are operators. `reference` defines them in plain PyTorch, and compiled kernels replace
them on the CPU.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dynamic_atss.assigners import recording
from dynamic_atss.assigners.reference.pairs import PAIR_CENTERNESS, PAIR_IOU, PAIR_SIDES
from dynamic_atss.assigners.reference.selection import BEST_OF_BOX, RESOLVE
from dynamic_atss.boxes import BoxConvention, centers
from dynamic_atss.moved import extra_was_convention
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors


class Pairs(NamedTuple):
    """Holds candidate pairs of a box and a prior: K of each box, (T, K), or M in one list, (M,).

    Attributes:
        box: (T, 1) or (M,), 0..T-1.
        prior: (T, K) or (M,), 0..P-1.
        flat: (T, K) or (M,), image * P + prior.
        exists: (T, K) or (M,) bool, False for places that hold no pair.
    """

    box: Tensor
    prior: Tensor
    flat: Tensor
    exists: Tensor


def take(values: Tensor, index: Tensor) -> Tensor:
    """Gives values[index] for values (M,). Indexing would be several times slower."""
    return values.index_select(0, index.flatten()).view_as(index)


@extra_was_convention
def anchor_iou(
    priors: Priors, gt: GroundTruth, pairs: Pairs, convention: BoxConvention | None = None
) -> Tensor:
    """Gives the IoU of each pair's prior and box.

    Args:
        convention: the meaning of x2 and y2; None: that of the ground truth.
    """
    side = (convention or gt.convention).value
    return PAIR_IOU(priors.boxes, pairs.prior, gt.boxes, pairs.box, side)


@extra_was_convention
def predicted_iou(
    predictions: Predictions,
    gt: GroundTruth,
    pairs: Pairs,
    convention: BoxConvention | None = None,
) -> Tensor:
    """Gives the IoU of each pair's predicted box and box.

    Args:
        convention: the meaning of x2 and y2; None: that of the ground truth.
    """
    side = (convention or gt.convention).value
    return PAIR_IOU(predictions.boxes.flatten(0, 1), pairs.flat, gt.boxes, pairs.box, side)


def box_sides(priors: Priors, gt: GroundTruth, pairs: Pairs) -> Tensor:
    """Gives the distances from each pair's prior to the left, top, right and bottom of its box.

    They are all positive inside the box.

    Returns:
        (4, T, K) or (4, M).
    """
    return PAIR_SIDES(priors.centers, pairs.prior, gt.boxes, pairs.box)


def centerness(priors: Priors, gt: GroundTruth, pairs: Pairs) -> Tensor:
    """Gives the centerness of each pair's prior in its box, see `boxes.centerness`.

    It is 0 for a box index below 0, and where it would be NaN, for example between infinite sides.
    """
    return PAIR_CENTERNESS(priors.centers, pairs.prior, gt.boxes, pairs.box).nan_to_num_(0.0)


def centerness_of_tiny(distances: Tensor) -> Tensor:
    """Gives the centerness of pairs from their distances (4, ...), clamped to 0.01 pixels.

    It is above 0 outside of the box, so that positives there learn the box.
    """
    opposite = distances.view(2, 2, *distances.shape[1:]).clamp(min=0.01)  # (low, high) x (x, y)
    low, high = opposite.amin(0), opposite.amax(0)
    return (low / high).prod(0).sqrt().nan_to_num(0.0)


def has_pair(pairs: Pairs, wanted: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Flags the priors that have an existing pair that is `wanted`, (N, P).

    Args:
        wanted: bool in the shape of the pairs.
        shape: (N, P).
    """
    slots = shape[0] * shape[1]  # pairs that do not count write to an additional last slot
    flags = torch.zeros(slots + 1, dtype=torch.bool, device=wanted.device)
    flat = torch.where(wanted & pairs.exists, pairs.flat, slots)
    return flags.scatter_(0, flat.flatten(), True)[:slots].view(shape)


def winning(pairs: Pairs, index: Tensor) -> Tensor:
    """Flags the pairs whose prior has the pair's box in the gt index (N, P)."""
    return pairs.exists & (take(index.flatten(), pairs.flat) == pairs.box)


def center_offsets(priors: Priors, gt: GroundTruth, pairs: Pairs) -> Tensor:
    """Gives x and y of each pair's prior relative to the centre of its box, (2, T, K) or (2, M)."""
    points = priors.centers.index_select(0, pairs.prior.flatten()).view(*pairs.prior.shape, 2)
    return points.sub_(centers(gt.boxes)[pairs.box]).movedim(-1, 0)


def logit_of_class(predictions: Predictions, gt: GroundTruth, pairs: Pairs) -> Tensor:
    """Gives the logit of each pair's prior for the class of its box, in the shape of pairs.flat."""
    place = torch.add(take(gt.classes, pairs.box), pairs.flat, alpha=predictions.logits.shape[-1])
    return take(predictions.logits.flatten(), place)


def best_of_box(pairs: Pairs, score: Tensor, k: int, boxes: int) -> tuple[Pairs, Tensor]:
    """Gives the k best pairs of each box, best first. In a tie, takes the first pair.

    Args:
        pairs: (T, K), or (M,) sorted by box.
        score: in the shape of the pairs.
        boxes: T.

    Returns:
        the pairs (T, k), and their places among `pairs` (T, k). `score.take(places)` gives their
        scores.
    """
    box, prior, flat, exists = pairs
    places, *best = BEST_OF_BOX(box, prior, flat, exists, score, k, boxes)
    if recording.recorder is not None:
        found = torch.where(best[-1], places, -1)
        recording.recorder.chosen(pairs, score, k, boxes, found)
    if box.ndim == 1:
        box = torch.arange(boxes, device=box.device)[:, None]
    return Pairs(box, *best), places


def resolve(
    pairs: Pairs,
    selected: Tensor,
    score: Tensor,
    quality: Tensor,
    shape: tuple[int, ...],
    per_box: int | None = None,
) -> Assignment:
    """Assigns each prior the box of its `selected` pair with the largest score.

    In a tie, takes the lowest gt index.

    Args:
        pairs: (T, K) or (M,).
        selected, score, quality: in the shape of the pairs. `quality` becomes the quality of the
            priors whose pair wins.
        shape: (N, P).
        per_box: the maximum number of priors that a box keeps. It keeps those with the largest
            score, and in a tie the first of `pairs`. The others become background. None: all.
    """
    found = _resolved(pairs, selected, score, quality, shape)
    if recording.recorder is not None:
        recording.recorder.resolved(pairs, selected, score, found.gt_index)
    if per_box is None:
        return found
    won = selected & winning(pairs, found.gt_index)
    pairs, kept = pairs._replace(exists=won), _first_of_box(pairs, won, score, per_box)
    found = _resolved(pairs, kept, score, quality, shape)
    if recording.recorder is not None:
        recording.recorder.capped(pairs, kept, score, found.gt_index)
    return found


def _resolved(
    pairs: Pairs, selected: Tensor, score: Tensor, quality: Tensor, shape: tuple[int, ...]
) -> Assignment:
    box, _, flat, exists = pairs
    return Assignment(*RESOLVE(box, flat, exists, selected, score, quality, *shape))


def _first_of_box(pairs: Pairs, won: Tensor, score: Tensor, k: int) -> Tensor:
    """Flags the k winning pairs of each box with the largest score, in the shape of `won`."""
    order = score.flatten().argsort(descending=True, stable=True)
    # This sorts by box, winning pairs first. The sort is stable, so it keeps the order by score.
    group = (2 * pairs.box + ~won).flatten()[order]
    group, place = group.sort(stable=True)
    rank = torch.arange(len(group), device=group.device) - torch.searchsorted(group, group)
    first = torch.zeros_like(won.flatten()).scatter_(0, order[place], rank < k)
    return first.view_as(won) & won
