"""Draws the plots of a report.

Rules differ by colour, marker and dashes, so that plots are readable without colour vision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from dynamic_atss.comparison.agreement import BINS
from dynamic_atss.comparison.measures import Curve, Measures, mean_curve
from dynamic_atss.comparison.names import short
from dynamic_atss.comparison.result import Column, Comparison
from dynamic_atss.comparison.tables import by_size, size_label
from dynamic_atss.modeling.assignment_metrics import SIZES
from dynamic_atss.viz import html
from dynamic_atss.viz.report import smooth

# Okabe and Ito (2008), without the yellow, which is too light for lines on white.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#333333", "#cc79a7", "#56b4e9", "#e69f00")
_MARKERS = "os^DvPX<>"
_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
_MAX_LOSSES = 6  # the sum, class, box, and the names of the quality branch by rule
_MAX_MARKS = 8  # on a curve

Draw = Callable[[Axes], None]


def plots_of(key: str, found: Comparison) -> str:
    """Draws the plots of a section as HTML."""
    labels = [column.label for column in found.columns]
    names = dict(zip(labels, short(labels), strict=True))
    columns = [column._replace(label=names[column.label]) for column in found.columns]
    drawn = found._replace(columns=columns, reference=names[found.reference])
    return "".join(_plot(title, draw, drawn) for title, draw in PLOTS[key](drawn.columns, drawn))


def _plot(title: str, draw: Draw, found: Comparison) -> str:
    def titled(axes: Axes) -> None:
        draw(axes)
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.25, linewidth=0.6)

    rows = -(-len(found.columns) // 2)
    return html.plot(title, titled, (5.2, 3.6 + 0.17 * rows))


def _style(place: int) -> dict[str, Any]:
    return {
        "color": _COLOURS[place % len(_COLOURS)],
        "marker": _MARKERS[place % len(_MARKERS)],
        "linestyle": _DASHES[place % len(_DASHES)],
        "markersize": 5,
        "linewidth": 1.4,
    }


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)


def _dots(columns: Sequence[Column], name: str, axes: Axes) -> None:
    """Draws a row for each rule: a ring for each seed, and the mean with the standard deviation."""
    for place, column in enumerate(columns):
        values = [*column.values(name).values()]
        style = _style(place) | {"linestyle": "none"}
        axes.plot(values, [place] * len(values), **(style | {"mfc": "none", "markersize": 7}))
        if found := column.spread(name):
            axes.errorbar(found.mean, place, xerr=found.sd or 0.0, capsize=3, **style)
    _rules(axes, columns)


def _rules(axes: Axes, columns: Sequence[Column]) -> None:
    """Labels the rows with the rules, from the top down."""
    axes.set_yticks(range(len(columns)), [column.label for column in columns], fontsize=8)
    axes.set_ylim(len(columns) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(5))


def _forest(found: Comparison, axes: Axes) -> None:
    shown = found.compared
    for row, column in enumerate(shown):
        difference = found.difference(column, "AP")
        if difference is None:
            continue
        style = _style(found.columns.index(column)) | {"linestyle": "none"}
        axes.plot([difference.mean], [row], **style)
        if difference.low is not None and difference.high is not None:
            axes.plot([difference.low, difference.high], [row, row], color=style["color"])
    axes.axvline(0, color=html.GREY, linestyle=":")
    _rules(axes, shown)


def _over(
    places: Sequence[str],
    values: Callable[[Column], dict[str, float]],
    columns: Sequence[Column],
    axes: Axes,
) -> None:
    """Draws a line for each rule over named places. Shifts the lines so that equal ones show."""
    for place, column in enumerate(columns):
        found = values(column)
        if not found:
            continue
        known = [i for i, name in enumerate(places) if name in found]
        shift = 0.3 * ((place + 0.5) / len(columns) - 0.5)
        style, label = _style(place), column.label
        y = [found[places[i]] for i in known]
        axes.plot([i + shift for i in known], y, label=label, **style)
    _legend(axes)


def _sizes(
    columns: Sequence[Column], values: Callable[[Measures], dict[str, float]], axes: Axes
) -> None:
    seen = [s for s in SIZES if any(s in by_size(column, values) for column in columns)]
    _over(seen, lambda column: by_size(column, values), columns, axes)
    axes.set_xticks(range(len(seen)), [size_label(size) for size in seen], fontsize=8)
    axes.set_xlabel("size of the box, pixels")


def _positives(columns: Sequence[Column], axes: Axes) -> None:
    _sizes(columns, lambda m: m.positives, axes)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("positives per box")


def _without(columns: Sequence[Column], axes: Axes) -> None:
    _sizes(columns, lambda m: m.without, axes)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:.0%}"))


def _scores_by_size(columns: Sequence[Column], axes: Axes) -> None:
    def means(column: Column) -> dict[str, float]:
        spreads = {name: column.spread(name) for name in ("APs", "APm", "APl")}
        return {name: found.mean for name, found in spreads.items() if found}

    seen = [n for n in ("APs", "APm", "APl") if any(n in means(column) for column in columns)]
    _over(seen, means, columns, axes)
    axes.set_xticks(range(len(seen)), seen)


def _by_score(columns: Sequence[Column], axes: Axes) -> None:
    """Draws the mean IoU of the detections in each bin of the score, over all seeds."""
    for place, column in enumerate(columns):
        found = [run.agreement for run in column.runs.values() if run.agreement]
        counts = np.array([of_run.counts for of_run in found]).reshape(-1, BINS)
        ious = np.array([[x or 0.0 for x in of_run.ious] for of_run in found]).reshape(-1, BINS)
        total = counts.sum(0)
        known = np.flatnonzero(total)
        mean = (counts * ious).sum(0)[known] / total[known]
        axes.plot((known + 0.5) / BINS, mean, label=column.label, **_style(place))
    axes.plot([0, 1], [0, 1], color=html.GREY, linestyle=":", linewidth=1)
    axes.set(xlabel="score", ylabel="mean IoU", xlim=(0, 1), ylim=(0, 1))
    _legend(axes)


def _curves(columns: Sequence[Column], values: Callable[[Measures], Curve], axes: Axes) -> None:
    """Draws the mean over the seeds by iteration, smoothed."""
    tops = []
    for place, column in enumerate(columns):
        found = mean_curve([values(run.measures) for run in column.runs.values()])
        if not found:
            continue
        x, y = np.array([*found]), smooth(np.array([*found.values()]), len(found) // 25 | 1)
        marks = max(1, len(x) // _MAX_MARKS)
        start = place * marks // len(columns)  # avoids marks on top of each other
        axes.plot(x, y, label=column.label, markevery=(start, marks), **_style(place))
        tops.append(np.percentile(y, 99))
    axes.set_ylim(0, 1.15 * max(tops, default=0.0) or None)  # cuts spikes off
    axes.set_xlabel("iteration")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    _legend(axes)


def _losses(columns: Sequence[Column], name: str, axes: Axes) -> None:
    _curves(columns, lambda measures: measures.losses.get(name, {}), axes)


Plots = list[tuple[str, Draw]]


def _of_scores(columns: Sequence[Column], found: Comparison) -> Plots:
    if not all(map(found.comparable, columns)):
        return []
    return [
        ("AP (rings: seeds; bars: standard deviation)", partial(_dots, columns, "AP")),
        ("AP by size", partial(_scores_by_size, columns)),
    ]


def _of_differences(columns: Sequence[Column], found: Comparison) -> Plots:
    title = f"AP, difference to {found.reference}"
    return [(title, partial(_forest, found))]


def _of_training(columns: Sequence[Column], found: Comparison) -> Plots:
    runs = [run.measures for column in columns for run in column.runs.values()]
    names = [*dict.fromkeys(name for measures in runs for name in measures.losses)][:_MAX_LOSSES]
    losses = [(name, partial(_losses, columns, name)) for name in names]
    return [
        ("IoU of positives", partial(_curves, columns, lambda m: m.overlap)),
        *losses,
        ("Seconds per iteration", partial(_dots, columns, "seconds")),
    ]


def _of_sizes(
    title: str,
    draw: Callable[[Sequence[Column], Axes], None],
    columns: Sequence[Column],
    found: Comparison,
) -> Plots:
    """Gives a plot by size of the boxes; none if no run recorded the positives."""
    known = any(by_size(column, lambda measures: measures.positives) for column in columns)
    return [(title, partial(draw, columns))] if known else []


PLOTS: dict[str, Callable[[Sequence[Column], Comparison], Plots]] = {
    "scores": _of_scores,
    "differences": _of_differences,
    "positives": partial(_of_sizes, "Positives per box", _positives),
    "without": partial(_of_sizes, "Boxes without a positive", _without),
    "settings": lambda columns, found: [],
    "agreement": lambda columns, found: [
        ("IoU by score (dotted: equal)", partial(_by_score, columns))
    ],
    "training": _of_training,
}
