"""(Box, prior) pairs: what can be asked of them, and which of them win.

What takes long is an operator: plain PyTorch in `reference`, native on the CPU where it is
compiled.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dynamic_atss.assigners import notes
from dynamic_atss.assigners.reference.pairs import PAIR_CENTERNESS, PAIR_IOU, PAIR_SIDES
from dynamic_atss.assigners.reference.selection import BEST_OF_BOX, RESOLVE
from dynamic_atss.boxes import BoxConvention, centers
from dynamic_atss.moved import extra_was_convention
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors


class Pairs(NamedTuple):
    """(Box, prior) pairs that are worth a look: K of each box, (T, K), or M in one list, (M,).

    box, (T, 1) or (M,): 0..T-1 · prior, 0..P-1 · flat = image * P + prior · exists, bool: False
    for the places of a list that hold no pair
    """

    box: Tensor
    prior: Tensor
    flat: Tensor
    exists: Tensor


def at(values: Tensor, index: Tensor) -> Tensor:
    """values[index] of values (M,), which takes several times as long when written so."""
    return values.index_select(0, index.flatten()).view_as(index)


@extra_was_convention
def anchor_iou(
    priors: Priors, gt: GroundTruth, pairs: Pairs, convention: BoxConvention | None = None
) -> Tensor:
    """The IoU of each pair's prior and box.

    convention: the one to measure by; None: the one of the ground truth.
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
    """The IoU of what each pair's prior predicts with the pair's box; `convention` as above."""
    side = (convention or gt.convention).value
    return PAIR_IOU(predictions.boxes.flatten(0, 1), pairs.flat, gt.boxes, pairs.box, side)


def box_sides(priors: Priors, gt: GroundTruth, pairs: Pairs) -> Tensor:
    """Distances left, top, right, bottom from each pair's prior to the sides of its box: (4, T, K)
    or (4, M); all positive inside."""
    return PAIR_SIDES(priors.centers, pairs.prior, gt.boxes, pairs.box)


def centerness(priors: Priors, gt: GroundTruth, pairs: Pairs) -> Tensor:
    """Centerness of each pair's prior in its box, as `boxes.centerness`; 0 without a box, of
    an index below 0, and where it is not a number, as between infinite sides."""
    return PAIR_CENTERNESS(priors.centers, pairs.prior, gt.boxes, pairs.box).nan_to_num_(0.0)


def centerness_of_tiny(distances: Tensor) -> Tensor:
    """Centerness of pairs from their distances (4, ...), where the nearer side counts as 0.01
    pixels away or more: above 0 outside of the box, too, so that such positives learn it."""
    both = distances.view(2, 2, *distances.shape[1:]).clamp(min=0.01)  # one side, the other
    low, high = both.amin(0), both.amax(0)  # along x, along y
    return (low / high).prod(0).sqrt().nan_to_num(0.0)


def has_pair(pairs: Pairs, wanted: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(N, P) bool: the priors of which some pair exists and is `wanted`; shape: (N, P)."""
    slots = shape[0] * shape[1]  # pairs that do not count write to one of their own at the end
    flags = torch.zeros(slots + 1, dtype=torch.bool, device=wanted.device)
    flat = torch.where(wanted & pairs.exists, pairs.flat, slots)
    return flags.scatter_(0, flat.flatten(), True)[:slots].view(shape)


def center_offsets(priors: Priors, gt: GroundTruth, pairs: Pairs) -> Tensor:
    """x and y of each pair's prior from the centre of its box: (2, T, K) or (2, M)."""
    points = priors.centers.index_select(0, pairs.prior.flatten()).view(*pairs.prior.shape, 2)
    return points.sub_(centers(gt.boxes)[pairs.box]).movedim(-1, 0)


def logit_of_class(predictions: Predictions, gt: GroundTruth, pairs: Pairs) -> Tensor:
    """The logit of each pair's prior for the class of its box, of the shape of pairs.flat."""
    wanted = at(gt.classes, pairs.box)
    place = torch.add(wanted, pairs.flat, alpha=predictions.logits.shape[-1])
    return at(predictions.logits.flatten(), place)


def best_of_box(pairs: Pairs, score: Tensor, k: int, boxes: int) -> tuple[Pairs, Tensor]:
    """The k best pairs (T, k) of each box, best first and of equal ones the first, and their places
    among `pairs`: `score.take(places)` are their scores.

    Args:
        pairs: (T, K), or (M,) by box.
        score: of their shape.
        boxes: T.
    """
    box, prior, flat, exists = pairs
    places, *best = BEST_OF_BOX(box, prior, flat, exists, score, k, boxes)
    if notes.recorder is not None:
        found = torch.where(best[-1], places, -1)
        notes.recorder.chosen(pairs, score, k, boxes, found)
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
    """One box per prior: of the `selected` pairs the one with the largest score, then the lowest
    gt index.

    Args:
        pairs: (T, K) or (M,), as all that follow.
        selected: bool.
        score: the largest wins.
        quality: becomes the quality of the priors whose pair wins.
        shape: (N, P).
        per_box: so many of the priors that it wins a box keeps at most, those of the largest score,
            and of equal ones the first of `pairs`; the others are background. None: all.
    """
    found = _resolved(pairs, selected, score, quality, shape)
    if notes.recorder is not None:
        notes.recorder.resolved(pairs, selected, score, found.gt_index)
    if per_box is None:
        return found
    won = selected & pairs.exists & (found.gt_index.take(pairs.flat) == pairs.box)
    pairs, kept = pairs._replace(exists=won), _first_of_box(pairs, won, score, per_box)
    found = _resolved(pairs, kept, score, quality, shape)
    if notes.recorder is not None:
        notes.recorder.capped(pairs, kept, score, found.gt_index)
    return found


def _resolved(
    pairs: Pairs, selected: Tensor, score: Tensor, quality: Tensor, shape: tuple[int, ...]
) -> Assignment:
    box, _, flat, exists = pairs
    return Assignment(*RESOLVE(box, flat, exists, selected, score, quality, *shape))


def _first_of_box(pairs: Pairs, won: Tensor, score: Tensor, k: int) -> Tensor:
    """Bool, of the shape of `won`: the k pairs of each box that have won and score most."""
    order = score.flatten().argsort(descending=True, stable=True)
    # By box, those that have won first, and among them by score still.
    group = (2 * pairs.box + ~won).flatten()[order]
    group, place = group.sort(stable=True)
    rank = torch.arange(len(group), device=group.device) - torch.searchsorted(group, group)
    first = torch.zeros_like(won.flatten()).scatter_(0, order[place], rank < k)
    return first.view_as(won) & won
