"""Draws the charts of a report, which show numbers by threshold and precision by recall."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynamic_atss.evaluation.scores import shorten
from dynamic_atss.reports.wording import Numbers, number
from dynamic_atss.viz import chart
from dynamic_atss.viz.chart import Line
from dynamic_atss.viz.html import table

_HUNDREDTHS = np.arange(101) / 100


def by_threshold(numbers: Numbers) -> str:
    """Draws precision, recall and F1 by threshold, with advice on the choice of a threshold."""
    columns = numbers["by_threshold"]
    names = {"precision": "precision", "recall": "recall", "f1": "F1"}
    lines = [Line(names[key], _HUNDREDTHS, _array(values)) for key, values in columns.items()]
    lowest = numbers["lowest_score"]
    seen = f"The results hold no score below {lowest:.3f}. " if lowest and lowest > 0.01 else ""
    drawn = chart.chart("By threshold", lines, "score", "", mark=numbers["best_threshold"])
    f_scores = numbers["f_scores"]
    means = table([*f_scores], [[number(v) for v in f_scores.values()]])
    return (
        f'<div class="plots">{drawn}<div><p>{seen}The dashed line marks the threshold with the '
        "highest F1 over all categories. The table by category lists the best threshold of each. "
        "They are chosen on these images, so check them on others.</p><p>Mean over the categories "
        "of the highest F1 on COCO's 101 recalls, for IoU 0.50 to 0.95, 0.50 and 0.75:</p>"
        f"{means}</div></div>"
    )


def precision_recall(numbers: Numbers) -> str:
    """Draws precision by recall: means over the categories, single categories, and sizes."""
    curves = numbers["precision_by_recall"]
    means = {name: values for name, values in curves.items() if name.startswith("IoU")}
    shown, heading = _chosen(curves["per_category"], numbers["per_category"])
    charts = (
        ("Mean over categories", means),
        (f"IoU 0.50, {heading}", shown),
        ("IoU 0.50, by size", curves["per_size"]),
    )
    drawn = (
        chart.chart(
            title,
            [Line(shorten(n), _HUNDREDTHS, _array(values)) for n, values in lines.items()],
            "recall",
            "precision",
        )
        for title, lines in charts
    )
    return f'<div class="plots">{"".join(drawn)}</div>'


def _chosen(curves: Numbers, rows: Numbers) -> tuple[dict[str, Any], str]:
    """Chooses the curves of categories with objects. Returns them and a heading.

    If there are too many, keeps those with the highest and the lowest AP.
    """
    known = [name for name in curves if rows[name]["objects"]]
    if len(known) <= chart.MAX_LINES:
        return {name: curves[name] for name in known}, "by category"
    known.sort(key=lambda name: -(rows[name]["AP50"] or 0.0))
    half = chart.MAX_LINES // 2
    chosen = {name: curves[name] for name in known[:half] + known[-half:]}
    return chosen, f"the {half} highest and {half} lowest of {len(known)} categories"


def _array(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values])
