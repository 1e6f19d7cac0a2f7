"""Detects objects in pictures, with the resize, padding and post-processing of a test."""

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
from dynamic_atss.evaluation.detection_table import detection_table
from dynamic_atss.inference.restore import Restored
from dynamic_atss.types import Batch, Detections, GroundTruth, to_device

_NO_BOXES = torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0).long()


@dataclass(frozen=True)
class Rows:
    """Holds the detections of one picture, best first.

    Attributes:
        xywh: (D, 4) float64 in pixels of the picture.
        scores: (D,) float32.
        labels: (D,) int64.
    """

    xywh: NDArray[np.float64]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> Rows:
        return Rows(self.xywh[index], self.scores[index], self.labels[index])


class PictureDetector:
    """Takes images (3, H, W) uint8 RGB and returns the `Rows` of each, as a test detects them.

    Only pictures of equal resized sizes share a batch. No picture is padded for another one, so its
    detections do not depend on the others.
    """

    def __init__(self, restored: Restored) -> None:
        cfg = restored.cfg
        self.model = build_test_model(cfg, restored.detector).eval()
        self.resizes = build_test_resizes(cfg)
        self.divisibility = cfg.DATALOADER.SIZE_DIVISIBILITY
        self.classes, self.device = len(restored.class_names), restored.device

    def __call__(self, images: Sequence[Tensor]) -> list[Rows]:
        groups: dict[tuple[int, ...], list[list[Sample]]] = defaultdict(list)
        for index, image in enumerate(images):
            samples = self._resized(image, index)
            groups[tuple(side for s in samples for side in s.image.shape[1:])].append(samples)
        rows: dict[int, Rows] = {}
        for group in groups.values():
            rows |= self._batch(group)
        return [rows[index] for index in range(len(images))]

    def _resized(self, image: Tensor, index: int) -> list[Sample]:
        """Resizes the picture to each size of the test."""
        gt, rng = GroundTruth(*_NO_BOXES), np.random.default_rng(0)
        size = (image.shape[1], image.shape[2])
        return [Sample(resize(image, gt, rng)[0], gt, index, size) for resize in self.resizes]

    @torch.inference_mode()
    def _batch(self, group: Sequence[Sequence[Sample]]) -> dict[int, Rows]:
        first, *others = (
            collate(samples, self.divisibility) for samples in zip(*group, strict=True)
        )
        batch = to_device(replace(first, scaled=tuple(others)), self.device)
        detections = self.model(batch)
        return {
            index: self._rows(batch, row, detections[row])
            for row, index in enumerate(batch.image_ids)
        }

    def _rows(self, batch: Batch, row: int, detections: Detections) -> Rows:
        height, width = batch.sizes[row].tolist()
        table = detection_table(
            {0: detections},
            sizes={0: (height, width)},
            original_sizes={0: batch.original_sizes[row]},
            category_ids=range(self.classes),
        )
        return Rows(table[:, 1:5], table[:, 5].astype(np.float32), table[:, 6].astype(np.int64))
