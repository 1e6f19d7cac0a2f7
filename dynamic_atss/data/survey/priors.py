"""Finds boxes that no prior learns. Runs the assignment rule at the training's size for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from dynamic_atss.data.crop import scale_boxes
from dynamic_atss.data.dataset import DetectionDataset
from dynamic_atss.data.survey.finding import Finding, share
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors

MOST_IMAGES = 500  # limit of images, which are spread evenly and take a second or two
_FEW = 0.01  # share of boxes below which the finding is a note; every data set has some


@dataclass(frozen=True)
class Matching:
    """Describes how a training matches priors to boxes.

    Attributes:
        resize: function from the (height, width) of an image to its size in the training.
        priors: function from the (height, width) of the padded image to `Priors`.
        assign: the assignment rule.
        size: the training's size, in words for messages.
    """

    resize: Callable[[int, int], tuple[int, int]]
    priors: Callable[[int, int], Priors]
    assign: Callable[[Priors, GroundTruth, Predictions], Assignment]
    size: str


def boxes_without_prior(dataset: DetectionDataset, matching: Matching) -> Iterator[Finding]:
    """Finds boxes that get no prior, for the predictions of an untrained network.

    Each prior predicts its box and equal class scores. A rule that uses predictions may choose
    other priors later, but from the same candidates.
    """
    step = -(-len(dataset) // MOST_IMAGES) or 1
    sample = range(0, len(dataset), step)
    missed = [_missed(dataset, index, matching) for index in sample]
    count, total = sum(map(len, missed)), sum(len(dataset.ground_truth(i).objects) for i in sample)
    if not count:
        return
    index, sizes = next((i, m) for i, m in zip(sample, missed, strict=True) if len(m))
    width, height = sizes[0]
    images = f" in {len(sample):,} of {len(dataset):,} images" if step > 1 else ""
    yield Finding(
        "warning" if count >= _FEW * total else "note",
        "no_prior",
        str(dataset.annotations),
        count,
        f"{share(count, total, 'boxes')} ({count / total:.1%}){images} have no anchor or "
        f"point (prior) of the network that learns them {matching.size}, such as a box of "
        f"{width:.1f} x {height:.1f} pixels in {dataset.path(index).name!r}",
        "they are too small or covered by others: train at a larger size, or set "
        "MODEL.ASSIGNER.AT_LEAST_ONE True",
    )


def _missed(dataset: DetectionDataset, index: int, matching: Matching) -> np.ndarray:
    """Returns (M, 2) width, height of an image's boxes without a prior, at the training's size."""
    old = int(dataset.sizes[index][0]), int(dataset.sizes[index][1])
    new = matching.resize(*old)
    gt = scale_boxes(dataset.ground_truth(index).objects, old, new)
    if not len(gt):
        return np.zeros((0, 2))
    priors = matching.priors(*new)
    logits = torch.zeros(1, len(priors), len(dataset.class_names))
    assignment = matching.assign(priors, gt, Predictions(priors.boxes[None], logits))
    return gt.extent[~assignment.learnt(len(gt))].numpy() + gt.convention.value
