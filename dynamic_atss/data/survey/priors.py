"""Boxes that no prior learns: the rule itself is asked, at the size that the training has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from dynamic_atss.data.crop import scale_boxes
from dynamic_atss.data.dataset import DetectionDataset
from dynamic_atss.data.survey.finding import Finding, share
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors

MOST_IMAGES = 500  # of a data set that are looked at, evenly spread: a second or two
_FEW = 0.01  # a share of the boxes below it is a note: every data set has some


@dataclass(frozen=True)
class Matching:
    """How a training matches priors to boxes.

    resize: (height, width) of an image -> that of the training · priors: (height, width) of the
    padded image -> `Priors` · assign: the rule · size: how messages call the training's size
    """

    resize: Callable[[int, int], tuple[int, int]]
    priors: Callable[[int, int], Priors]
    assign: Callable[[Priors, GroundTruth, Predictions], Assignment]
    size: str


def boxes_without_prior(dataset: DetectionDataset, matching: Matching) -> Iterator[Finding]:
    """Predictions are those of a network that starts: each prior's own box, all classes alike.

    A rule that goes by the predictions may choose others later, but it has the same candidates.
    """
    step = -(-len(dataset) // MOST_IMAGES) or 1
    looked = range(0, len(dataset), step)
    missed = [_missed(dataset, index, matching) for index in looked]
    count, total = sum(map(len, missed)), sum(len(dataset.ground_truth(i).objects) for i in looked)
    if not count:
        return
    index, widths = next((i, m) for i, m in zip(looked, missed, strict=True) if len(m))
    width, height = widths[0]
    images = f" in {len(looked):,} of {len(dataset):,} images" if step > 1 else ""
    yield Finding(
        *("warning" if count >= _FEW * total else "note", "no_prior", str(dataset.annotations)),
        count,
        f"{share(count, total, 'boxes')} ({count / total:.1%}){images} have no anchor or "
        f"point (prior) of the network that learns them {matching.size}, such as one of "
        f"{width:.1f} x {height:.1f} pixels there in {dataset.path(index).name!r}",
        "they are too small or covered by others: train at a larger size, or set "
        "MODEL.ASSIGNER.AT_LEAST_ONE True",
    )


def _missed(dataset: DetectionDataset, index: int, matching: Matching) -> np.ndarray:
    """(M, 2) width and height, at the training's size, of an image's boxes that no prior learns."""
    old = int(dataset.sizes[index][0]), int(dataset.sizes[index][1])
    new = matching.resize(*old)
    gt = scale_boxes(dataset.ground_truth(index).objects, old, new)
    if not len(gt):
        return np.zeros((0, 2))
    priors = matching.priors(*new)
    logits = torch.zeros(1, len(priors), len(dataset.class_names))
    assignment = matching.assign(priors, gt, Predictions(priors.boxes[None], logits))
    return gt.extent[~assignment.learnt(len(gt))].numpy() + gt.convention.value
