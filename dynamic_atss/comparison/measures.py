"""Computes assignment, losses and cost of a run from the lines of its metrics.jsonl."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dynamic_atss.modeling.assignment_metrics import SIZES

Lines = Sequence[Mapping[str, Any]]
Curve = dict[int, float]  # by iteration

_PARTS = 4  # the last quarter of the iterations is the end of a training


class Measures(NamedTuple):
    """Holds the measures of one training.

    Attributes:
        positives: mean number of positives per box, by size of the box.
        without: share of the boxes without a positive, by size of the box. Like `positives` it
            omits sizes without boxes, and is {} where nothing was recorded.
        per_image: mean number of positives per image.
        overlap: mean IoU of the positives' predicted boxes, by iteration.
        overlap_at_end: mean of `overlap` over the last quarter of the training.
        losses: by name and iteration.
        seconds: median duration of an iteration, with the wait for data.
        memory: peak in MiB.
    """

    positives: dict[str, float]
    without: dict[str, float]
    per_image: float | None
    overlap: Curve
    overlap_at_end: float | None
    losses: dict[str, Curve]
    seconds: float | None
    memory: float | None


def measures(lines: Lines) -> Measures:
    """Computes the measures of one training."""
    boxes, positives, missed = (
        {size: _total(lines, f"{name}_{size}") for size in SIZES}
        for name in ("boxes", "positives", "boxes_without_positive")
    )
    seen = [size for size in SIZES if boxes[size]]
    overlap = curve(lines, "iou_of_positives")
    return Measures(
        positives={size: positives[size] / boxes[size] for size in seen},
        without={size: missed[size] / boxes[size] for size in seen},
        per_image=_per_image(lines),
        overlap=overlap,
        overlap_at_end=_at_end(overlap),
        losses={name: curve(lines, name) for name in _losses(lines)},
        seconds=_seconds(lines),
        memory=max((line["max_mem_mb"] for line in lines if line.get("max_mem_mb")), default=None),
    )


def curve(lines: Lines, name: str) -> Curve:
    """Gives the values of a name by iteration.

    A head with branches gives those of the first branch that has the name.
    """
    found = [(line["iteration"], _value(line, name)) for line in lines]
    return {iteration: value for iteration, value in found if value is not None}


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Averages several runs at the iterations that all of them have."""
    shared = [i for i in curves[0] if all(i in other for other in curves)] if curves else []
    return {i: statistics.fmean(curve[i] for curve in curves) for i in shared}


def _value(line: Mapping[str, Any], name: str) -> float | None:
    if name in line:
        return line[name]
    return next((value for key, value in line.items() if key.endswith(f"/{name}")), None)


def _total(lines: Lines, name: str) -> float:
    """Sums a value over all iterations. Each line holds the mean since the previous line."""
    total, before = 0.0, 0
    for line in lines:
        total += (_value(line, name) or 0.0) * (line["iteration"] - before)
        before = line["iteration"]
    return total


def _per_image(lines: Lines) -> float | None:
    last = max((line["iteration"] for line in lines), default=0)
    return _total(lines, "positives") / last if curve(lines, "positives") else None


def _at_end(values: Curve) -> float | None:
    last = max(values, default=0)
    end = [x for iteration, x in values.items() if iteration > last * (1 - 1 / _PARTS)]
    return statistics.fmean(end) if end else None


def _losses(lines: Lines) -> list[str]:
    """Gives "loss", then its terms in the order of the file."""
    names = dict.fromkeys(name for line in lines for name in line)
    return [n for n in names if n == "loss" or n.rpartition("/")[2].startswith("loss_")]


def _seconds(lines: Lines) -> float | None:
    """Gives the median time. Leaves out the first line, which includes the start-up."""
    times = [line["time"] for line in lines if line.get("time")]
    return statistics.median(times[1:] or times) if times else None
