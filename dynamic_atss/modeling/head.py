"""Defines the head, which gives class logits, box deltas and a quality logit for every prior."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dynamic_atss.errors import UserError
from dynamic_atss.modeling.layers import fill_bias
from dynamic_atss.modeling.tower import tower
from dynamic_atss.types import Priors

MAX_LOG_DISTANCE = 12.0


class HeadOutput(NamedTuple):
    """Holds the output of a head.

    Attributes:
        logits: (N, P, C).
        deltas: (N, P, R). R is 4, or the number of values that the coder needs.
        quality: (N, P) logits, or None.
        sizes: (height, width) by level.
        extras: further maps (N, P, ...) by name, for rules.
    """

    logits: Tensor
    deltas: Tensor
    quality: Tensor | None
    sizes: tuple[tuple[int, int], ...]
    extras: Mapping[str, Tensor] = {}


def branches_of(head: nn.Module, found: Any) -> list[HeadOutput]:
    """Gives the outputs of all branches of a head.

    Raises:
        UserError: the head returned neither a `HeadOutput` nor a dict of them.
    """
    outputs = list(found.values()) if isinstance(found, Mapping) else [found]
    if outputs and all(isinstance(x, HeadOutput) for x in outputs):
        return outputs
    wrong = [type(x).__name__ for x in outputs if not isinstance(x, HeadOutput)]
    place = "in its dict" if isinstance(found, Mapping) else "in place of its output"
    raise UserError(
        f"head {type(head).__name__} (MODEL.HEAD.NAME): gives {wrong[0] if wrong else 'nothing'} "
        f"{place}; a HeadOutput, or a dict of them by branch, is needed"
    )


def check_sizes(
    head: nn.Module, outputs: Sequence[HeadOutput], strides: Sequence[int] | None
) -> None:
    """Checks the sizes of the maps.

    Args:
        strides: strides of the priors' levels; None: unknown.

    Raises:
        UserError: sizes are not (height, width) for each level, or differ between branches.
    """
    for output in outputs:
        sizes = output.sizes
        right = isinstance(sizes, tuple) and all(map(_is_size, sizes))
        right = right and (strides is None or len(sizes) == len(strides))
        if not right or sizes != outputs[0].sizes:
            levels = "each level" if strides is None else f"the {len(strides)} levels"
            raise UserError(
                f"head {type(head).__name__} (MODEL.HEAD.NAME): its sizes are {sizes!r}; "
                f"HeadOutput needs a tuple of (height, width), one for {levels}, the same in all "
                "branches"
            )


def _is_size(size: Any) -> bool:
    return (
        isinstance(size, tuple)
        and len(size) == 2
        and all(isinstance(side, int) and side > 0 for side in size)
    )


def check_output(head: nn.Module, output: HeadOutput, images: int, priors: Priors) -> None:
    """Checks the shapes of an output, which may come from a custom head.

    Does not wait for the device.

    Raises:
        UserError: the output does not have a row for each prior of each image.
    """
    rows = (images, len(priors))
    for name in ("logits", "deltas", "quality"):
        values = getattr(output, name, None)
        if values is None and name == "quality":
            continue
        shape = tuple(getattr(values, "shape", ()))
        dimensions = 2 if name == "quality" else 3
        if shape[:2] != rows or len(shape) != dimensions:
            raise UserError(
                f"head {type(head).__name__} (MODEL.HEAD.NAME): its {name} "
                f"{'has' if name == 'quality' else 'have'} shape {shape}; for {images} images and "
                f"{len(priors)} priors HeadOutput needs logits (N, P, C), deltas (N, P, R) and "
                f"quality (N, P) or None, with N, P = {rows}"
            )


def joined_outputs(parts: Sequence[Any]) -> Any:
    """Concatenates the outputs of several parts of a batch: `HeadOutput`s, or dicts of them."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if isinstance(first, Mapping):
        return {name: joined_outputs([part[name] for part in parts]) for name in first}
    return first._replace(
        logits=torch.cat([part.logits for part in parts]),
        deltas=torch.cat([part.deltas for part in parts]),
        quality=None if first.quality is None else torch.cat([part.quality for part in parts]),
        extras={name: torch.cat([part.extras[name] for part in parts]) for name in first.extras},
    )


