"""Defines the assigner protocol and the helpers of rules.

A rule has four steps:
1. It proposes candidate pairs of a prior and a box.
2. It scores each pair.
3. It selects pairs of each box by a threshold or a top-k.
4. It resolves conflicts: the best pair of a prior wins, in a tie that of the lower gt index.

A rule handles K candidates of each of T boxes, never P x T pairs.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

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
    take,
    winning,
)
from dynamic_atss.assigners.recording import note
from dynamic_atss.boxes import sides
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors

__all__ = [
    "Assigner",
    "Pairs",
    "anchor_iou",
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
    "predicted_iou",
    "resolve",
    "std",
    "take",
    "winning",
]

MARGIN = 0.01  # pixels by which a prior must lie inside its box, as published


class Assigner(Protocol):
    """Assigns the priors of a batch in one call, without randomness, collectives or device waits.

    The predictions are detached. The call runs with gradients on, so a rule that learns nothing
    decorates it with `torch.no_grad`.

    A rule that learns is an `nn.Module` with `forward`. Its parameters and buffers belong to the
    model and have names under `criterion.assigner.` in checkpoints. They get gradients from
    `Assignment.weight` and `negative`, which scale terms of the loss, and from
    `Assignment.losses`, which are additional terms. A step need not use all of them.
    SOLVER.EMA_DECAY averages parameters and floating-point buffers, and copies integer buffers.

    Attributes:
        soft_labels: True if the quality is the class target (quality focal loss). Otherwise the
            target is 1 (focal loss).
        quality_name: the meaning of the quality. It names the third loss term in the log.
        needs_size: True if the rule reads the size of priors. Points then become squares of 8
            strides.
        waits: optional, True for a rule that waits for the device.
        sees_regions: optional, True for a rule whose gt has the regions (`GroundTruth.ignore`)
            after the objects. Otherwise gt has only the objects.
    """

    soft_labels: bool
    quality_name: str
    needs_size: bool

    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        """Assigns P priors to the T boxes of N images. T may be 0."""


def inside(points: Tensor, boxes: Tensor, margin: float = MARGIN) -> Tensor:
    """Returns True for points (..., 2) that lie more than `margin` pixels inside boxes (..., 4)."""
    return sides(points, boxes).amin(-1) > margin


def inside_of(distances: Tensor, margin: float = MARGIN) -> Tensor:
    """Does the same as `inside` for the distances (4, ...) that `box_sides` gives."""
    return distances.amin(0) > margin


def std(x: Tensor) -> Tensor:
    """Gives the unbiased standard deviation (..., 1) of each row of x (..., K); 0 for K = 1."""
    if x.shape[-1] == 1 or not x.numel():  # torch would warn and give NaN
        return torch.zeros_like(x[..., :1])
    return x.std(dim=-1, keepdim=True)
