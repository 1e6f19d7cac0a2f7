"""Checks images and boxes that a user's data set or transform returns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dynamic_atss.types import GroundTruth


def fault(found: Any, classes: int | None) -> str:
    """Says why an (image, gt) of one image is wrong. Returns "" if it is right.

    Args:
        found: the result of the user's code.
        classes: number of classes. None skips the check of classes.
    """
    if not isinstance(found, tuple | list) or len(found) != 2:
        return f"a {type(found).__name__}, not (image, gt)"
    image, gt = found
    if not isinstance(gt, GroundTruth):
        return f"a {type(gt).__name__} in place of a GroundTruth"
    return _of_image(image) or _of_form(gt) or _of_boxes(gt.boxes) or _of_classes(gt, classes)


def _of_image(image: Any) -> str:
    if not isinstance(image, Tensor):
        return f"a {type(image).__name__} in place of an image tensor"
    valid = image.dtype == torch.uint8 and image.ndim == 3 and len(image) == 3 and image.numel() > 0
    if valid:
        return ""
    return f"an image {tuple(image.shape)} {image.dtype}; (3, H, W) torch.uint8 is needed"


def _of_form(gt: GroundTruth) -> str:
    """Says which field of `gt` has a wrong type or shape. Returns "" if none has."""
    count = len(gt.boxes) if isinstance(gt.boxes, Tensor) and gt.boxes.ndim else 0
    wanted = {
        "boxes": (torch.float32, (count, 4)),
        "classes": (torch.int64, (count,)),
        "image_index": (torch.int64, (count,)),
    }
    for name, (dtype, shape) in wanted.items():
        values = getattr(gt, name)
        if not isinstance(values, Tensor):
            return f"{name} as a {type(values).__name__}, not a tensor"
        if values.dtype != dtype or values.shape != shape:
            return f"{name} {tuple(values.shape)} {values.dtype}; {shape} {dtype} is needed"
    return ""


def _of_boxes(boxes: Tensor) -> str:
    valid = boxes.isfinite().all(1) & (boxes[:, 2:] >= boxes[:, :2]).all(1)
    if valid.all():
        return ""
    return f"the box {boxes[~valid][0].tolist()}; four finite numbers x1 <= x2, y1 <= y2 are needed"


def _of_classes(gt: GroundTruth, classes: int | None) -> str:
    known = (gt.classes >= 0) & (gt.classes < (2**62 if classes is None else classes))
    if not known.all():
        last = "" if classes is None else f" to {classes - 1}"
        return f"class {int(gt.classes[~known][0])}; classes are 0{last}"
    return "" if (gt.image_index == 0).all() else "a gt.image_index other than 0; do not change it"
