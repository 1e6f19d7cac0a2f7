"""The twelve COCO numbers, per-category AP, and how they are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNDEFINED = -1.0  # COCO's own mark: there is no ground truth that the number could speak of

COCO_CAPS = (1, 10, 100)  # detections of an image and a category that COCO counts

MOST_SHOWN = 20  # classes that a table in the log names; of more, so many of both ends:
_FEW = 5

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
VOC_METRICS = ("VOC_mAP", "VOC07_mAP")  # 2010 and later: area under the curve; 2007: eleven points


@dataclass(frozen=True)
class VocScores:
    """PASCAL VOC's AP at IoU 0.5 by category in [0, 1], -1 for one without ground truth.

    all_points: area under the curve, VOC 2010 and later · eleven_points: VOC 2007
    """

    all_points: dict[str, float]
    eleven_points: dict[str, float]

    @property
    def metrics(self) -> dict[str, float]:
        """The means over the categories that have ground truth."""
        values = (np.array([*aps.values()]) for aps in (self.all_points, self.eleven_points))
        return dict(zip(VOC_METRICS, map(_mean, values), strict=True))

    def to_json(self) -> dict[str, object]:
        """What `voc_metrics.json` holds: the means, and both AP of each category."""
        return {
            **self.metrics,
            "per_category": {
                name: {"AP": ap, "AP07": self.eleven_points[name]}
                for name, ap in self.all_points.items()
            },
        }

    def table(self) -> str:
        """A line for the mean and for each category: name, AP, eleven-point AP. Of many categories
        the highest and lowest AP."""
        mean, mean07 = self.metrics.values()
        rows, many = [("mean", mean, mean07)], len(self.all_points) > MOST_SHOWN
        shown = () if many else self.all_points.items()
        rows += [(shorten(n), ap, self.eleven_points[n]) for n, ap in shown]
        longest = max(len("category"), *(len(name) for name, *_ in rows))
        lines = [f"{name:<{longest}}{_cell(ap):>7}{_cell(ap07):>7}" for name, ap, ap07 in rows]
        rest = ["", *_extremes(self.all_points)] if many else []
        return "\n".join([f"{'category':<{longest}}{'AP':>7}{'AP07':>7}", *lines, *rest])


@dataclass(frozen=True)
class CocoScores:
    """COCO box scores in [0, 1], -1 where undefined.

    metrics: the names of `METRICS` in that order · per_category: category name -> AP, in the
    order of the annotation file · voc: PASCAL VOC's scores of the same results, if asked for ·
    max_dets: so many detections of an image and a category count, but in AR1, AR10 and AR100 ·
    at_100: where that is not COCO's 100, the twelve numbers with 100; `metrics` has one more, the
    AR with `max_dets`
    """

    metrics: dict[str, float]
    per_category: dict[str, float]
    voc: VocScores | None = None
    max_dets: int = COCO_CAPS[-1]
    at_100: dict[str, float] | None = None

    @property
    def numbers(self) -> dict[str, float]:
        """The twelve numbers, AP with COCO's cap where another holds, and VOC's if asked for."""
        other = {"AP@100": self.at_100["AP"]} if self.at_100 else {}
        return {**self.metrics, **other, **(self.voc.metrics if self.voc else {})}

    def to_json(self) -> dict[str, object]:
        """What `coco_metrics.json` holds: the twelve numbers and `per_category`; where `max_dets`
        is not COCO's 100, also it and the numbers with 100."""
        found = {**self.metrics, "per_category": self.per_category}
        if self.at_100 is None:
            return found
        return {**found, "max_dets": self.max_dets, "at_max_dets_100": self.at_100}

    def table(self, width: int = 100) -> str:
        """The twelve numbers, then the AP of each category, or of the highest and lowest of many;
        no line longer than `width` characters as long as one category fits into it. Undefined
        numbers read "-"."""
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
        # Read downwards, as in a newspaper: row r holds the entries r, r + rows, r + 2 rows ...
        return ["", heading, *(separator.join(pairs[r::rows]) for r in range(rows))]


