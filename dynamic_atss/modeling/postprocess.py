"""From the head's output to detections."""

from __future__ import annotations

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
    score is the geometric mean of class score and quality.
    """

    def __init__(
        self,
        coder: Any,
        *,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.6,
        pre_nms_top_n: int = 1000,
        detections_per_image: int = 100,
    ) -> None:
        self.coder = coder
        self.score_threshold = score_threshold
        self.nms_threshold = nms_threshold
        self.pre_nms_top_n = pre_nms_top_n
        self.detections_per_image = detections_per_image

    def __call__(
        self, output: HeadOutput, priors: Priors, sizes: Tensor, *, nms: bool = True
    ) -> list[Detections]:
        """One per image; boxes in pixels of the resized image, clipped to sizes (N, 2): height,
        width. Without `nms` all candidates, level by level: test-time augmentation joins them."""
        scores, prior, classes = self._candidates(output, priors)
        deltas = output.deltas.gather(1, prior[..., None].expand(-1, -1, 4))
        boxes = clip(self.coder.decode(deltas, priors.boxes[prior]), sizes[:, None])
        found = [_present(*image) for image in zip(boxes, scores, classes, strict=True)]
        return [self._select(candidates) for candidates in found] if nms else found

    def _candidates(self, output: HeadOutput, priors: Priors) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, prior indices and classes, each (N, candidates of all levels); score 0: no
        candidate."""
        found, first = [], 0
        for level in priors.levels:
            count = level.locations * priors.per_location
            logits, quality = (x[:, first : first + count] for x in (output.logits, output.quality))
            classes = logits.sigmoid()
            joint = classes * quality.sigmoid()[..., None]
            joint = torch.where(classes > self.score_threshold, joint, 0.0).flatten(1)
            scores, index = joint.topk(min(self.pre_nms_top_n, joint.shape[1]))
            num_classes = logits.shape[2]
            prior = first + torch.div(index, num_classes, rounding_mode="floor")
            found.append((scores.sqrt(), prior, index % num_classes))
            first += count
        scores, prior, classes = (torch.cat(x, dim=1) for x in zip(*found, strict=True))
        return scores, prior, classes

    def _select(self, found: Detections) -> Detections:
        keep = multiclass_nms(found.boxes, found.scores, found.classes, self.nms_threshold)
        return found[keep[: self.detections_per_image]]


def _present(boxes: Tensor, scores: Tensor, classes: Tensor) -> Detections:
    valid = scores > 0
    return Detections(boxes[valid], scores[valid], classes[valid])
