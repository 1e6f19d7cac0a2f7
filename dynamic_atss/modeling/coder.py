"""Converts between boxes and the values that the network regresses.

The order of arguments is always encode(gt_boxes, priors), decode(deltas, priors).
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from dynamic_atss.errors import UserError


class Coder(Protocol):
    """Converts between the box branch's values (..., R) and boxes (..., 4).

    R is 4, except for distributions.
    """

    def encode(self, gt_boxes: Tensor, priors: Tensor) -> Tensor: ...

    def decode(self, deltas: Tensor, priors: Tensor) -> Tensor: ...


def decode(coder: Coder, deltas: Tensor, priors: Tensor) -> Tensor:
    """Decodes the head's deltas (..., R) to boxes (..., 4).

    Raises:
        UserError: the deltas or the boxes have a wrong shape.
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
    """Raises UserError for a wrong number of deltas, which could broadcast to plausible boxes."""
    if deltas.shape[-1] != wanted:
        raise UserError(
            f"coder {type(coder).__name__}: the deltas of the head have shape "
            f"{tuple(deltas.shape)}; (N, P, {wanted}) is needed, or a head with another coder"
        )


def _center_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Gives centres and legacy sizes (x2 - x1 + 1), (..., 2) each."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2] + 1


class DeltaCoder:
    """Regresses the shift of the centre and the log of the size relative to the prior.

    Girshick et al., CVPR 2014, in the releases' form: weights 10 and 5, and sizes with "+1". Log
    sizes are capped, so that exp stays finite.
    """

    shift_weight = 10.0
    size_weight = 5.0
    max_log_size = math.log(1000 / 16)

    def encode(self, gt_boxes: Tensor, priors: Tensor) -> Tensor:
        """Gives the deltas (..., 4) of boxes (..., 4) relative to priors (..., 4)."""
        gt_center, gt_size = _center_size(gt_boxes)
        center, size = _center_size(priors)
        shift = self.shift_weight * (gt_center - center) / size
        return torch.cat((shift, self.size_weight * torch.log(gt_size / size)), dim=-1)

    def decode(self, deltas: Tensor, priors: Tensor) -> Tensor:
        """Gives the unclipped boxes (..., 4) of deltas (..., 4). Leading dimensions broadcast."""
        _check_values(self, deltas)
        center, size = _center_size(priors)
        center = deltas[..., :2] / self.shift_weight * size + center
        half = (
            torch.exp((deltas[..., 2:] / self.size_weight).clamp(max=self.max_log_size)) * size - 1
        ) * 0.5
        return torch.cat((center - half, center + half), dim=-1)


class DistanceCoder:
    """Regresses the distances from the prior's centre to the four sides of the box.

    Args:
        unit: distances are in units of the prior's legacy size / `unit`. None: in pixels. Use 1 for
            points, whose boxes are one stride wide. For anchors (the releases' `REGRESSION_TYPE:
            "POINT"`) use anchor size / stride. Then the distances are in strides.
    """

    def __init__(self, unit: float | None) -> None:
        self.unit = unit

    def encode(self, gt_boxes: Tensor, priors: Tensor) -> Tensor:
        """Gives the distances (..., 4) to left, top, right and bottom."""
        center, size = _center_size(priors)
        distances = torch.cat((center - gt_boxes[..., :2], gt_boxes[..., 2:] - center), dim=-1)
        if self.unit is None:
            return distances
        return self.unit * distances / torch.cat((size, size), dim=-1)

    def decode(self, deltas: Tensor, priors: Tensor) -> Tensor:
        """Gives the boxes (..., 4) of distances (..., 4). Leading dimensions broadcast."""
        _check_values(self, deltas)
        center, size = _center_size(priors)
        if self.unit is not None:
            deltas = deltas / self.unit * torch.cat((size, size), dim=-1)
        return torch.cat((center - deltas[..., :2], center + deltas[..., 2:]), dim=-1)


class DistributionCoder(DistanceCoder):
    """Regresses each distance as the mean of a distribution over 0, 1, ..., `reg_max` units.

    The network gives the logits of the distributions. Li et al., NeurIPS 2020, arXiv 2006.04388.
    """

    def __init__(self, unit: float, reg_max: int) -> None:
        super().__init__(unit)
        self.reg_max = reg_max

    @property
    def values(self) -> int:
        """Gives the number of values that the network gives for a prior."""
        return 4 * (self.reg_max + 1)

    def logits(self, deltas: Tensor) -> Tensor:
        """Gives the logits (..., 4, bins) of deltas (..., 4 * bins)."""
        _check_values(self, deltas, self.values)
        return deltas.unflatten(-1, (4, self.reg_max + 1))

    def decode(self, deltas: Tensor, priors: Tensor) -> Tensor:
        """Gives the boxes (..., 4) of deltas (..., 4 * bins). Leading dimensions broadcast."""
        distance = torch.arange(self.reg_max + 1, dtype=deltas.dtype, device=deltas.device)
        return super().decode((self.logits(deltas).softmax(-1) * distance).sum(-1), priors)
