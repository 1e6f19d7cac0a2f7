"""Provides the simple form of a rule: one image at a time, every prior with every box.

Memory and time grow with P x G. The packed form (`base.py`) is faster. A rule that proves useful
can be rewritten in it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from dynamic_atss.errors import UserError
from dynamic_atss.types import BACKGROUND, IGNORE, Assignment, GroundTruth, Predictions, Priors

ROUNDING = 1e-4  # how far a quality may lie outside [0, 1]


class PerImage(ABC):
    """Assigns the priors of one image at a time, by the method `assign` of a subclass.

    Attributes:
        soft_labels, quality_name, needs_size: see `Assigner`. A rule may set them.
        waits: True, because the loop over the images waits for the device.

    >>> import torch
    >>> from dynamic_atss import GroundTruth, PerImage, Predictions, Priors
    >>> from dynamic_atss.boxes import iou
    >>> from dynamic_atss.types import Level
    >>> class BestOverlap(PerImage):
    ...     def assign(self, priors, boxes, classes, predicted_boxes, logits):
    ...         best, index = iou(priors.boxes[:, None], boxes).max(1)
    ...         return index.where(best > 0.5, -1), best
    >>> two = torch.tensor([[0.0, 0, 8, 8], [8, 0, 16, 8]])
    >>> priors = Priors(two, levels=(Level(1, 2, 8),))
    >>> gt = GroundTruth(two[1:] - 1, torch.tensor([3]), image_index=torch.tensor([0]))
    >>> BestOverlap()(priors, gt, Predictions(two[None], torch.zeros(1, 2, 5))).gt_index
    tensor([[-1,  0]])
    """

    soft_labels = False
    quality_name = "quality"
    needs_size = True
    waits = True

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Raises TypeError for a subclass that is also an `nn.Module`."""
        super().__init_subclass__(**arguments)
        if issubclass(cls, nn.Module):
            raise TypeError(
                f"{cls.__name__}: a PerImage rule cannot learn, so it must not be an nn.Module; "
                "write the rule in the packed form (dynamic_atss/assigners/base.py)"
            )

    @abstractmethod
    def assign(
        self,
        priors: Priors,
        boxes: Tensor,
        classes: Tensor,
        predicted_boxes: Tensor,
        logits: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Assigns the priors of one image. It is not called for an image without boxes.

        It may call `dynamic_atss.assigners.recording.note` to explain its answer.

        Args:
            priors: the P priors.
            boxes: (G, 4) xyxy in pixels.
            classes: (G,) int64.
            predicted_boxes: (P, 4) xyxy in pixels.
            logits: (P, C).

        Returns:
            index: (P,) int64, 0..G-1, BACKGROUND or IGNORE.
            quality: (P,) in [0, 1]. Only that of positives counts.
        """

    @torch.no_grad()
    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        """Calls `assign` for each image and packs its results.

        Raises:
            UserError: `assign` returned a wrong type, shape or value.
        """
        shape = predictions.boxes.shape[:2]
        index = gt.image_index.new_full(shape, BACKGROUND)
        quality = predictions.boxes.new_zeros(shape)
        first = 0
        for n, count in enumerate(gt.image_index.bincount(minlength=shape[0]).tolist()):
            if count:
                here = slice(first, first + count)
                seen = predictions.boxes[n], predictions.logits[n]
                found = self.assign(priors, gt.boxes[here], gt.classes[here], *seen)
                finite = all(bool(x.isfinite().all()) for x in seen)
                self._check(_form(found, len(priors)) or _range(*found, count, finite))
                positive = found[0] >= 0
                index[n] = torch.where(positive, found[0] + first, found[0])
                quality[n] = torch.where(positive, found[1], 0.0).clamp(0, 1)
            first += count
        return Assignment(index, quality)

    def _check(self, fault: str) -> None:
        if fault:
            raise UserError(f"{type(self).__name__}.assign: {fault}")


def _form(found: Any, priors: int) -> str:
    """Describes a wrong type or shape; "" if there is none."""
    pair = isinstance(found, tuple) and len(found) == 2
    if not pair or not all(isinstance(x, Tensor) for x in found):
        return "return two tensors, (index, quality)"
    for name, values in zip(("index", "quality"), found, strict=True):
        if values.shape != (priors,):
            return f"{name} has shape {tuple(values.shape)}; give a number per prior, ({priors},)"
    if found[0].dtype != torch.int64:
        return f"index is {found[0].dtype}; give torch.int64"
    if not found[1].is_floating_point():
        return f"quality is {found[1].dtype}; give floating-point numbers"
    return ""


def _range(index: Tensor, quality: Tensor, boxes: int, finite: bool) -> str:
    """Describes a wrong value; "" if there is none.

    Accepts any quality if predictions are not finite, because the trainer reports their loss.
    """
    low, high = (int(x) for x in index.aminmax())
    if low < IGNORE or high >= boxes:
        valid = f"0 to {boxes - 1}, BACKGROUND ({BACKGROUND}) or IGNORE ({IGNORE})"
        return f"index holds {low if low < IGNORE else high}; give {valid}"
    in_range = (quality >= -ROUNDING) & (quality <= 1 + ROUNDING)
    wrong = quality[(index >= 0) & ~in_range]
    if len(wrong) and finite:
        return f"quality of a positive is {float(wrong[0]):g}; give numbers in [0, 1]"
    return ""
