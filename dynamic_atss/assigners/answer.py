"""A rule's answer, checked: a rule of the user's may give something else."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dynamic_atss.assigners.base import Assigner
from dynamic_atss.errors import UserError
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors

NEEDED = "needs an Assignment with gt_index int64 and quality floating-point, both of shape"


def answer(rule: Assigner, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
    """What the rule returns. Types and shapes are compared, without a wait for the device.

    The rule sees the objects alone, unless it has `sees_regions`: regions come after all objects,
    so that its indices hold in `gt`, too.

    Raises:
        UserError: it is no `Assignment` of as many images and priors.
    """
    gt = gt if getattr(rule, "sees_regions", False) else gt.objects
    found = rule(priors, gt, predictions)
    if fault := _fault(found, predictions.boxes.shape[:2]):
        shape = tuple(predictions.boxes.shape[:2])
        raise UserError(f"rule {type(rule).__name__} gives {fault}, {NEEDED} {shape}")
    return found


def _fault(found: Any, shape: torch.Size) -> str:
    """What is wrong; "" if nothing is."""
    if not isinstance(found, Assignment):
        return f"a {type(found).__name__}"
    for name in ("gt_index", "quality", "weight", "negative"):
        values = getattr(found, name)
        if values is None and name in ("weight", "negative"):
            continue
        if not isinstance(values, Tensor):
            return f"{name} as a {type(values).__name__}"
        right = values.dtype == torch.int64 if name == "gt_index" else values.is_floating_point()
        if values.shape != shape or not right:
            return f"{name} of shape {tuple(values.shape)} and type {values.dtype}"
    return ""
