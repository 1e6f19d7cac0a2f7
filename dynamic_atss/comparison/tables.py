"""The sections of a report: what each of them says in words and in a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from dynamic_atss.comparison.measures import Measures
from dynamic_atss.comparison.result import SCORES, Column, Comparison
from dynamic_atss.comparison.statistics import CONFIDENCE, Difference, Spread
from dynamic_atss.modeling.assignment_metrics import SIZES

NONE = "–"


class Section(NamedTuple):
    """key: by which plots.PLOTS has its plots · heads, rows: of its table, texts"""

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
            *(found, "without", "Boxes without a positive by their size", lambda m: m.without),
            *(100, " %"),
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
        "COCO's scores on the test set: the mean over the seeds ± their standard deviation. "
        "APs, APm, APl: of boxes below 32² pixels, up to 96², above, as the annotations measure."
    )
    if others := [column.label for column in found.columns if not found.comparable(column)]:
        text += f" Of another test set than {found.reference}: {', '.join(others)}."
    return Section("scores", "Scores", text, ["rule", "seeds", *SCORES], rows)


def _differences(found: Comparison) -> Section:
    rows = [
        [column.label, *(_cell(found.difference(column, name)) for name in SCORES)]
        for column in found.compared
    ]
    text = (
        f"Mean of the differences to {found.reference} with the same seed, and in brackets the "
        f"{100 * CONFIDENCE:.0f} % interval of that mean (Student's t over the seeds). * marks an "
        "interval without 0; one seed has none."
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
    missing = [label for label, of in means.items() if not of]
    means = {label: of for label, of in means.items() if of}
    sizes = [size for size in SIZES if any(size in of for of in means.values())]
    rows = [
        [label, *(f"{scale * of[s]:.1f}{unit}" if s in of else NONE for s in sizes)]
        for label, of in means.items()
    ]
    told = f"Not recorded: {', '.join(missing)} (runs of an older version)." if missing else ""
    text = (
        "Mean over the whole training. The size is the square root of width x height, in pixels "
        "as the network sees the box."
    )
    text = f"{text} {told}".strip() if rows else told
    return Section(key, title, text, ["rule", *map(size_label, sizes)], rows)


def by_size(column: Column, values: Callable[[Measures], dict[str, float]]) -> dict[str, float]:
    """The mean over the runs that have it."""
    found = [values(run.measures) for run in column.runs.values()]
    sums = {size: [one[size] for one in found if size in one] for size in SIZES}
    return {size: sum(some) / len(some) for size, some in sums.items() if some}


def size_label(size: str) -> str:
    """ "8to16" -> "8 to 16"."""
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
        "The correlation of score and IoU of the detections of the test. Each detection has the "
        "IoU with the object of its class in its image that it overlaps most, 0 without one. "
        "Crowds are no objects; a detection with half of its area or more in one is left out, "
        "unless it has an IoU of 0.5 with an object. Over all detections a rule gains by giving "
        "low scores to what is wrong; over those with an IoU of 0.5 or more, by ranking what is "
        "right by its place."
    )
    title = "Do scores tell how well boxes lie?"
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
        "Positives per image: mean of the whole training. IoU of positives: of predicted boxes "
        "with the boxes that they learn, mean of the last quarter of the training. Seconds: the "
        "median of an iteration, with the wait for data; runs beside each other, or other work, "
        "slow each other down. Losses of different rules have different labels and normalisers: "
        "their height cannot be compared."
    )
    heads = ["rule", "positives per image", "IoU of positives", "s per iteration", "memory, MiB"]
    return Section("training", "Training and cost", text, heads, rows)


def spread(found: Spread | None, digits: int = 3) -> str:
    if found is None:
        return NONE
    mean = f"{found.mean:.{digits}f}".replace("-", "−")
    return mean + (f" ± {found.sd:.{digits}f}" if found.sd is not None else "")


def interval(found: Difference) -> str:
    told = signed(found.mean)
    if found.low is None or found.high is None:
        return told
    return f"{told} [{signed(found.low)}, {signed(found.high)}]"


def _cell(found: Difference | None) -> str:
    if found is None:
        return NONE
    return interval(found) + (" *" if found.told else "")


def signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")
