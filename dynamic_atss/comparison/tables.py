"""Writes the sections of a report, each as a text and a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from dynamic_atss.comparison.measures import Measures
from dynamic_atss.comparison.result import SCORES, Column, Comparison
from dynamic_atss.comparison.statistics import CONFIDENCE, Difference, Spread
from dynamic_atss.modeling.assignment_metrics import SIZES

NONE = "–"


class Section(NamedTuple):
    """Holds a section of a report.

    Attributes:
        key: the key of its plots in plots.PLOTS.
        title: its title.
        text: the text before the table.
        heads, rows: the texts of its table.
    """

    key: str
    title: str
    text: str
    heads: list[str]
    rows: list[list[str]]


def sections(found: Comparison) -> list[Section]:
    return [
        _scores(found),
        *([_differences(found)] if found.compared else []),
        _by_size(found, "positives", "Positives per box by its size", lambda m: m.positives, 1, ""),
        _by_size(
            found,
            "without",
            "Boxes without a positive by their size",
            lambda m: m.without,
            100,
            " %",
        ),
        _agreement(found),
        _training(found),
    ]


def _scores(found: Comparison) -> Section:
    rows = [
        [column.label, str(len(column.runs)), *(spread(column.spread(name)) for name in SCORES)]
        for column in found.columns
    ]
    text = (
        "COCO's scores on the test set: mean over the seeds ± standard deviation. APs, APm and APl "
        "count boxes with an annotated area below 32², from 32² to 96², and above 96² pixels."
    )
    if others := [column.label for column in found.columns if not found.comparable(column)]:
        text += f" These have another test set than {found.reference}: {', '.join(others)}."
    return Section("scores", "Scores", text, ["rule", "seeds", *SCORES], rows)


def _differences(found: Comparison) -> Section:
    rows = [
        [column.label, *(_cell(found.difference(column, name)) for name in SCORES)]
        for column in found.compared
    ]
    text = (
        f"Mean of the differences to {found.reference} with the same seed. Brackets show the "
        f"{100 * CONFIDENCE:.0f} % interval of that mean (Student's t over the seeds). * marks an "
        "interval that excludes 0. One seed has no interval."
    )
    return Section("differences", "Paired differences", text, ["rule", *SCORES], rows)


def _by_size(
    found: Comparison,
    key: str,
    title: str,
    values: Callable[[Measures], dict[str, float]],
    scale: float,
    unit: str,
) -> Section:
    means = {column.label: by_size(column, values) for column in found.columns}
    missing = [label for label, mean in means.items() if not mean]
    means = {label: mean for label, mean in means.items() if mean}
    sizes = [size for size in SIZES if any(size in mean for mean in means.values())]
    rows = [
        [label, *(f"{scale * mean[s]:.1f}{unit}" if s in mean else NONE for s in sizes)]
        for label, mean in means.items()
    ]
    note = f"Not recorded: {', '.join(missing)} (runs of an older version)." if missing else ""
    text = (
        "Mean over the training. The size is the square root of width x height, in pixels of the "
        "resized image."
    )
    text = f"{text} {note}".strip() if rows else note
    return Section(key, title, text, ["rule", *map(size_label, sizes)], rows)


def by_size(column: Column, values: Callable[[Measures], dict[str, float]]) -> dict[str, float]:
    """Averages each size over the runs that recorded it."""
    found = [values(run.measures) for run in column.runs.values()]
    by_run = {size: [of_run[size] for of_run in found if size in of_run] for size in SIZES}
    return {size: sum(numbers) / len(numbers) for size, numbers in by_run.items() if numbers}


def size_label(size: str) -> str:
    """Turns "8to16" into "8 to 16"."""
    if size.startswith("0to"):
        return f"below {size[3:]}"
    return f"from {size[:-2]}" if size.endswith("up") else size.replace("to", " to ")


def _agreement(found: Comparison) -> Section:
    names = ("pearson", "spearman", "pearson_matched", "spearman_matched")
    heads = ["Pearson", "Spearman", "Pearson, IoU ≥ 0.5", "Spearman, IoU ≥ 0.5"]
    rows = [
        [column.label, *(spread(column.spread(name)) for name in names), _counts(column)]
        for column in found.columns
    ]
    text = (
        "Correlation of score and IoU over the detections of the test. The IoU of a detection is "
        "its largest IoU with an object of its class in its image, 0 without such an object. "
        "Crowds are not objects. A detection with half of its area or more in a crowd is left "
        "out, unless it has an IoU of 0.5 with an object. The correlation over all detections "
        "rises when wrong detections get low scores. The correlation over those with an IoU of "
        "0.5 or more rises when better placed boxes get higher scores."
    )
    title = "Agreement of scores and IoUs"
    return Section("agreement", title, text, ["rule", *heads, "detections"], rows)


def _counts(column: Column) -> str:
    found = [r.agreement.detections for r in column.runs.values() if r.agreement]
    return f"{sum(found) / len(found):,.0f}" if found else NONE


def _training(found: Comparison) -> Section:
    rows = []
    for column in found.columns:
        memory = [r.measures.memory for r in column.runs.values() if r.measures.memory]
        rows.append(
            [
                column.label,
                spread(column.spread("positives"), digits=1),
                spread(column.spread("iou_of_positives")),
                spread(column.spread("seconds")),
                f"{max(memory):,.0f}" if memory else NONE,
            ]
        )
    text = (
        "Positives per image: mean over the training. IoU of positives: mean IoU of the positives' "
        "predicted boxes with the boxes that they learn, over the last quarter of the training. "
        "Seconds: median of an iteration, with the wait for data; runs at the same time slow each "
        "other down. Losses of different rules cannot be compared, because their labels and "
        "normalisers differ."
    )
    heads = ["rule", "positives per image", "IoU of positives", "s per iteration", "memory, MiB"]
    return Section("training", "Training and cost", text, heads, rows)


def spread(found: Spread | None, digits: int = 3) -> str:
    if found is None:
        return NONE
    mean = f"{found.mean:.{digits}f}".replace("-", "−")
    return mean + (f" ± {found.sd:.{digits}f}" if found.sd is not None else "")


def interval(found: Difference) -> str:
    mean = signed(found.mean)
    if found.low is None or found.high is None:
        return mean
    return f"{mean} [{signed(found.low)}, {signed(found.high)}]"


def _cell(found: Difference | None) -> str:
    if found is None:
        return NONE
    return interval(found) + (" *" if found.significant else "")


def signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")