def _rows(metrics: Mapping[str, float]) -> list[str]:
    names = "".join(f"{name:>7}" for name in metrics)
    return [names, "".join(f"{_cell(value):>7}" for value in metrics.values())]


def _extremes(aps: Mapping[str, float]) -> list[str]:
    """The categories with the highest and with the lowest AP, side by side."""
    ordered = sorted((n for n, ap in aps.items() if ap >= 0), key=lambda n: -aps[n])
    columns = ordered[:_FEW], ordered[_FEW:][-_FEW:]
    names = [[shorten(name) for name in column] for column in columns]
    longest = max(len("highest"), *(len(name) for column in names for name in column), 0)
    cells = [
        [f"{short:<{longest}}{_cell(aps[name]):>7}" for short, name in zip(*pair, strict=True)]
        for pair in zip(names, columns, strict=True)
    ]
    without = len(aps) - len(ordered)
    lines = [f"{len(aps)} categories" + (f", {without} without an object" if without else "")]
    lines += ["   ".join(f"{word:<{longest}}{'AP':>7}" for word in ("highest", "lowest"))]
    return lines + ["   ".join(pair) for pair in zip_longest(*cells, fillvalue="")]


def _cell(value: float) -> str:
    return "-" if value < 0 else f"{value:.3f}"


def shorten(name: str, longest: int = 40) -> str:
    """A name for a table or a picture."""
    return name if len(name) <= longest else name[: longest - 1] + "…"


def _mean(values: NDArray[np.float64]) -> float:
    """The mean of the defined entries, -1 when there is none, as COCO takes it."""
    defined = values[values > UNDEFINED]
    return float(np.mean(defined)) if defined.size else UNDEFINED


def all_caps(max_dets: int) -> list[int]:
    """COCO's caps and one's own, ascending: the last axis of the accumulated arrays."""
    return sorted({*COCO_CAPS, max_dets})


def scores_from_curves(
    precision: NDArray[np.float64],
    recall: NDArray[np.float64],
    categories: Sequence[Mapping[str, Any]],
    column_ids: Sequence[int],
    max_dets: int = COCO_CAPS[-1],
) -> CocoScores:
    """The scores of COCO's accumulated arrays.

    precision (10 IoUs, 101 recalls, K categories, 4 areas, caps) · recall (10, K, 4, caps), for
    the caps of `all_caps(max_dets)` · categories: the file's entries (`id`, `name`) · column_ids:
    the category id of each of the K
    """
    caps = all_caps(max_dets)

    def numbers(cap: int) -> dict[str, float]:
        def ap(area: int, iou: slice = slice(None)) -> float:
            return _mean(precision[iou, :, :, area, caps.index(cap)])

        def ar(area: int, cap: int) -> float:
            return _mean(recall[:, :, area, caps.index(cap)])

        values = (
            *(ap(0), ap(0, slice(0, 1)), ap(0, slice(5, 6)), ap(1), ap(2), ap(3)),
            *(ar(0, 1), ar(0, 10), ar(0, 100), ar(1, cap), ar(2, cap), ar(3, cap)),
        )
        own = {} if cap in COCO_CAPS else {f"AR{cap}": ar(0, cap)}
        return {**dict(zip(METRICS, values, strict=True)), **own}

    column, last = (
        {category_id: k for k, category_id in enumerate(column_ids)},
        caps.index(max_dets),
    )
    per_category = by_name(categories, lambda i: _mean(precision[:, :, column[i], 0, last]))
    at_100 = None if max_dets == 100 else numbers(100)
    return CocoScores(numbers(max_dets), per_category, max_dets=max_dets, at_100=at_100)


def by_name(
    categories: Sequence[Mapping[str, Any]], value: Callable[[int], float]
) -> dict[str, float]:
    """Values by category name; a name that several categories bear is completed by their ids."""
    names = [str(c.get("name", c["id"])) for c in categories]
    times = Counter(names)
    return {
        name if times[name] == 1 else f"{name}#{c['id']}": value(c["id"])
        for name, c in zip(names, categories, strict=True)
    }
