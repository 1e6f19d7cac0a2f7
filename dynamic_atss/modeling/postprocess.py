"""From the head's output to detections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dynamic_atss.boxes import clip
from dynamic_atss.modeling.head import HeadOutput
from dynamic_atss.ops.nms import multiclass_nms
from dynamic_atss.types import Detections, Priors


class PostProcess:
    """Per level the best candidates, then class-wise NMS over all levels, then the best of the
    image.

    A candidate's class score, before the quality enters, must exceed `score_threshold`; its final
    score is the geometric mean of class score and quality, or the class score where the head has no
    quality branch.

    Args:
        pre_nms_top_n: candidates of a level, or with `by_location` priors of a level, chosen by
            their best class, of which then every class is a candidate.
        extra: 1 for the legacy "+1" of clipping and NMS, 0 for none.
        in_original: NMS looks at the boxes in pixels of the original image.
    """

    def __init__(
        self,
        coder: Any,
        *,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.6,
        pre_nms_top_n: int = 1000,
        detections_per_image: int = 100,
        by_location: bool = False,
        extra: float = 1.0,
        in_original: bool = False,
    ) -> None:
        self.coder = coder
        self.score_threshold = score_threshold
        self.nms_threshold = nms_threshold
        self.pre_nms_top_n = pre_nms_top_n
        self.detections_per_image = detections_per_image
        self.by_location = by_location
        self.extra = extra
        self.in_original = in_original

    def __call__(
        self,
        output: HeadOutput,
        priors: Priors,
        sizes: Tensor,
        original_sizes: Sequence[tuple[int, int]] = (),
        *,
        nms: bool = True,
    ) -> list[Detections]:
        """One per image; boxes in pixels of the resized image, clipped to sizes (N, 2): height,
        width. Without `nms` all candidates, level by level: test-time augmentation joins them."""
        scores, prior, classes = self._candidates(output, priors)
        deltas = output.deltas.gather(1, prior[..., None].expand(-1, -1, 4))
        boxes = clip(self.coder.decode(deltas, priors.boxes[prior]), sizes[:, None], self.extra)
        found = [_present(*image) for image in zip(boxes, scores, classes, strict=True)]
        if not nms:
            return found
        scales = boxes.new_ones(len(boxes), 4)
        if self.in_original:
            scales = (sizes.new_tensor(original_sizes) / sizes).flip(1).repeat(1, 2)  # x, y, x, y
        return [self._select(*image) for image in zip(found, scales, strict=True)]

    def _candidates(self, output: HeadOutput, priors: Priors) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, prior indices and classes, each (N, candidates of all levels); score 0: no
        candidate."""
        counts = [level.locations * priors.per_location for level in priors.levels]
        qualities = [None] * len(counts)
        if output.quality is not None:
            qualities = output.quality.split(counts, dim=1)
        found, first = [], 0
        levels = zip(output.logits.split(counts, dim=1), qualities, counts, strict=True)
        for logits, quality, count in levels:
            joint = self._scores(logits.sigmoid(), quality).flatten(1)
            most = int((joint > 0).sum(1).max()) if self.by_location else self.pre_nms_top_n
            scores, index = joint.topk(min(most, joint.shape[1]))
            scores = scores if quality is None else scores.sqrt()
            found.append((scores, first + index // logits.shape[2], index % logits.shape[2]))
            first += count
        scores, prior, classes = (torch.cat(x, dim=1) for x in zip(*found, strict=True))
        return scores, prior, classes

    def _scores(self, classes: Tensor, quality: Tensor | None) -> Tensor:
        """(N, priors of a level, C), with the quality squared; 0: no candidate."""
        scores = classes if quality is None else classes * quality.sigmoid()[..., None]
        chosen = classes > self.score_threshold
        if self.by_location and classes.shape[1] > self.pre_nms_top_n:
            best = classes.amax(2).topk(self.pre_nms_top_n).indices
            among = torch.zeros_like(classes[..., 0], dtype=torch.bool).scatter_(1, best, True)
            chosen &= among[..., None]
        return torch.where(chosen, scores, 0.0)

    def _select(self, found: Detections, scale: Tensor) -> Detections:
        boxes = found.boxes * scale
        keep = multiclass_nms(boxes, found.scores, found.classes, self.nms_threshold, self.extra)
        return found[keep[: self.detections_per_image]]


def _present(boxes: Tensor, scores: Tensor, classes: Tensor) -> Detections:
    valid = scores > 0
    return Detections(boxes[valid], scores[valid], classes[valid])
