"""Computes the twelve COCO numbers and AP per category, and formats them as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNDEFINED = -1.0  # COCO's value for a score without ground truth

COCO_CAPS = (1, 10, 100)  # COCO's limits of detections per image and category

MOST_SHOWN = 20  # largest number of classes that a table in the log lists
_FEW = 5  # number of best and of worst classes that it lists instead

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
VOC_METRICS = ("VOC_mAP", "VOC07_mAP")  # area under the curve (2010 and later); eleven points


@dataclass(frozen=True)
class VocScores:
    """Holds PASCAL VOC's AP at IoU 0.5 by category, in [0, 1].

    A category without ground truth has -1.

    Attributes:
        all_points: category name -> area under the curve (VOC 2010 and later).
        eleven_points: category name -> mean over eleven points (VOC 2007).
    """

    all_points: dict[str, float]
    eleven_points: dict[str, float]

    @property
    def metrics(self) -> dict[str, float]:
        """Returns the means over all categories that have ground truth."""
        values = (np.array([*aps.values()]) for aps in (self.all_points, self.eleven_points))
        return dict(zip(VOC_METRICS, map(_mean, values), strict=True))

    def to_json(self) -> dict[str, object]:
        """Returns the content of `voc_metrics.json`: the means, and both AP of each category."""
        return {
            **self.metrics,
            "per_category": {
                name: {"AP": ap, "AP07": self.eleven_points[name]}
                for name, ap in self.all_points.items()
            },
        }

    def table(self) -> str:
        """Formats name, AP and eleven-point AP of the mean and of each category.

        Shows only the highest and lowest AP of more than MOST_SHOWN categories.
        """
        mean, mean07 = self.metrics.values()
        rows, many = [("mean", mean, mean07)], len(self.all_points) > MOST_SHOWN
        shown = () if many else self.all_points.items()
        rows += [(shorten(n), ap, self.eleven_points[n]) for n, ap in shown]
        longest = max(len("category"), *(len(name) for name, *_ in rows))
        lines = [f"{name:<{longest}}{_cell(ap):>7}{_cell(ap07):>7}" for name, ap, ap07 in rows]
        extremes = ["", *_extremes(self.all_points)] if many else []
        return "\n".join([f"{'category':<{longest}}{'AP':>7}{'AP07':>7}", *lines, *extremes])


@dataclass(frozen=True)
class CocoScores:
    """Holds COCO box scores in [0, 1]. They are -1 where undefined.

    Attributes:
        metrics: name of `METRICS` -> score, in that order. There is AR with `max_dets`, too, if
            that is no limit of COCO.
        per_category: category name -> AP, in the order of the annotation file.
        voc: PASCAL VOC's scores of the same results, if requested.
        max_dets: number of detections per image and category that count (not in AR1, AR10, AR100).
        at_100: the twelve numbers with COCO's 100 detections, if `max_dets` is another number.
    """

    metrics: dict[str, float]
    per_category: dict[str, float]
    voc: VocScores | None = None
    max_dets: int = COCO_CAPS[-1]
    at_100: dict[str, float] | None = None

    @property
    def numbers(self) -> dict[str, float]:
        """Returns all scores by name.

        These are `metrics`, AP@100 if `max_dets` is another number, and VOC's.
        """
        ap_at_100 = {"AP@100": self.at_100["AP"]} if self.at_100 else {}
        return {**self.metrics, **ap_at_100, **(self.voc.metrics if self.voc else {})}

    def to_json(self) -> dict[str, object]:
        """Returns the content of `coco_metrics.json`: `metrics` and `per_category`.

        Adds `max_dets` and the numbers with 100 detections if `max_dets` is not 100.
        """
        content = {**self.metrics, "per_category": self.per_category}
        if self.at_100 is None:
            return content
        return {**content, "max_dets": self.max_dets, "at_max_dets_100": self.at_100}

    def table(self, width: int = 100) -> str:
        """Formats the twelve numbers and the AP of each category. Undefined numbers become "-".

        Shows only the highest and lowest AP of more than MOST_SHOWN categories. Lines have at most
        `width` characters, unless one category needs more.
        """
        lines = _rows(self.metrics)
        if self.at_100 is not None:
            heading = "at most {} detections of an image and a category:".format
            lines = [heading(self.max_dets), *lines, heading("COCO's 100"), *_rows(self.at_100)]
        return "\n".join([*lines, *self._category_lines(width)])

    def _category_lines(self, width: int) -> list[str]:
        if not self.per_category:
            return []
        if len(self.per_category) > MOST_SHOWN:
            return ["", *_extremes(self.per_category)]
        names = [shorten(name) for name in self.per_category]
        cells = [_cell(value) for value in self.per_category.values()]
        longest = max(8, *map(len, names))
        gap, cell_width = 3, longest + 7
        columns = max(1, min(len(names), (width + gap) // (cell_width + gap)))
        rows = -(-len(names) // columns)
        separator = " " * gap
        heading = separator.join([f"{'category':<{longest}}{'AP':>7}"] * -(-len(names) // rows))
        pairs = [f"{n:<{longest}}{c:>7}" for n, c in zip(names, cells, strict=True)]
        # Column by column: row r holds the entries r, r + rows, r + 2 rows, ...
        return ["", heading, *(separator.join(pairs[r::rows]) for r in range(rows))]


def _rows(metrics: Mapping[str, float]) -> list[str]:
    names = "".join(f"{name:>7}" for name in metrics)
    return [names, "".join(f"{_cell(value):>7}" for value in metrics.values())]


def _extremes(aps: Mapping[str, float]) -> list[str]:
    """Lists the categories with the highest and with the lowest AP, side by side."""
    ordered = sorted((n for n, ap in aps.items() if ap >= 0), key=lambda n: -aps[n])
    columns = ordered[:_FEW], ordered[_FEW:][-_FEW:]
    names = [[shorten(name) for name in column] for column in columns]
    longest = max(len("highest"), *(len(name) for column in names for name in column), 0)
    cells = [
        [f"{short:<{longest}}{_cell(aps[name]):>7}" for short, name in zip(*pair, strict=True)]
        for pair in zip(names, columns, strict=True)
    ]
    empty = len(aps) - len(ordered)
    lines = [f"{len(aps)} categories" + (f", {empty} without an object" if empty else "")]
    lines += ["   ".join(f"{word:<{longest}}{'AP':>7}" for word in ("highest", "lowest"))]
    return lines + ["   ".join(pair) for pair in zip_longest(*cells, fillvalue="")]


def _cell(value: float) -> str:
    return "-" if value < 0 else f"{value:.3f}"


def shorten(name: str, longest: int = 40) -> str:
    """Cuts a name to `longest` characters, for a table or a picture."""
    return name if len(name) <= longest else name[: longest - 1] + "…"


def _mean(values: NDArray[np.float64]) -> float:
    """Returns the mean of the defined entries. Returns -1 if there is none, as COCO does."""
    defined = values[values > UNDEFINED]
    return float(np.mean(defined)) if defined.size else UNDEFINED


def all_caps(max_dets: int) -> list[int]:
    """Returns COCO's limits and `max_dets`, ascending. They are the last axis of COCO's arrays."""
    return sorted({*COCO_CAPS, max_dets})


def scores_from_curves(
    precision: NDArray[np.float64],
    recall: NDArray[np.float64],
    categories: Sequence[Mapping[str, Any]],
    column_ids: Sequence[int],
    max_dets: int = COCO_CAPS[-1],
) -> CocoScores:
    """Computes the scores from COCO's accumulated arrays.

    Args:
        precision: (10, 101, K, 4, M). The axes are IoU thresholds, recalls, categories, ranges of
            areas, and the M limits of `all_caps(max_dets)`.
        recall: (10, K, 4, M).
        categories: the file's entries (`id`, `name`).
        column_ids: the K category ids.
        max_dets: see `CocoScores`.
    """
    caps = all_caps(max_dets)

    def numbers(cap: int) -> dict[str, float]:
        def ap(area: int, iou: slice = slice(None)) -> float:
            return _mean(precision[iou, :, :, area, caps.index(cap)])

        def ar(area: int, cap: int) -> float:
            return _mean(recall[:, :, area, caps.index(cap)])

        precisions = ap(0), ap(0, slice(0, 1)), ap(0, slice(5, 6)), ap(1), ap(2), ap(3)
        recalls = ar(0, 1), ar(0, 10), ar(0, 100), ar(1, cap), ar(2, cap), ar(3, cap)
        at_cap = {} if cap in COCO_CAPS else {f"AR{cap}": ar(0, cap)}
        return {**dict(zip(METRICS, precisions + recalls, strict=True)), **at_cap}

    column = {category_id: k for k, category_id in enumerate(column_ids)}
    cap = caps.index(max_dets)
    per_category = by_name(categories, lambda i: _mean(precision[:, :, column[i], 0, cap]))
    at_100 = None if max_dets == 100 else numbers(100)
    return CocoScores(numbers(max_dets), per_category, max_dets=max_dets, at_100=at_100)


def by_name(
    categories: Sequence[Mapping[str, Any]], value: Callable[[int], float]
) -> dict[str, float]:
    """Maps category names to `value(id)`. Adds the id to a name that several categories have."""
    names = [str(c.get("name", c["id"])) for c in categories]
    counts = Counter(names)
    return {
        name if counts[name] == 1 else f"{name}#{c['id']}": value(c["id"])
        for name, c in zip(names, categories, strict=True)
    }
