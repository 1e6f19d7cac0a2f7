"""Converts COCO results to a table, and back. `detection_table` makes one of detections.

A table is (D, 7) float64: image id, x, y, w, h, score, category id. Ids are exact, because float64
holds every integer up to 2^53. Half a million detections take 28 MB. As dictionaries, they would
cost the garbage collector a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynamic_atss.errors import UserError

Table = NDArray[np.float64]


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
