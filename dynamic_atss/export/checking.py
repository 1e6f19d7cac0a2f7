"""Compares an exported file with the detector in PyTorch on the same pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dynamic_atss.builders.tta import build_test_resizes
from dynamic_atss.data.loader import collate
from dynamic_atss.data.samples import Sample
from dynamic_atss.errors import UserError
from dynamic_atss.inference.restore import Restored
from dynamic_atss.types import Batch, GroundTruth, to_device

BOX, SCORE = 0.1, 1e-4  # largest accepted differences of boxes in pixels, and of scores


@dataclass(frozen=True)
class Row:
    """Holds detections of one picture on the CPU: boxes (D, 4) xyxy, scores (D,), classes (D,)."""

    boxes: Tensor
    scores: Tensor
    classes: Tensor


@dataclass(frozen=True)
class Difference:
    """Describes the difference of two sets of detections.

    Attributes:
        box, score: largest differences, boxes in pixels.
        unmatched: number of detections in only one of the sets.
        count: number of detections in both sets.
    """

    box: float = 0.0
    score: float = 0.0
    unmatched: int = 0
    count: int = 0

    def __add__(self, other: Difference) -> Difference:
        return Difference(
            max(self.box, other.box),
            max(self.score, other.score),
            self.unmatched + other.unmatched,
            self.count + other.count,
        )


def check(
    run: Callable[..., Sequence[Tensor]], restored: Restored, images: Sequence[Tensor]
) -> Difference:
    """Gives the largest difference over pictures (3, H, W), each alone and then three in a batch.

    Raises:
        UserError: the difference is too large, or nothing is found in any picture.
    """
    total = Difference()
    for batch in _batches(restored, images):
        total = total + _of_batch(run, restored, batch)
    if total.unmatched or not (total.box <= BOX and total.score <= SCORE):
        raise UserError(
            f"the exported model differs from PyTorch on {len(images)} pictures: "
            f"{total.unmatched} detections have no match, boxes differ by up to "
            f"{total.box:.3g} pixels and scores by {total.score:.2g}; no file is written; try "
            "another --format"
        )
    if not total.count:
        raise UserError(
            f"no object is found in {len(images)} pictures, so that the exported model cannot be "
            "compared with PyTorch; no file is written; give pictures with objects by "
            "--check-images, or train longer"
        )
    return total


def _batches(restored: Restored, images: Sequence[Tensor]) -> Iterator[Batch]:
    for image in images:
        yield batch_of(restored, [image])
    three = [images[k % len(images)] for k in range(3)]
    # One picture is cut, so that sizes differ even if all pictures are equally large.
    yield batch_of(restored, [three[0], three[1][:, : -(three[1].shape[1] // 4)], three[2]])


def batch_of(restored: Restored, images: Sequence[Tensor]) -> Batch:
    """Resizes and pads pictures (3, H, W) uint8 RGB as a test does, on the detector's device."""
    cfg, none = restored.cfg, torch.zeros(0)
    gt, rng = GroundTruth(none.view(0, 4), none.long(), none.long()), np.random.default_rng(0)
    resize = build_test_resizes(cfg)[0]
    samples = [
        Sample(resize(image, gt, rng)[0], gt, k, (image.shape[1], image.shape[2]))
        for k, image in enumerate(images)
    ]
    return to_device(collate(samples, cfg.DATALOADER.SIZE_DIVISIBILITY), restored.device)


def inputs_of(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Gives the inputs of an exported model."""
    original = torch.tensor(batch.original_sizes, device=batch.images.device)
    return batch.images.contiguous(), batch.sizes, original


def _of_batch(run: Callable[..., Sequence[Tensor]], restored: Restored, batch: Batch) -> Difference:
    inputs = inputs_of(batch)
    with torch.inference_mode():
        detections = restored.detector(batch)
    with torch.no_grad():
        boxes, scores, classes, counts = (x.cpu() for x in run(*inputs))
    total = Difference()
    for n, found in enumerate(detections):
        ratio = (inputs[2][n] / batch.sizes[n]).flip(0).repeat(2)
        moved = found.boxes * ratio
        moved[:, 2:] += found.convention.value
        wanted = Row(moved.cpu(), found.scores.cpu(), found.classes.cpu())
        filled = slice(0, int(counts[n]))
        got = Row(boxes[n, filled], scores[n, filled], classes[n, filled])
        total = total + compare(got, wanted, boxes.shape[1])
    return total


def compare(a: Row, b: Row, rows: int) -> Difference:
    """Compares detections.

    Args:
        rows: maximum number per picture. If all rows are filled, rounding decides which detections
            come last. Then unmatched ones of the lowest score are accepted.
    """
    least = max((float(x.scores.min()) for x in (a, b) if len(x.scores) == rows), default=0.0)
    there, back = _one_way(a, b, least + SCORE), _one_way(b, a, least + SCORE)
    return Difference(there.box, there.score, there.unmatched + back.unmatched, there.count)


def _one_way(a: Row, b: Row, edge: float) -> Difference:
    if not len(a.scores) or not len(b.scores):
        return Difference(unmatched=int((a.scores > edge).sum()))
    distance = (a.boxes[:, None] - b.boxes).abs().amax(2)
    other = (a.classes[:, None] != b.classes) | ((a.scores[:, None] - b.scores).abs() > SCORE)
    box, place = distance.masked_fill(other, float("inf")).min(1)
    both = box <= BOX
    score = (a.scores - b.scores[place]).abs()[both]
    lost = int((~both & (a.scores > edge)).sum())
    if not both.any():
        return Difference(unmatched=lost)
    return Difference(float(box[both].max()), float(score.max()), lost, int(both.sum()))
