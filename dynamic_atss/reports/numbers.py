"""Computes all numbers of a report for `report.json`. The page shows only these numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynamic_atss.evaluation.scores import CocoScores
from dynamic_atss.reports.detection_matching import MIN_IOU, Matches
from dynamic_atss.reports.errors import KINDS, Errors
from dynamic_atss.reports.thresholds import Sweep, sweep

SIZES = ("small", "medium", "large")
BORDERS = (32**2, 96**2)  # square pixels
IOUS = {"AP50": 0, "AP75": 5}  # indices on hotcoco's axis 0.5, 0.55, ..., 0.95
Numbers = dict[str, Any]


def sweep_of(matches: Matches, category: int | None = None) -> Sweep:
    """Counts by threshold for one category, or for all categories with a common threshold.

    A `category` of None means all categories.
    """
    chosen, boxes = matches.counted, matches.objects
    if category is not None:
        chosen = chosen & (matches.category_index == category)
        boxes = boxes & (matches.truth.category_ids == category)
    scores = matches.scores
    return sweep(scores[chosen & matches.right], scores[chosen & ~matches.right], int(boxes.sum()))


def numbers(errors: Errors, scores: CocoScores) -> Numbers:
    """Computes the content of `report.json` for the errors at the chosen threshold."""
    matches, threshold = errors.matches, errors.threshold
    names, overall = matches.names, sweep_of(matches)
    at = matches.evaluation_at(threshold)
    calibration = matches.evaluation.calibration(n_bins=10, iou_threshold=MIN_IOU)
    return {
        "images": len(matches.image_ids),
        "objects": int(matches.objects.sum()),
        "regions_to_ignore": int(matches.truth.crowd.sum()),
        "detections": len(matches.table),
        "detections_counted": int(matches.counted.sum()),
        "lowest_score": float(matches.scores.min()) if len(matches.table) else None,
        "coco": scores.to_json(),
        **({"voc": scores.voc.to_json()} if scores.voc else {}),
        "f_scores": matches.evaluation.f_scores(),
        "best_threshold": overall.best,
        "at_threshold": overall.at(threshold),
        "by_threshold": _curve(overall),
        "precision_by_recall": _curves(matches, names),
        "per_category": _per_category(matches, names, threshold, calibration["per_category"]),
        "per_size": _per_size(errors, scores),
        "errors": _errors(errors, at),
        "calibration": {k: calibration[k] for k in ("ece", "mce", "bins", "num_detections")},
        "confusion": _confusion(at, names, len(matches.table)),
    }


def _curve(overall: Sweep) -> Numbers:
    """Returns the numbers at thresholds 0, 0.01, ..., 1. Undefined numbers are None."""
    columns = {"precision": overall.precision, "recall": overall.recall, "f1": overall.f1}
    return {name: _listed(values[::10]) for name, values in columns.items()}


def _listed(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(v) or v < 0 else float(v) for v in values]


def mean_of(values: NDArray[np.float64]) -> float | None:
    """Averages the defined values (above -1). Returns None if there are none."""
    known = values[values > -1]
    return float(known.mean()) if known.size else None


def _curves(matches: Matches, names: Sequence[str]) -> Numbers:
    """Returns precision at recall 0, 0.01, ..., 1.

    First come the means over the categories, then the curves at IoU 0.5 by category and by size.
    """
    array = np.asarray(matches.evaluation.eval["precision"])[..., -1]  # (10, 101, K, 4)

    def mean(values: NDArray[np.float64]) -> list[float | None]:
        known = np.where(values > -1, values, np.nan)
        count = (~np.isnan(known)).sum(-1)
        total = np.nansum(known, -1)
        return _listed(np.divide(total, count, out=np.full(101, np.nan), where=count > 0))

    all_ious = array[..., 0].transpose(1, 0, 2).reshape(101, -1)
    return {
        "IoU 0.50:0.95": mean(all_ious),
        "IoU 0.50": mean(array[0, :, :, 0]),
        "IoU 0.75": mean(array[5, :, :, 0]),
        "per_category": {name: _listed(array[0, :, k, 0]) for k, name in enumerate(names)},
        "per_size": {size: mean(array[0, :, :, a]) for a, size in enumerate(SIZES, 1)},
    }


def _per_category(
    matches: Matches, names: Sequence[str], threshold: float, ece: dict[str, float]
) -> Numbers:
    array = np.asarray(matches.evaluation.eval["precision"])[..., -1]
    rows = {}
    for k, name in enumerate(names):
        of_category = sweep_of(matches, k)
        best = of_category.best
        by_size = {size: mean_of(array[:, :, k, a]) for a, size in enumerate(SIZES, 1)}
        rows[name] = {
            "objects": of_category.objects,
            "AP": mean_of(array[:, :, k, 0]),
            **{ap: mean_of(array[place, :, k, 0]) for ap, place in IOUS.items()},
            "AP_by_size": by_size,
            "at_threshold": of_category.at(threshold),
            "best": None if best is None else of_category.at(best),
            "ece": ece.get(str(k)),
        }
    return rows


def _per_size(errors: Errors, scores: CocoScores) -> Numbers:
    """Counts objects by the area of their annotation, and false detections by that of their box."""
    matches = errors.matches
    of_boxes = matches.table[errors.false, 3] * matches.table[errors.false, 4]
    areas = matches.truth.areas
    counts = {
        "objects": _by_size(areas[matches.objects]),
        "found": _by_size(areas[errors.found]),
        "missed": _by_size(areas[errors.missed]),
        "false": _by_size(of_boxes),
    }
    return {
        size: {
            **{name: _defined(scores.metrics[f"{name}{size[0]}"]) for name in ("AP", "AR")},
            **{name: column[i] for name, column in counts.items()},
        }
        for i, size in enumerate(SIZES)
    }


def _by_size(areas: NDArray[np.float64]) -> list[int]:
    """Counts areas by size. Counts an area on a border as the larger size. COCO counts it twice."""
    return np.bincount(np.digitize(areas, BORDERS), minlength=len(SIZES)).tolist()


def _defined(value: float) -> float | None:
    return None if value < 0 else value


def _errors(errors: Errors, at: Any) -> Numbers:
    """Returns, for each kind of TIDE, the AP50 that it costs and the number of errors.

    The AP50 is that of all detections. The number is given for all detections and for those at the
    threshold.
    """
    at_any_score = errors.matches.evaluation_at(-np.inf).tide_errors()
    counts = {kind: int((errors.kind == kind).sum()) for kind in KINDS}
    counts["Miss"] = at.tide_errors()["counts"]["Miss"]
    return {
        "AP50": at_any_score["ap_base"],
        "kinds": {
            kind: {
                "AP50_lost": at_any_score["delta_ap"][kind],
                "among_all": at_any_score["counts"][kind],
                "at_threshold": counts[kind],
            }
            for kind in KINDS
        },
        "AP50_lost_by_false": at_any_score["delta_ap"]["FP"],
        "AP50_lost_by_missed": at_any_score["delta_ap"]["FN"],
    }


def _confusion(at: Any, names: Sequence[str], detections: int) -> Numbers:
    """Returns the confusion matrix (K + 1, K + 1).

    The row is the category of the object. The last row stands for no object. The column is the
    detected category. The last column stands for no detection.
    """
    found = at.confusion_matrix(iou_thr=MIN_IOU, max_det=max(detections, 1))
    return {"categories": [*names], "matrix": found["matrix"].astype(int).tolist()}
