"""Box <-> what the network regresses.

Argument order, everywhere: encode(gt_boxes, priors), decode(deltas, priors).
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from dynamic_atss.errors import UserError


class Coder(Protocol):
    """How the box branch's values (..., R) mean boxes (..., 4); R is 4 but for distributions."""

    def encode(self, gt_boxes: Tensor, priors: Tensor) -> Tensor: ...

    def decode(self, deltas: Tensor, priors: Tensor) -> Tensor: ...


def decode(coder: Coder, deltas: Tensor, priors: Tensor) -> Tensor:
    """Boxes (..., 4) of what the head gives, (..., R).

    Raises:
        UserError: the coder, or what it decodes, is of another shape.
    """
    boxes = coder.decode(deltas, priors)
    wanted = (*deltas.shape[:-1], 4)
    if boxes.shape != wanted:
        raise UserError(
            f"coder {type(coder).__name__}: decode gives boxes of shape {tuple(boxes.shape)} from "
            f"deltas of shape {tuple(deltas.shape)}; {wanted} is needed"
        )
    return boxes


def _check_values(coder: Coder, deltas: Tensor, wanted: int = 4) -> None:
    """UserError for another number of deltas: it could broadcast to boxes that look right."""
    if deltas.shape[-1] != wanted:
        raise UserError(
            f"coder {type(coder).__name__}: the deltas of the head have shape "
            f"{tuple(deltas.shape)}; (N, P, {wanted}) is needed, or a head with another coder"
        )


def _center_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centres and legacy sizes (x2 - x1 + 1), each (..., 2)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2] + 1


class DeltaCoder:
    """Shift of the centre and log of the size, relative to the prior (Girshick et al., CVPR 2014),
    in the releases' form: weights 10 and 5, sizes with "+1", log sizes capped so that exp stays
    finite."""

    shift_weight = 10.0
    size_weight = 5.0
    max_log_size = math.log(1000 / 16)

    def encode(self, gt_boxes: Tensor, priors: Tensor) -> Tensor:
        """Deltas (..., 4) of boxes (..., 4) relative to priors (..., 4)."""
        gt_center, gt_size = _center_size(gt_boxes)
        center, size = _center_size(priors)
        shift = self.shift_weight * (gt_center - center) / size
        return torch.cat((shift, self.size_weight * torch.log(gt_size / size)), dim=-1)

    def decode(self, deltas: Tensor, priors: Tensor) -> Tensor:
        """Boxes (..., 4) from deltas (..., 4); leading dimensions broadcast. Not clipped to the
        image."""
        _check_values(self, deltas)
        center, size = _center_size(priors)
        center = deltas[..., :2] / self.shift_weight * size + center
        half = (
            torch.exp((deltas[..., 2:] / self.size_weight).clamp(max=self.max_log_size)) * size - 1
        ) * 0.5
        return torch.cat((center - half, center + half), dim=-1)


class DistanceCoder:
    """Distances from the prior's centre to the four sides, in units of the prior's legacy size /
    `unit`; None: in pixels.

    The anchors of the releases' `REGRESSION_TYPE: "POINT"`: `unit` = anchor size / stride, so one
    unit is one stride. Points, whose boxes are one stride wide: 1.
    """

    def __init__(self, unit: float | None) -> None:
        self.unit = unit

    def encode(self, gt_boxes: Tensor, priors: Tensor) -> Tensor:
        """Distances (..., 4) left, top, right, bottom."""
        center, size = _center_size(priors)
        distances = torch.cat((center - gt_boxes[..., :2], gt_boxes[..., 2:] - center), dim=-1)
        if self.unit is None:
            return distances
        return self.unit * distances / torch.cat((size, size), dim=-1)

    def decode(self, deltas: Tensor, priors: Tensor) -> Tensor:
        """Boxes (..., 4) from distances (..., 4); leading dimensions broadcast."""
        _check_values(self, deltas)
        center, size = _center_size(priors)
        if self.unit is not None:
            deltas = deltas / self.unit * torch.cat((size, size), dim=-1)
        return torch.cat((center - deltas[..., :2], center + deltas[..., 2:]), dim=-1)


class DistributionCoder(DistanceCoder):
    """Each distance as the mean of a distribution over 0, 1, ..., `reg_max` units (Li et al.,
    NeurIPS 2020, arXiv 2006.04388), of which the network gives the logits."""

    def __init__(self, unit: float, reg_max: int) -> None:
        super().__init__(unit)
        self.reg_max = reg_max

    @property
    def values(self) -> int:
        """What the network gives for a prior."""
        return 4 * (self.reg_max + 1)

    def logits(self, deltas: Tensor) -> Tensor:
        """(..., 4, bins) of deltas (..., 4 * bins)."""
        _check_values(self, deltas, self.values)
        return deltas.unflatten(-1, (4, self.reg_max + 1))

    def decode(self, deltas: Tensor, priors: Tensor) -> Tensor:
        """Boxes (..., 4) from deltas (..., 4 * bins); leading dimensions broadcast."""
        distance = torch.arange(self.reg_max + 1, dtype=deltas.dtype, device=deltas.device)
        return super().decode((self.logits(deltas).softmax(-1) * distance).sum(-1), priors)
