"""Computes detections from the head's output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.modeling.branches import Outputs, branch
from dynamic_atss.modeling.coder import decode
from dynamic_atss.modeling.head import HeadOutput
from dynamic_atss.ops.nms import batched_multiclass_nms
from dynamic_atss.ops.vote import score_vote
from dynamic_atss.types import Detections, Priors

# With `by_location`, the number of candidates per prior that are searched first. A trained detector
# has fewer than one.
_AT_FIRST = 4

Found = tuple[Tensor, Tensor, Tensor]  # boxes (N, K, 4), scores (N, K), classes (N, K)


class PostProcess:
    """Chooses the best candidates of each level, applies NMS per class, and keeps the best boxes.

    A candidate's class score must exceed `score_threshold`. Its final score is the geometric mean
    of class score and quality, or the class score if the head has no quality branch.

    Args:
        pre_nms_top_n: number of candidates per level. With `by_location`, number of priors per
            level, chosen by their best class. Then all classes of a prior are candidates.
        convention: of the boxes, for clipping, NMS and output.
        in_original: True if NMS uses boxes in pixels of the original image.
        branch: name of the head's branch to read; None: the head has no branches.
        nms: False keeps the best boxes without NMS, for a branch that learns one prior per box.
        score_voting: True moves kept boxes to the mean of their candidates (`score_vote`).
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
        convention: BoxConvention = BoxConvention.LEGACY,
        in_original: bool = False,
        branch: str | None = None,
        nms: bool = True,
        score_voting: bool = False,
    ) -> None:
        self.coder = coder
        self.score_threshold = score_threshold
        self.nms_threshold = nms_threshold
        self.pre_nms_top_n = pre_nms_top_n
        self.detections_per_image = detections_per_image
        self.by_location = by_location
        self.convention = convention
        self.in_original = in_original
        self.branch = branch
        self.nms = nms
        self.score_voting = score_voting

    def __call__(
        self,
        outputs: Outputs,
        priors: Priors,
        sizes: Tensor,
        original_sizes: Sequence[tuple[int, int]] = (),
        *,
        nms: bool = True,
    ) -> list[Detections]:
        """Gives the detections of each image, in pixels of the resized image.

        Args:
            sizes: (N, 2) height and width, to which boxes are clipped.
            nms: False gives all candidates by level, for test-time augmentation.
        """
        output = self.output(outputs)
        if not nms:
            found, _ = self.candidates(output, priors, sizes, complete=True)
            return [self._present(*image) for image in zip(*found, strict=True)]
        for complete in (False, True):
            found, cut = self.candidates(output, priors, sizes, complete=complete)
            found, counts = self.select(found, sizes, original_sizes)
            lengths, missing = _to_host(counts, cut)
            if not any(missing):
                break
        images = zip(*found, lengths, strict=True)
        return [
            Detections(b[:length], s[:length], c[:length], self.convention)
            for b, s, c, length in images
        ]

    def output(self, outputs: Outputs) -> HeadOutput:
        """Gives the branch to read. A subclass may read others.

        Training calls it, too, to report a missing branch in the first step.

        Raises:
            UserError: the head lacks the branch.
        """
        return branch(outputs, self.branch, f"post-processing {type(self).__name__}")

    def candidates(
        self, output: HeadOutput, priors: Priors, sizes: Tensor, *, complete: bool = False
    ) -> tuple[Found, list[Tensor]]:
        """Gives the candidates of all images by level. A score of 0 marks no candidate.

        With `by_location` the number of candidates is not known in advance, so some may be cut off.
        With `complete` they are counted first, which waits for the device.

        Returns:
            the candidates, and numbers (1,) of levels with `by_location`. A number that is not 0
            means that candidates were cut off.
        """
        counts = [level.locations * priors.per_location for level in priors.levels]
        qualities = [None] * len(counts)
        if output.quality is not None:
            qualities = output.quality.split(counts, dim=1)
        found, cut, first = [], [], 0
        levels = zip(output.logits.split(counts, dim=1), qualities, counts, strict=True)
        for logits, quality, count in levels:
            scores, index = self._best(logits, quality, complete)
            if self.by_location and not complete and scores.shape[1] < logits[0].numel():
                cut.append((scores > 0).all(1).sum()[None])
            found.append((scores, first + index // logits.shape[2], index % logits.shape[2]))
            first += count
        scores, prior, classes = (torch.cat(x, dim=1) for x in zip(*found, strict=True))
        values = output.deltas.shape[2]
        deltas = output.deltas.gather(1, prior[..., None].expand(-1, -1, values))
        decoded = decode(self.coder, deltas, priors.boxes[prior])
        boxes = self.convention.clip(decoded, sizes[:, None])
        return (boxes, scores, classes), cut

    def select(
        self,
        found: Found,
        sizes: Tensor,
        original_sizes: Sequence[tuple[int, int]] | Tensor,
        suppress: Callable[..., tuple[Tensor, Tensor]] = batched_multiclass_nms,
    ) -> tuple[Found, Tensor]:
        """Gives the best boxes of each image after NMS, and their numbers (N,).

        Does not wait for the device.

        Args:
            suppress: replaces the NMS operator.
        """
        boxes, scores, classes = found
        if not self.nms:
            return self._best_of_image(found)
        if self.in_original:
            original = torch.as_tensor(original_sizes, dtype=sizes.dtype)
            original = original.to(sizes.device, non_blocking=True)
            scale = (original / sizes).flip(1).repeat(1, 2)  # x, y, x, y
            boxes = boxes * scale[:, None]
        keep, counts = suppress(
            boxes,
            scores,
            classes,
            self.nms_threshold,
            self.convention,
            limit=self.detections_per_image,
        )
        chosen = _chosen(found, keep.clamp(min=0))
        if self.score_voting:
            kept, scores, classes = chosen
            chosen = score_vote(kept, classes, found, self.convention), scores, classes
        return chosen, counts

    def _present(self, boxes: Tensor, scores: Tensor, classes: Tensor) -> Detections:
        return Detections(boxes, scores, classes, self.convention)[scores > 0]

    def _best_of_image(self, found: Found) -> tuple[Found, Tensor]:
        """Gives the candidates with the highest scores. A prior may have several classes."""
        count = torch.sym_min(self.detections_per_image, found[1].shape[1])
        scores, keep = found[1].topk(count)
        return _chosen(found, keep), (scores > 0).sum(1)

    def _best(
        self, logits: Tensor, quality: Tensor | None, complete: bool
    ) -> tuple[Tensor, Tensor]:
        """Gives the best candidates of a level: scores and places in (P, C), (N, K) each.

        Sorts them by place, so that NMS takes the first prior of equal scores.
        """
        joint = self._scores(logits.sigmoid(), quality).flatten(1)
        most: Any = self.pre_nms_top_n * (_AT_FIRST if self.by_location else 1)
        if self.by_location and complete:
            most = (joint > 0).sum(1).max().item()
        best = joint.topk(torch.sym_min(most, joint.shape[1]), sorted=False).indices
        index = best.sort().values
        scores = joint.gather(1, index)
        return scores if quality is None else scores.sqrt(), index

    def _scores(self, classes: Tensor, quality: Tensor | None) -> Tensor:
        """Gives class score * quality of a level, (N, P, C); 0 for a pair that is no candidate."""
        scores = classes if quality is None else classes * quality.sigmoid()[..., None]
        chosen = classes > self.score_threshold
        if self.by_location:
            count = torch.sym_min(self.pre_nms_top_n, classes.shape[1])
            best = classes.amax(2).topk(count, sorted=False).indices
            among = torch.zeros_like(classes[..., 0], dtype=torch.bool).scatter_(1, best, True)
            chosen &= among[..., None]
        return torch.where(chosen, scores, 0.0)


def _chosen(found: Found, index: Tensor) -> Found:
    """Gives the candidates of each image at index (N, D)."""
    boxes, scores, classes = found
    corners = boxes.gather(1, index[..., None].expand(-1, -1, 4))
    return corners, scores.gather(1, index), classes.gather(1, index)


def _to_host(counts: Tensor, cut: list[Tensor]) -> tuple[list[int], list[int]]:
    """Copies both to the CPU with one wait for the device."""
    numbers = torch.cat((counts, *cut)).tolist()
    return numbers[: len(counts)], numbers[len(counts) :]
