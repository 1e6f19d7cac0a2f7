"""Converts detections of the network to a table of COCO results (`evaluation.results`)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from dynamic_atss.evaluation.results import Table
from dynamic_atss.types import Detections

_log = logging.getLogger(__name__)

Size = tuple[int, int]


def detection_table(
    detections: Mapping[int, Detections],
    *,
    sizes: Mapping[int, Size],
    original_sizes: Mapping[int, Size],
    category_ids: Sequence[int | None],
) -> Table:
    """Makes a table of the detections, sorted by image id.

    Scales boxes per axis from the resized image to the original, then converts them to (x, y, w,
    h). The sides of LEGACY boxes get one pixel more, as the releases write them. Clips nothing.
    Leaves out detections with numbers that are not finite, because JSON cannot hold them, and warns
    of it.

    Args:
        detections: image id -> detections.
        sizes, original_sizes: image id -> (height, width), of the resized image and of the file.
        category_ids: the COCO id of class c is category_ids[c]. Detections of a class with id None
            are left out.
    """
    ids = sorted(detections)
    if not ids:
        return np.zeros((0, 7))
    found = [detections[i] for i in ids]
    counts = [len(image) for image in found]
    ratios = np.array([_ratio(sizes[i], original_sizes[i]) for i in ids], np.float32)
    last_pixel = np.array([[image.convention.value] for image in found], np.float32).repeat(
        counts, 0
    )
    # float32, as the releases compute. numpy, because torch's threads cost more than so few rows.
    boxes = _joined([image.boxes for image in found]).float().numpy()
    with np.errstate(invalid="ignore", over="ignore"):  # non-finite rows are dropped below
        boxes = boxes * np.tile(ratios, 2).repeat(counts, axis=0)
        sides = boxes[:, 2:] - boxes[:, :2] + last_pixel
    scores = _joined([image.scores for image in found]).float().numpy()
    known_ids = np.array([np.nan if i is None else i for i in category_ids])
    categories = known_ids[_joined([image.classes for image in found]).numpy()]
    images = np.repeat(np.array(ids), counts)
    table = np.column_stack([images, boxes[:, :2], sides, scores, categories]).astype(np.float64)
    keep = np.isfinite(table[:, :6]).all(1)
    if not keep.all():
        dropped = int((~keep).sum())
        _log.warning("%d detections that are not finite (NaN or infinite) left out", dropped)
    return table[keep & ~np.isnan(categories)]


def _ratio(size: Size, original: Size) -> tuple[float, float]:
    """Returns the factors (x, y) from the resized image to the original."""
    (height, width), (full_height, full_width) = size, original
    return full_width / width, full_height / height


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Joins tensors on the host, with one copy from the device for all images."""
    return torch.cat(list(parts)).detach().cpu()
