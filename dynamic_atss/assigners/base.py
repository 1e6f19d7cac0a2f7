"""The assigner protocol, and the helpers that rules are made of.

A rule is four steps: propose (which (prior, gt) pairs are worth a look) -> score (a number for
each pair) -> select (per gt: a threshold or a top-k) -> resolve (per prior: the best pair wins; a
tie goes to the lower gt index). Work is per pair: K candidates of each of T boxes, never P x T.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dynamic_atss.boxes import sides
from dynamic_atss.types import BACKGROUND, Assignment, GroundTruth, Predictions, Priors


class Assigner(Protocol):
    """One call for the whole batch, without gradient, randomness, collectives or waits for the
    device.

    soft_labels: the quality is also the class target (quality focal loss) rather than 1 (focal
    loss)
    quality_name: what the quality is; names the third loss term in the log, as the releases do
    needs_size: it reads the size of priors, so that points will not do
    waits: True for a rule that does wait for the device, and loops over boxes; may be left out
    """

    soft_labels: bool
    quality_name: str
    needs_size: bool

    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        """gt: T boxes of N images; T = 0 is an ordinary case."""


class Pairs(NamedTuple):
    """(Box, prior) pairs that are worth a look: K of each box, (T, K), or M in one list, (M,).

    box, (T, 1) or (M,): 0..T-1 · prior, 0..P-1 · flat = image * P + prior · exists, bool: False
    for the places of a list that hold no pair
    """

    box: Tensor
    prior: Tensor
    flat: Tensor
    exists: Tensor


def at_least(limit: float, **arguments: float) -> None:
    """Raises ValueError for the first argument of a rule that is no number or below the limit."""
    for name, value in arguments.items():
        if type(value) not in (int, float) or not value >= limit:
            raise ValueError(f"{name} is {value!r}; it must be a number of at least {limit}")


def whole(limit: int, **arguments: int) -> None:
    """Raises ValueError for the first argument that is no whole number or below the limit."""
    for name, value in arguments.items():
        if type(value) is not int or value < limit:
            raise ValueError(f"{name} is {value!r}; it must be a whole number of at least {limit}")


def rising(**arguments: Sequence[float]) -> None:
    """Raises ValueError for the first argument that is not a row of rising positive numbers."""
    for name, values in arguments.items():
        numbers = [0.0, *values] if isinstance(values, list | tuple) else []
        known = bool(numbers) and all(type(x) in (int, float) for x in numbers)
        if not known or any(not a < b for a, b in pairwise(numbers)):
            raise ValueError(f"{name} is {values!r}; give positive numbers in rising order")


def inside(points: Tensor, boxes: Tensor, margin: float = 0.01) -> Tensor:
    """(...) bool: points (..., 2) lie more than `margin` pixels inside boxes (..., 4)."""
    return sides(points, boxes).amin(-1) > margin


def logit_of_class(predictions: Predictions, gt: GroundTruth, pairs: Pairs) -> Tensor:
    """The logit of each pair's prior for the class of its box, of the shape of pairs.flat."""
    classes = predictions.logits.shape[-1]
    return predictions.logits.flatten()[pairs.flat * classes + gt.classes[pairs.box]]


def best_of_box(pairs: Pairs, score: Tensor, k: int | Tensor) -> Tensor:
    """Which pairs are among the k best of their box, as bool of their shape; of equal ones the
    first.

    Args:
        pairs: (T, K), or (M,) by box.
        score: of their shape.
        k: one number, or (T,) for the boxes.
    """
    score = torch.where(pairs.exists, score, -torch.inf)
    order = score.argsort(dim=-1, descending=True, stable=True)
    if score.ndim == 2:
        rank = torch.empty_like(order)
        rank.scatter_(1, order, torch.arange(order.shape[1], device=order.device).expand_as(order))
        return (rank < (k if isinstance(k, int) else k[:, None])) & pairs.exists
    # By score, and then by box without losing that order.
    order = order[pairs.box[order].argsort(stable=True)]
    slot = torch.arange(len(order), device=order.device)
    first = torch.searchsorted(pairs.box, pairs.box)
    rank = torch.empty_like(order).scatter_(0, order, slot) - first
    return (rank < (k if isinstance(k, int) else k[pairs.box])) & pairs.exists


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
    slots = shape[0] * shape[1]
    gt, score = pairs.box.expand_as(selected).flatten(), score.flatten()
    none = torch.iinfo(gt.dtype).max
    # Pairs that are out write to a slot of their own at the end: no boolean indexing, no wait for
    # the device.
    flat = torch.where(selected & pairs.exists, pairs.flat, slots).flatten()
    best = score.new_full((slots + 1,), -torch.inf).scatter_reduce_(0, flat, score, "amax")
    flat = torch.where(score >= best.index_select(0, flat), flat, slots)
    lowest = gt.new_full((slots + 1,), none).scatter_reduce_(0, flat, gt, "amin")
    flat = torch.where(gt == lowest.index_select(0, flat), flat, slots)
    index = lowest.fill_(BACKGROUND).scatter_(0, flat, gt)[:slots]
    quality = quality.new_zeros(slots + 1).scatter_(0, flat, quality.flatten())[:slots]
    return Assignment(index.view(shape), quality.view(shape))


def std(x: Tensor) -> Tensor:
    """Unbiased standard deviation of each row of x (..., K): (..., 1); 0, not NaN, where K is 1."""
    if x.shape[-1] == 1 or not x.numel():  # torch warns of either
        return torch.zeros_like(x[..., :1])
    return x.std(dim=-1, keepdim=True)
