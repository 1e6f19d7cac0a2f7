"""The assigner protocol, and the helpers that rules are made of.

A rule is four steps: propose (which (prior, gt) pairs are worth a look) -> score (a number for
each pair) -> select (per gt: a threshold or a top-k) -> resolve (per prior: the best pair wins; a
tie goes to the lower gt index). Work is per pair: K candidates of each of T boxes, never P x T.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from dynamic_atss.assigners.notes import note
from dynamic_atss.assigners.pairs import (
    Pairs,
    anchor_iou,
    best_of_box,
    box_sides,
    center_offsets,
    centerness,
    centerness_of_tiny,
    has_pair,
    logit_of_class,
    predicted_iou,
    resolve,
)
from dynamic_atss.boxes import sides
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors

__all__ = [
    "Assigner",
    "Pairs",
    "anchor_iou",
    "at_least",
    "best_of_box",
    "box_sides",
    "center_offsets",
    "centerness",
    "centerness_of_tiny",
    "has_pair",
    "inside",
    "inside_of",
    "logit_of_class",
    "note",
    "one_of",
    "pair",
    "predicted_iou",
    "resolve",
    "rising",
    "std",
    "whole",
]

MARGIN = 0.01  # pixels by which a prior must lie inside its box, as published


class Assigner(Protocol):
    """One call for the whole batch, without randomness, collectives or waits for the device.

    The predictions are detached. The call itself is made with gradients on, so a rule that learns
    nothing decorates it with `torch.no_grad`. A rule that learns is an `nn.Module` (with `forward`
    in place of `__call__`): its parameters and buffers are the model's, under
    `criterion.assigner.` in checkpoints. They get their gradient from what the rule computes of
    them: `Assignment.weight` and `negative`, which scale terms of the loss, and
    `Assignment.losses`, terms of its own. They need not be used in every step. SOLVER.EMA_DECAY
    averages parameters and floating-point buffers; buffers of integers, such as counters, are
    taken over as they are.

    soft_labels: the quality is also the class target (quality focal loss) rather than 1 (focal
    loss)
    quality_name: what the quality is; names the third loss term in the log, as the releases do
    needs_size: it reads the size of priors: points come to it as squares of 8 strides
    waits: True for a rule that does wait for the device; may be left out
    sees_regions: True for a rule whose gt has the regions, too (`GroundTruth.ignore`), behind the
    objects; may be left out, and gt has the objects alone
    """

    soft_labels: bool
    quality_name: str
    needs_size: bool

    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        """gt: T boxes of N images; T = 0 is an ordinary case."""


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


def one_of(names: Sequence[str], **arguments: str) -> None:
    """Raises ValueError for the first argument of a rule that is none of the names."""
    for name, value in arguments.items():
        if value not in names:
            raise ValueError(f"{name} is {value!r}; give one of {', '.join(map(repr, names))}")


def pair(**arguments: Sequence[float]) -> None:
    """Raises ValueError for the first argument of a rule that is no list of two."""
    for name, value in arguments.items():
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise ValueError(f"{name} is {value!r}; give two numbers")


def rising(**arguments: Sequence[float]) -> None:
    """Raises ValueError for the first argument that is not a row of rising positive numbers."""
    for name, values in arguments.items():
        numbers = [0.0, *values] if isinstance(values, list | tuple) else []
        known = bool(numbers) and all(type(x) in (int, float) for x in numbers)
        if not known or any(not a < b for a, b in pairwise(numbers)):
            raise ValueError(f"{name} is {values!r}; give positive numbers in rising order")


def inside(points: Tensor, boxes: Tensor, margin: float = MARGIN) -> Tensor:
    """(...) bool: points (..., 2) lie more than `margin` pixels inside boxes (..., 4)."""
    return sides(points, boxes).amin(-1) > margin


def inside_of(distances: Tensor, margin: float = MARGIN) -> Tensor:
    """(...) bool: as `inside`, from the distances (4, ...) that `box_sides` gives."""
    return distances.amin(0) > margin


def std(x: Tensor) -> Tensor:
    """Unbiased standard deviation of each row of x (..., K): (..., 1); 0, not NaN, where K is 1."""
    if x.shape[-1] == 1 or not x.numel():  # torch warns of either
        return torch.zeros_like(x[..., :1])
    return x.std(dim=-1, keepdim=True)
