"""All numbers of a report, as `report.json` holds them; the page shows these and no others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynamic_atss.evaluation.scores import CocoScores
from dynamic_atss.reports.errors import KINDS, Errors
from dynamic_atss.reports.matching import MIN_IOU, Matches
from dynamic_atss.reports.thresholds import Sweep, sweep

SIZES = ("small", "medium", "large")
BORDERS = (32**2, 96**2)  # square pixels
IOUS = {"AP50": 0, "AP75": 5}  # places on hotcoco's axis 0.5, 0.55, ..., 0.95
Numbers = dict[str, Any]


def sweep_of(matches: Matches, category: int | None = None) -> Sweep:
    """Of one category, or of all with one threshold."""
    chosen, boxes = matches.counted, matches.objects
    if category is not None:
        chosen = chosen & (matches.category == category)
        boxes = boxes & (matches.truth.category_ids == category)
    scores = matches.scores
    return sweep(scores[chosen & matches.right], scores[chosen & ~matches.right], int(boxes.sum()))


def numbers(errors: Errors, scores: CocoScores) -> Numbers:
    """errors: at the threshold at which the report counts them"""
    matches, threshold = errors.matches, errors.threshold
    names, whole = matches.names, sweep_of(matches)
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
        "best_threshold": whole.best,
        "at_threshold": whole.at(threshold),
        "by_threshold": _curve(whole),
        "precision_by_recall": _curves(matches, names),
        "per_category": _per_category(matches, names, threshold, calibration["per_category"]),
        "per_size": _per_size(errors, scores),
        "errors": _errors(errors, at),
        "calibration": {k: calibration[k] for k in ("ece", "mce", "bins", "num_detections")},
        "confusion": _confusion(at, names, len(matches.table)),
    }


def _curve(whole: Sweep) -> Numbers:
    """Each hundredth; None where undefined."""
    columns = {"precision": whole.precision, "recall": whole.recall, "f1": whole.f1}
    return {name: _listed(values[::10]) for name, values in columns.items()}


def _listed(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(v) or v < 0 else float(v) for v in values]


def mean_of(values: NDArray[np.float64]) -> float | None:
    """Of the defined ones; None without any."""
    known = values[values > -1]
    return float(known.mean()) if known.size else None


def _curves(matches: Matches, names: Sequence[str]) -> Numbers:
    """Precision at recall 0, 0.01, ..., 1: means over the categories, then at IoU 0.5 by category
    and by size."""
    array = np.asarray(matches.evaluation.eval["precision"])[..., -1]  # (10, 101, K, 4)

    def mean(values: NDArray[np.float64]) -> list[float | None]:
        known = np.where(values > -1, values, np.nan)
        count = (~np.isnan(known)).sum(-1)
        total = np.nansum(known, -1)
        return _listed(np.divide(total, count, out=np.full(101, np.nan), where=count > 0))

    every = array[..., 0].transpose(1, 0, 2).reshape(101, -1)
    return {
        "IoU 0.50:0.95": mean(every),
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
        one = sweep_of(matches, k)
        best = one.best
        by_size = {size: mean_of(array[:, :, k, a]) for a, size in enumerate(SIZES, 1)}
        rows[name] = {
            "objects": one.objects,
            "AP": mean_of(array[:, :, k, 0]),
            **{ap: mean_of(array[place, :, k, 0]) for ap, place in IOUS.items()},
            "AP_by_size": by_size,
            "at_threshold": one.at(threshold),
            "best": None if best is None else one.at(best),
            "ece": ece.get(str(k)),
        }
    return rows


def _per_size(errors: Errors, scores: CocoScores) -> Numbers:
    """Objects by the area of their annotation, false detections by that of their box."""
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
    """How many are in each size. An area on a border is in the larger; COCO counts it in both."""
    return np.bincount(np.digitize(areas, BORDERS), minlength=len(SIZES)).tolist()


def _defined(value: float) -> float | None:
    return None if value < 0 else value


def _errors(errors: Errors, at: Any) -> Numbers:
    """By kind of TIDE: how much AP50 gains if it is corrected, among all detections; how many
    there are, among all and at the threshold."""
    every = errors.matches.evaluation_at(-np.inf).tide_errors()
    counts = {kind: int((errors.kind == kind).sum()) for kind in KINDS}
    counts["Miss"] = at.tide_errors()["counts"]["Miss"]
    return {
        "AP50": every["ap_base"],
        "kinds": {
            kind: {
                "AP50_lost": every["delta_ap"][kind],
                "among_all": every["counts"][kind],
                "at_threshold": counts[kind],
            }
            for kind in KINDS
        },
        "AP50_lost_by_false": every["delta_ap"]["FP"],
        "AP50_lost_by_missed": every["delta_ap"]["FN"],
    }


def _confusion(at: Any, names: Sequence[str], detections: int) -> Numbers:
    """Rows: objects of a category, last: no object. Columns: detected as, last: not detected."""
    found = at.confusion_matrix(iou_thr=MIN_IOU, max_det=max(detections, 1))
    return {"categories": [*names], "matrix": found["matrix"].astype(int).tolist()}
