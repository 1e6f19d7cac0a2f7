"""Calls a rule and checks its answer, because a custom rule may return something invalid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dynamic_atss.assigners import recording
from dynamic_atss.assigners.base import Assigner
from dynamic_atss.errors import UserError
from dynamic_atss.types import BACKGROUND, IGNORE, Assignment, GroundTruth, Predictions, Priors

_WEIGHTS = {"weight": torch.inf, "negative": 1.0}  # name -> largest value
NEEDED = "needs an Assignment with gt_index int64 and quality floating-point, both of shape"


def call_rule(
    rule: Assigner, priors: Priors, gt: GroundTruth, predictions: Predictions
) -> Assignment:
    """Calls the rule and checks the types and shapes of its answer without waiting for the device.

    Also checks the values in the first iteration of a training, which waits for the device.

    The rule gets only the objects, unless its `sees_regions` is True. Regions come after all
    objects, so its indices are also valid in `gt`. Points get a size if `needs_size` is True.

    Raises:
        UserError: the answer is not an `Assignment`, or has a wrong type, shape or value.
    """
    gt = gt if getattr(rule, "sees_regions", False) else gt.objects
    priors = priors.with_size() if getattr(rule, "needs_size", False) else priors
    if recording.recorder is not None:
        recording.recorder.begin(rule)
    found = rule(priors, gt, predictions)
    if fault := _fault(found, predictions.boxes.shape[:2]):
        shape = tuple(predictions.boxes.shape[:2])
        raise UserError(f"rule {type(rule).__name__} gives {fault}, {NEEDED} {shape}")
    fault = _wrong_field(found)
    if not fault and predictions.iteration == 0:
        fault = _out_of_range(found, len(gt))
    if fault:
        raise UserError(f"rule {type(rule).__name__} gives {fault} is needed")
    if recording.recorder is not None:
        recording.recorder.end(priors, gt, predictions, found)
    return found


def _fault(found: Any, shape: torch.Size) -> str:
    """Describes a wrong type or shape; "" if there is none."""
    if not isinstance(found, Assignment):
        return f"a {type(found).__name__}"
    for name in ("gt_index", "quality", *_WEIGHTS):
        values = getattr(found, name)
        if values is None and name in _WEIGHTS:
            continue
        if not isinstance(values, Tensor):
            return f"{name} as a {type(values).__name__}"
        right = values.dtype == torch.int64 if name == "gt_index" else values.is_floating_point()
        if values.shape != shape or not right:
            return f"{name} of shape {tuple(values.shape)} and type {values.dtype}"
    return ""


def _wrong_field(found: Assignment) -> str:
    """Describes a wrong type of the other fields, and the needed type; "" if all are right."""
    divisors = found.divisors
    if divisors is not None:
        if not isinstance(divisors, Tensor):
            return f"divisors as a {type(divisors).__name__}; a tensor of shape (2,)"
        if divisors.shape != (2,) or not divisors.is_floating_point():
            shape = tuple(divisors.shape)
            return (
                f"divisors of shape {shape} and type {divisors.dtype}; shape (2,), floating-point,"
            )
    for name in ("losses", "metrics"):
        values = getattr(found, name)
        if not isinstance(values, Mapping):
            return f"{name} as a {type(values).__name__}; a dict, {{name: scalar tensor}},"
    return ""


def _out_of_range(found: Assignment, boxes: int) -> str:
    """Describes a wrong value, and the values that are needed; "" if there is none.

    Accepts NaN, which the loss reports.
    """
    index = found.gt_index
    wrong = index[(index < IGNORE) | (index >= boxes)]
    if len(wrong):
        return (
            f"gt_index {int(wrong[0])} for {boxes} boxes; an index of a box, BACKGROUND "
            f"({BACKGROUND}) or IGNORE ({IGNORE})"
        )
    if found.divisors is not None and (found.divisors <= 0).any():
        return f"divisors {found.divisors.tolist()}; numbers above 0"
    for name, most in _WEIGHTS.items():
        values = getattr(found, name)
        if values is None:
            continue
        values = values.detach()[index >= 0]
        wrong = values[(values < 0) | (values > most)]
        if len(wrong):
            limits = "at least 0" if most == torch.inf else "from 0 to 1"
            return f"a {name} of {float(wrong[0]):.4g}; a number {limits}"
    return ""
