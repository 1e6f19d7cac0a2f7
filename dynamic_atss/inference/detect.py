"""Pictures -> detections, with the resize, padding, normalisation and post-processing of a test."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynamic_atss.builders.tta import build_test_model, build_test_resizes
from dynamic_atss.data.collate import collate
from dynamic_atss.data.samples import Sample
from dynamic_atss.evaluation.results import detection_table
from dynamic_atss.inference.restore import Restored
from dynamic_atss.types import Batch, Detections, GroundTruth, to_device

_NO_BOXES = torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0).long()


@dataclass(frozen=True)
class Rows:
    """Detections of one picture, best first: xywh (D, 4) float64 in its pixels, scores (D,)
    float32, labels (D,) int64."""

    xywh: NDArray[np.float64]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> Rows:
        return Rows(self.xywh[index], self.scores[index], self.labels[index])


class Detecting:
    """images (3, H, W) uint8 RGB -> `Rows` of each, as a test finds them.

    Pictures whose resized sizes are the same share a batch: none is padded for another, so what is
    found in a picture does not depend on its neighbours.
    """

    def __init__(self, restored: Restored) -> None:
        cfg = restored.cfg
        self.model = build_test_model(cfg, restored.detector).eval()
        self.resizes = build_test_resizes(cfg)
        self.divisibility = cfg.DATALOADER.SIZE_DIVISIBILITY
        self.classes, self.device = len(restored.class_names), restored.device

    def __call__(self, images: Sequence[Tensor]) -> list[Rows]:
        views = [self._views(image, number) for number, image in enumerate(images)]
        alike: dict[tuple[int, ...], list[list[Sample]]] = defaultdict(list)
        for samples in views:
            alike[tuple(side for s in samples for side in s.image.shape[1:])].append(samples)
        found: dict[int, Rows] = {}
        for group in alike.values():
            found |= self._batch(group)
        return [found[number] for number in range(len(images))]

    def _views(self, image: Tensor, number: int) -> list[Sample]:
        """The picture at each size of the test."""
        gt, rng = GroundTruth(*_NO_BOXES), np.random.default_rng(0)
        size = (image.shape[1], image.shape[2])
        return [Sample(resize(image, gt, rng)[0], gt, number, size) for resize in self.resizes]

    @torch.inference_mode()
    def _batch(self, group: Sequence[Sequence[Sample]]) -> dict[int, Rows]:
        first, *others = (collate(view, self.divisibility) for view in zip(*group, strict=True))
        batch = to_device(replace(first, scaled=tuple(others)), self.device)
        detections = self.model(batch)
        return {
            number: self._rows(batch, place, detections[place])
            for place, number in enumerate(batch.image_ids)
        }

    def _rows(self, batch: Batch, place: int, found: Detections) -> Rows:
        height, width = batch.sizes[place].tolist()
        table = detection_table(
            {0: found},
            sizes={0: (height, width)},
            original_sizes={0: batch.original_sizes[place]},
            category_ids=range(self.classes),
        )
        return Rows(table[:, 1:5], table[:, 5].astype(np.float32), table[:, 6].astype(np.int64))