class Scale(nn.Module):
    """Multiplies by a learnt factor."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class DenseHead(nn.Module):
    """Applies two towers, which all levels share.

    Module names are those of the published checkpoints, except `quality`. They call it centerness,
    also if it learns another quality.

    Args:
        per_location: priors per location.
        num_convs: convolutions of each tower. For `deformable_last`, `norm` and `conv_bias` see
            `tower`.
        scales: True if the box branch has a learnt factor for each level.
        quality: the tower before the quality branch, "box" or "class". None: no quality branch.
        positive: function that makes the box branch's values positive, "relu" or "exp". None: any
            sign.
        box_values: number of values of the box branch for each prior.
        box_bias: initial bias of the box branch.
        prior_prob: initial score of every class.
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
        norm: bool = True,
        conv_bias: bool = True,
        scales: bool = True,
        quality: str | None = "box",
        positive: str | None = None,
        box_values: int = 4,
        box_bias: float = 0.0,
        prior_prob: float = 0.01,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.box_values = box_values
        self.positive = positive
        self.quality_from = quality
        self.cls_tower = tower(channels, num_convs, deformable_last, norm=norm, bias=conv_bias)
        self.bbox_tower = tower(channels, num_convs, deformable_last, norm=norm, bias=conv_bias)
        self.cls_logits = nn.Conv2d(channels, per_location * num_classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(channels, per_location * box_values, 3, padding=1)
        self.quality = nn.Conv2d(channels, per_location, 3, padding=1) if quality else None
        self.scales = nn.ModuleList(Scale() for _ in range(num_levels)) if scales else None
        for branch in filter(None, (self.cls_logits, self.bbox_pred, self.quality)):
            nn.init.normal_(branch.weight, std=0.01)
            fill_bias(branch, 0.0)
        fill_bias(self.cls_logits, -math.log((1 - prior_prob) / prior_prob))
        fill_bias(self.bbox_pred, box_bias)

    def forward(self, features: Sequence[Tensor]) -> HeadOutput:
        """Computes the output for all priors.

        Args:
            features: one (N, channels, h, w) per level, finest first.
        """
        scales = self.scales or [nn.Identity()] * len(features)
        levels = [self._level(x, scale) for x, scale in zip(features, scales, strict=True)]
        logits, deltas, quality = zip(*levels, strict=True)
        sizes = tuple((x.shape[2], x.shape[3]) for x in features)
        return HeadOutput(
            torch.cat(logits, dim=1).float(),
            self._signed(torch.cat(deltas, dim=1).float()),
            torch.cat(quality, dim=1).float().squeeze(-1) if self.quality else None,
            sizes,
        )

    def _level(self, x: Tensor, scale: nn.Module) -> tuple[Tensor, Tensor, Tensor | None]:
        class_features, box_features = self.cls_tower(x), self.bbox_tower(x)
        quality = None
        if self.quality:
            features = box_features if self.quality_from == "box" else class_features
            quality = _flat(self.quality(features), 1)
        deltas = scale(self.bbox_pred(box_features))
        logits = _flat(self.cls_logits(class_features), self.num_classes)
        return logits, _flat(deltas, self.box_values), quality

    def _signed(self, deltas: Tensor) -> Tensor:
        if self.positive == "relu":
            return deltas.relu()
        # The limit keeps a diverging branch finite. exp of it is larger than any image.
        return deltas.clamp(max=MAX_LOG_DISTANCE).exp() if self.positive == "exp" else deltas


def _flat(x: Tensor, values: int) -> Tensor:
    """Reshapes (N, A * values, h, w) to (N, h * w * A, values), the order of the priors."""
    n, _, h, w = x.shape
    return x.view(n, -1, values, h, w).permute(0, 3, 4, 1, 2).reshape(n, -1, values)
