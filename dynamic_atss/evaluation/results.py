"""Converts detections and COCO results to one table, and back.

A table is (D, 7) float64: image id, x, y, w, h, score, category id. Ids are exact, because float64
holds every integer up to 2^53. Half a million detections take 28 MB. As dictionaries, they would
cost the garbage collector a second.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynamic_atss.errors import UserError
from dynamic_atss.types import Detections

_log = logging.getLogger(__name__)

Table = NDArray[np.float64]
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


def as_results(table: Table) -> list[dict[str, Any]]:
    """Converts the rows of a table to the COCO results format."""
    images, categories = (table[:, k].astype(np.int64).tolist() for k in (0, 6))
    columns = zip(images, categories, table[:, 1:5].tolist(), table[:, 5].tolist(), strict=True)
    return [
        {"image_id": image, "category_id": category, "bbox": box, "score": score}
        for image, category, box, score in columns
    ]


def result_table(results: Sequence[Mapping[str, Any]] | Table, source: str) -> Table:
    """Converts results in the COCO format to a table. Returns a table unchanged.

    Args:
        results: the results, or a table.
        source: their name in messages.

    Raises:
        UserError: if the results are not in this format.
    """
    if isinstance(results, np.ndarray):
        return results
    try:
        rows = [(r["image_id"], *r["bbox"], r["score"], r["category_id"]) for r in results]
        if any(len(row) != 7 for row in rows):
            raise ValueError("a bbox without exactly 4 numbers")
        table = np.array(rows, np.float64).reshape(-1, 7)
        if not np.isfinite(table).all():
            raise ValueError("a number that is not finite")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        need = "each entry needs image_id, category_id, bbox (4 numbers) and score"
        raise UserError(f"{source}: not in the COCO results format ({error!r}); {need}") from error
    return table
