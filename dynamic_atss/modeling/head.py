"""The head of the ATSS family: class logits, box deltas and a quality logit for every prior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dynamic_atss.modeling.tower import tower


class HeadOutput(NamedTuple):
    """logits (N, P, C) · deltas (N, P, 4) · quality (N, P), a logit · sizes, (height, width) by
    level."""

    logits: Tensor
    deltas: Tensor
    quality: Tensor
    sizes: tuple[tuple[int, int], ...]


class Scale(nn.Module):
    """A learnt factor."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class AnchorHead(nn.Module):
    """Two towers shared by all levels; module names are those of the published checkpoints, but for
    `quality`, which they call centerness whatever it learns.

    `distances`: the box branch gives distances, which are not negative (relu) and start at 4
    strides.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        *,
        num_levels: int = 5,
        per_location: int = 1,
        num_convs: int = 4,
        deformable_last: bool = False,
        distances: bool = False,
        prior_prob: float = 0.01,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.distances = distances
        self.cls_tower = tower(channels, num_convs, deformable_last)
        self.bbox_tower = tower(channels, num_convs, deformable_last)
        self.cls_logits = nn.Conv2d(channels, per_location * num_classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(channels, per_location * 4, 3, padding=1)
        self.quality = nn.Conv2d(channels, per_location, 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in range(num_levels))
        for branch in (self.cls_logits, self.bbox_pred, self.quality):
            nn.init.normal_(branch.weight, std=0.01)
            nn.init.zeros_(branch.bias)
        nn.init.constant_(self.cls_logits.bias, -math.log((1 - prior_prob) / prior_prob))
        if distances:
            nn.init.constant_(self.bbox_pred.bias, 4.0)

    def forward(self, features: Sequence[Tensor]) -> HeadOutput:
        """features: one (N, channels, h, w) per level, finest first."""
        levels = [self._level(x, scale) for x, scale in zip(features, self.scales, strict=True)]
        logits, deltas, quality = (torch.cat(maps, dim=1) for maps in zip(*levels, strict=True))
        sizes = tuple((x.shape[2], x.shape[3]) for x in features)
        return HeadOutput(logits.float(), deltas.float(), quality.float().squeeze(-1), sizes)

    def _level(self, x: Tensor, scale: Scale) -> tuple[Tensor, Tensor, Tensor]:
        box_features = self.bbox_tower(x)
        deltas = scale(self.bbox_pred(box_features))
        if self.distances:
            deltas = deltas.relu()
        logits = self.cls_logits(self.cls_tower(x))
        return (
            _flat(logits, self.num_classes),
            _flat(deltas, 4),
            _flat(self.quality(box_features), 1),
        )


def _flat(x: Tensor, values: int) -> Tensor:
    """(N, A * values, h, w) -> (N, h * w * A, values), the order of the priors."""
    n, _, h, w = x.shape
    return x.view(n, -1, values, h, w).permute(0, 3, 4, 1, 2).reshape(n, -1, values)
