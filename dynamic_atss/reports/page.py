"""The HTML page of a report: its sections in the order in which one asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynamic_atss.evaluation.scores import shorten
from dynamic_atss.reports import confusion
from dynamic_atss.reports.errors import KINDS, MEANINGS
from dynamic_atss.reports.matching import MIN_IOU
from dynamic_atss.viz import chart
from dynamic_atss.viz.chart import Line
from dynamic_atss.viz.html import breakable, folded, page, safe, table

MOST_CATEGORIES = 20  # that a table shows unfolded
_HUNDREDTHS = np.arange(101) / 100
_CSS = f"""nav a {{ margin-right: 1rem; white-space: nowrap; }}
.take {{ border-left: .4rem solid #2f6f9f; padding: .3rem .8rem; background: #f6f6f6; }}
.crops {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .8rem; }}
.crops img {{ width: 100%; height: 9rem; object-fit: contain; background: #eee; }}
.worst {{ display: grid; gap: 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)); }}
{chart.CSS}
{confusion.CSS}"""

Numbers = Mapping[str, Any]
Section = tuple[str, str]  # title, HTML


def report_page(numbers: Numbers, pictures: Sequence[Section]) -> str:
    """numbers: as `report.json` has them · pictures: the sections with pictures"""
    sections = [
        ("Scores", _scores(numbers)),
        ("Threshold", _threshold(numbers)),
        ("Precision and recall", _curves(numbers)),
        ("By category", _categories(numbers["per_category"])),
        ("By size", _sizes(numbers)),
        ("Confusion matrix", _confusion(numbers["confusion"])),
        ("Kinds of error", _errors(numbers)),
        ("Calibration", _calibration(numbers["calibration"])),
        *pictures,
    ]
    links = "".join(f'<a href="#s{i}">{safe(title)}</a>' for i, (title, _) in enumerate(sections))
    parts = [f'<h2 id="s{i}">{safe(t)}</h2>{body}' for i, (t, body) in enumerate(sections)]
    text = f"{_summary(numbers)}<nav>{links}</nav>{''.join(parts)}"
    return page(f"Report: {numbers['data_set']}", text, _CSS)


def number(value: float | int | None) -> str:
    """As text: counts in full, shares with three digits, "-" where undefined."""
    if value is None or value == -1:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _summary(numbers: Numbers) -> str:
    beyond = numbers["detections"] - numbers["detections_counted"]
    uncounted = f" ({beyond:,} of them on regions to ignore or beyond the limit)" if beyond else ""
    return (
        f"<p>{numbers['images']:,} images, {numbers['objects']:,} objects, "
        f"{numbers['regions_to_ignore']:,} regions to ignore, {numbers['detections']:,} detections"
        f"{uncounted}.</p><small>{breakable(numbers['annotations'])}</small>{_advice(numbers)}"
    )


def _advice(numbers: Numbers) -> str:
    at, best = numbers["at_threshold"], numbers["best_threshold"]
    if best is None:
        return (
            f'<p class="take">No object is found by a detection of its class with IoU {MIN_IOU} or '
            f"more. Errors are counted at a score of {at['threshold']}.</p>"
        )
    return (
        f'<p class="take">Take the threshold <b>{best:g}</b>: detections of at least this score '
        f"find {at['found']:,} of {numbers['objects']:,} objects (recall {number(at['recall'])}) "
        f"with {at['false']:,} false ones (precision {number(at['precision'])}); F1 is highest "
        f"there, {number(at['f1'])}. Below, errors are counted at this threshold and IoU {MIN_IOU} "
        "unless a line says otherwise.</p>"
    )


def _scores(numbers: Numbers) -> str:
    coco = {k: v for k, v in numbers["coco"].items() if isinstance(v, float)}
    parts = ["<h3>COCO</h3>", table([*coco], [[number(v) for v in coco.values()]])]
    if voc := numbers.get("voc"):
        means = {k: v for k, v in voc.items() if isinstance(v, float)}
        aps = voc["per_category"].items()
        rows = [(shorten(name), number(ap["AP"]), number(ap["AP07"])) for name, ap in aps]
        listed = table(["category", "AP", "AP07 (eleven points)"], rows)
        parts += ["<h3>PASCAL VOC</h3>", table([*means], [[number(v) for v in means.values()]])]
        parts.append(folded("VOC's AP of each category", listed))
    return "".join(parts)


def _threshold(numbers: Numbers) -> str:
    columns = numbers["by_threshold"]
    names = {"precision": "precision", "recall": "recall", "f1": "F1"}
    lines = [Line(names[key], _HUNDREDTHS, _array(values)) for key, values in columns.items()]
    lowest = numbers["lowest_score"]
    seen = f"The results hold no score below {lowest:.3f}. " if lowest and lowest > 0.01 else ""
    drawn = chart.chart("By threshold", lines, "score", "", mark=numbers["best_threshold"])
    f_scores = numbers["f_scores"]
    means = table([*f_scores], [[number(v) for v in f_scores.values()]])
    return (
        f'<div class="plots">{drawn}<div><p>{seen}The dashed line is the threshold with the '
        "highest F1 over all categories; the table by category has the best one of each. They are "
        "chosen on these images: check them on others.</p><p>The highest F1 of each category on "
        "COCO's 101 recalls, as a mean over the categories, for IoU 0.50 to 0.95, 0.50 and 0.75:"
        "</p>"
        f"{means}</div></div>"
    )


def _curves(numbers: Numbers) -> str:
    curves = numbers["precision_by_recall"]
    means = {name: values for name, values in curves.items() if name.startswith("IoU")}
    shown, heading = _some(curves["per_category"], numbers["per_category"])
    charts = (
        ("Mean over categories", means),
        (f"IoU 0.50, {heading}", shown),
        ("IoU 0.50, by size", curves["per_size"]),
    )
    drawn = (
        chart.chart(
            title,
            [Line(shorten(n), _HUNDREDTHS, _array(values)) for n, values in lines.items()],
            *("recall", "precision"),
        )
        for title, lines in charts
    )
    return f'<div class="plots">{"".join(drawn)}</div>'


def _some(curves: Numbers, rows: Numbers) -> tuple[dict[str, Any], str]:
    """Curves of the categories with objects, of many those with the highest and the lowest AP."""
    known = [name for name in curves if rows[name]["objects"]]
    if len(known) <= chart.MOST_LINES:
        return {name: curves[name] for name in known}, "by category"
    known.sort(key=lambda name: -(rows[name]["AP50"] or 0.0))
    half = chart.MOST_LINES // 2
    chosen = {name: curves[name] for name in known[:half] + known[-half:]}
    return chosen, f"the {half} highest and {half} lowest of {len(known)} categories"


def _array(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values])


def _categories(rows: Numbers) -> str:
    heads = ["category", "objects", "AP", "AP50", "AP75", "found", "missed", "false"]
    heads += ["precision", "recall", "F1", "best threshold", "its F1", "ECE"]
    listed = table(heads, [[shorten(n), *map(number, _category(row))] for n, row in rows.items()])
    return listed if len(rows) <= MOST_CATEGORIES else folded(f"{len(rows)} categories", listed)


def _category(row: Numbers) -> list[float | int | None]:
    at, best = row["at_threshold"], row["best"] or {"threshold": None, "f1": None}
    own = [row[key] for key in ("objects", "AP", "AP50", "AP75")]
    counts = [at[key] for key in ("found", "missed", "false", "precision", "recall", "f1")]
    return [*own, *counts, best["threshold"], best["f1"], row["ece"]]


def _sizes(numbers: Numbers) -> str:
    keys, rows = ("objects", "AP", "AR", "found", "missed", "false"), numbers["per_size"]
    cells = [[size, *(number(row[key]) for key in keys)] for size, row in rows.items()]
    categories = numbers["per_category"]
    parts = [
        [shorten(name), *map(number, row["AP_by_size"].values())]
        for name, row in categories.items()
    ]
    return (
        "<p>COCO's sizes: small, below 32 x 32 pixels; medium; large, from 96 x 96. An object's is "
        "that of its annotation, a false detection's that of its box.</p>"
        + table(["size", *keys], cells)
        + folded("AP by category and size", table(["category", *rows], parts))
    )


def _confusion(found: Numbers) -> str:
    names, matrix = [*map(shorten, found["categories"])], np.array(found["matrix"])
    shown = confusion.shown_categories(matrix)
    part = (
        f" The {len(shown)} of {len(names)} that are confused most." if names[len(shown) :] else ""
    )
    return (
        f"<p>Rows: what the object is; none: a detection without an object. Columns: what it is "
        f"detected as; none: missed. Here a detection may take an object of any category. The "
        f"shade is the share of the row.{part}</p>{confusion.matrix_table(matrix, names)}"
        f"{confusion.most_confused(matrix, names)}"
    )


def _errors(numbers: Numbers) -> str:
    errors = numbers["errors"]
    keys = ("at_threshold", "among_all", "AP50_lost")
    rows = [
        [f"{KINDS[kind]} ({kind})", *(number(row[key]) for key in keys)]
        for kind, row in errors["kinds"].items()
    ]
    rows += [["all false", "", "", number(errors["AP50_lost_by_false"])]]
    rows += [["all missed", "", "", number(errors["AP50_lost_by_missed"])]]
    meanings = "".join(f"<li>{KINDS[kind]}: {safe(text)}</li>" for kind, text in MEANINGS.items())
    return (
        "<p>The kinds of TIDE (Bolya et al., 2020). AP50 lost: what AP50, now "
        f"{number(errors['AP50'])}, would gain if all errors of the kind, at any score, were put "
        "right; the gains do not add up.</p>"
        + table(["kind", "at the threshold", "at any score", "AP50 lost"], rows)
        + f"<ul>{meanings}</ul>"
    )


def _calibration(found: Numbers) -> str:
    bins = [one for one in found["bins"] if one["count"]]
    x, y = (np.array([one[key] for one in bins]) for key in ("avg_confidence", "avg_accuracy"))
    line = Line("a tenth of the scores", x, y, points=True)
    drawn = chart.chart("Reliability", [line], "mean score", "share that is right", diagonal=True)
    rows = [
        (
            f"{one['bin_lower']:.1f} to {one['bin_upper']:.1f}",
            *(number(one[key]) for key in ("count", "avg_confidence", "avg_accuracy")),
        )
        for one in bins
    ]
    listed = table(["scores", "detections", "mean score", "share right"], rows)
    return (
        f"<p>A score is calibrated if it is the share of detections that are right (the dashed "
        f"line). Expected calibration error (ECE, the mean gap): {number(found['ece'])}; largest "
        f"gap (MCE): {number(found['mce'])}; over all {found['num_detections']:,} detections that "
        f'count.</p><div class="plots">{drawn}{listed}</div>'
    )
