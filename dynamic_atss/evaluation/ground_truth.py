"""A COCO annotation file as columns, with everything that box scoring needs filled in."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynamic_atss.errors import UserError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TruthTable:
    """The A annotations of a file as columns, in the file's order.

    images: the file's entries, `id` (and size, if given) only · categories: the file's entries ·
    image_ids (A,) int64 · category_ids (A,) int64 · boxes (A, 4) float64, x y w h in pixels ·
    areas (A,) float64, square pixels · crowd (A,) bool
    """

    images: list[dict[str, Any]]
    categories: list[dict[str, Any]]
    image_ids: NDArray[np.int64]
    category_ids: NDArray[np.int64]
    boxes: NDArray[np.float64]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.boxes)


def load_json(path: str | Path) -> Any:
    """The content of a JSON file.

    Raises:
        UserError: the file is missing, unreadable or not JSON.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{path}: not a JSON file ({error}); write or copy it again") from error


def load_truth(path: str | Path) -> TruthTable:
    """The ground truth of a COCO annotation file.

    A missing `area` becomes w * h, a missing `iscrowd` 0. Boxes that are absent, not finite or of
    negative extent, and those of an image or category that the file does not list, are left out
    and counted in the log; boxes of zero extent stay, as they do in the COCO scores.

    Raises:
        UserError: the file is missing, not JSON, or lacks `images` or `categories`.
    """
    content = load_json(path)
    for key in ("images", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise UserError(f"{path}: no list '{key}'; a COCO annotation file is needed")
    annotations = content.get("annotations") or []
    try:
        table = _columns(content, annotations)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: not in the COCO format ({error!r}); mend that entry") from error
    return _sound(table, path)


def _columns(content: dict[str, Any], annotations: Sequence[dict[str, Any]]) -> TruthTable:
    boxes = np.array([_box(a.get("bbox")) for a in annotations], np.float64).reshape(-1, 4)
    areas = np.array([_number(a.get("area")) for a in annotations], np.float64)
    area_known = np.isfinite(areas)
    keep = ("id", "width", "height")
    return TruthTable(
        images=[{"id": i["id"], **{k: i[k] for k in keep if k in i}} for i in content["images"]],
        categories=[
            {"id": c["id"], "name": str(c.get("name", c["id"]))} for c in content["categories"]
        ],
        image_ids=np.array([a["image_id"] for a in annotations], np.int64),
        category_ids=np.array([a["category_id"] for a in annotations], np.int64),
        boxes=boxes,
        areas=np.where(area_known, areas, boxes[:, 2] * boxes[:, 3]),
        crowd=np.array([bool(a.get("iscrowd")) for a in annotations], np.bool_),
    )


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else float("nan")


def _box(value: Any) -> list[float]:
    whole = isinstance(value, Sequence) and len(value) == 4
    return [_number(v) for v in value] if whole else [float("nan")] * 4


def _sound(table: TruthTable, path: str | Path) -> TruthTable:
    """The table without rows that cannot be scored."""
    with np.errstate(invalid="ignore"):
        good_box = np.isfinite(table.boxes).all(1) & (table.boxes[:, 2:] >= 0).all(1)
    known = np.isin(table.image_ids, [i["id"] for i in table.images])
    known &= np.isin(table.category_ids, [c["id"] for c in table.categories])
    keep = good_box & known
    if keep.all():
        return table
    text = "%s: %d annotations with an unusable box and %d of an unknown image or category left out"
    _log.warning(text, path, (~good_box).sum(), (good_box & ~known).sum())
    return _rows(table, lambda column: column[keep])


def _rows(table: TruthTable, pick: Callable[[Any], Any]) -> TruthTable:
    columns = (table.image_ids, table.category_ids, table.boxes, table.areas, table.crowd)
    return TruthTable(table.images, table.categories, *map(pick, columns))
