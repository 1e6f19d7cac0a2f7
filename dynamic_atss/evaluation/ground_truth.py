"""Stores the annotations that box scoring needs, as columns."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynamic_atss.data.annotations import Annotations, read_annotations

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TruthTable:
    """Holds the A annotations of a data set as columns, sorted by image.

    Attributes:
        source: the name of the file in messages.
        images: dicts with `id`.
        categories: dicts with `id` and `name`, in the file's order.
        image_ids: (A,) int64.
        category_ids: (A,) int64.
        boxes: (A, 4) float64, x y w h in pixels.
        areas: (A,) float64, square pixels.
        crowd: (A,) bool, True for crowds and for VOC's difficult boxes.
    """

    source: str
    images: list[dict[str, Any]]
    categories: list[dict[str, Any]]
    image_ids: NDArray[np.int64]
    category_ids: NDArray[np.int64]
    boxes: NDArray[np.float64]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.boxes)


def load_truth(path: str | Path) -> TruthTable:
    """Reads the ground truth of a COCO annotation file by the same rules as a training set.

    Raises:
        UserError: as `read_annotations` does.
    """
    found = read_annotations(Path(path), need_boxes=False)
    for warning in found.warnings:
        _log.warning("%s: %s", path, warning)
    return truth_table(found, str(path))


def truth_table(found: Annotations, source: str) -> TruthTable:
    """Converts annotations to ground truth.

    Leaves out boxes that are not finite or have a negative side, and logs their number. Keeps boxes
    with a side of zero, as COCO does.

    Args:
        found: the annotations.
        source: their name in messages.
    """
    keep = np.isfinite(found.xywh).all(1) & (found.xywh[:, 2:] >= 0).all(1)
    if not keep.all():
        _log.warning("%s: %d annotations with an unusable box left out", source, (~keep).sum())
    pairs = zip(found.category_ids, found.class_names, strict=True)
    return TruthTable(
        source=source,
        images=[{"id": i} for i in found.image_ids.tolist()],
        categories=[{"id": i, "name": name} for i, name in pairs],
        image_ids=found.image_ids[found.image_index[keep]],
        category_ids=np.array(found.category_ids, np.int64)[found.classes[keep]],
        boxes=found.xywh[keep],
        areas=found.areas[keep],
        crowd=found.crowd[keep],
    )
