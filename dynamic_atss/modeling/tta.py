"""Does test-time augmentation: merges detections of an image at several sizes and mirrored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from dynamic_atss.ops.nms import multiclass_nms
from dynamic_atss.ops.vote import box_vote
from dynamic_atss.types import Batch, Detections, to_device


@dataclass(frozen=True)
class ScaleOptions:
    """Says how a size of the images is used.

    Attributes:
        flip: True detects also in the mirrored images.
        size_range: (low, high). Only boxes with low^2 < area < high^2 count, in pixels of that
            size. None: all boxes count.
    """

    flip: bool = False
    size_range: tuple[float, float] | None = None


class AugmentedDetector(nn.Module):
    """Detects in several passes over every image. Replaces the detector in a test.

    Args:
        model: (batch, nms=...) -> list of `Detections`.
        scales: one for the batch, then one for each of `batch.scaled`.
        merge: detections of all passes of an image -> its detections.
        nms: True if each pass applies NMS and its limit.
    """

    def __init__(
        self,
        model: nn.Module,
        scales: Sequence[ScaleOptions],
        merge: Callable[[Detections], Detections],
        *,
        nms: bool,
    ) -> None:
        super().__init__()
        self.model, self.scales, self.merge = model, tuple(scales), merge
        self.nms = nms

    def forward(self, batch: Batch) -> list[Detections]:
        """Gives the detections of each image, in pixels of the batch's images."""
        passes = list(self._passes(batch))
        return [self.merge(join(found)) for found in zip(*passes, strict=True)]

    def _passes(self, batch: Batch) -> Iterator[list[Detections]]:
        for images, scale in zip((batch, *batch.scaled), self.scales, strict=True):
            images = to_device(images, batch.images.device)
            for flip in (False, True) if scale.flip else (False,):
                found = self._detect(images, flip)
                if scale.size_range is not None:
                    found = [within(f, scale.size_range) for f in found]
                ratios = (batch.sizes / images.sizes).flip(1).repeat(1, 2)  # x, y, x, y
                yield [replace(f, boxes=f.boxes * r) for f, r in zip(found, ratios, strict=True)]

    def _detect(self, batch: Batch, flip: bool) -> list[Detections]:
        if not flip:
            return self.model(batch, nms=self.nms)
        found = self.model(mirrored(batch), nms=self.nms)
        widths = batch.sizes[:, 1]
        return [flipped(f, width) for f, width in zip(found, widths, strict=True)]


def mirrored(batch: Batch) -> Batch:
    """Mirrors each image left to right within its width. The padding stays at the right."""
    width = batch.sizes[:, 1:]
    column = torch.arange(batch.images.shape[3], device=width.device).expand(len(width), -1)
    source = torch.where(column < width, width - 1 - column, column)
    return replace(batch, images=batch.images.take_along_dim(source[:, None, None], dim=3))


def flipped(found: Detections, width: Tensor) -> Detections:
    """Mirrors the boxes left to right in an image of this width."""
    edge = width - found.convention.value
    x1, y1, x2, y2 = found.boxes.unbind(1)
    return replace(found, boxes=torch.stack((edge - x2, y1, edge - x1, y2), dim=1))


def within(found: Detections, size_range: tuple[float, float]) -> Detections:
    """Gives the boxes with low^2 < area < high^2."""
    low, high = size_range
    size = found.convention.area(found.boxes)
    return found[(size > low**2) & (size < high**2)]


def join(found: Sequence[Detections]) -> Detections:
    """Concatenates detections. Drops boxes and scores that are not finite."""
    joined = Detections(
        torch.cat([f.boxes for f in found]),
        torch.cat([f.scores for f in found]),
        torch.cat([f.classes for f in found]),
        found[0].convention,
    )
    return joined[joined.boxes.isfinite().all(dim=1) & joined.scores.isfinite()]


def merge_by_nms(found: Detections, *, threshold: float, limit: int) -> Detections:
    """Gives the `limit` best after NMS per class."""
    scored = found.boxes, found.scores, found.classes
    return found[multiclass_nms(*scored, threshold, found.convention, limit)]


def keep_best(found: Detections, *, limit: int) -> Detections:
    """Gives the `limit` best without merging."""
    return found[found.scores.argsort(descending=True, stable=True)[:limit]]


def merge_by_vote(
    found: Detections,
    *,
    threshold: float,
    limit: int,
    soft_threshold: float | None = None,
) -> Detections:
    """Gives the `limit` best after `box_vote`."""
    boxes, scores, classes = box_vote(
        found.boxes,
        found.scores,
        found.classes,
        threshold,
        soft_threshold=soft_threshold,
        convention=found.convention,
    )
    return Detections(boxes[:limit], scores[:limit], classes[:limit], found.convention)
