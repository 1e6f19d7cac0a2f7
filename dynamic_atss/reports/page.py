"""Builds the HTML page of a report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dynamic_atss.evaluation.scores import shorten
from dynamic_atss.reports import confusion, curves
from dynamic_atss.reports.detection_matching import MIN_IOU
from dynamic_atss.reports.errors import KINDS, MEANINGS
from dynamic_atss.reports.wording import Numbers, number
from dynamic_atss.viz import chart
from dynamic_atss.viz.chart import Line
from dynamic_atss.viz.html import breakable, folded, page, safe, table

MAX_CATEGORIES = 20  # a longer table is folded
_CSS = f"""nav a {{ margin-right: 1rem; white-space: nowrap; }}
.take {{ border-left: .4rem solid #2f6f9f; padding: .3rem .8rem; background: #f6f6f6; }}
.crops {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .8rem; }}
.crops img {{ width: 100%; height: 9rem; object-fit: contain; background: #eee; }}
.worst {{ display: grid; gap: 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)); }}
{chart.CSS}
{confusion.CSS}"""

Section = tuple[str, str]  # title, HTML


def report_page(numbers: Numbers, pictures: Sequence[Section]) -> str:
    """Returns the page of a report.

    Args:
        numbers: the content of `report.json`.
        pictures: the sections with pictures.
    """
    sections = [
        ("Scores", _scores(numbers)),
        ("Threshold", curves.by_threshold(numbers)),
        ("Precision and recall", curves.precision_recall(numbers)),
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


def _summary(numbers: Numbers) -> str:
    left_out = numbers["detections"] - numbers["detections_counted"]
    uncounted = f" ({left_out:,} on regions to ignore or above the limit)" if left_out else ""
    return (
        f"<p>{numbers['images']:,} images, {numbers['objects']:,} objects, "
        f"{numbers['regions_to_ignore']:,} regions to ignore, {numbers['detections']:,} detections"
        f"{uncounted}.</p><small>{breakable(numbers['annotations'])}</small>{_advice(numbers)}"
    )


def _advice(numbers: Numbers) -> str:
    at, best = numbers["at_threshold"], numbers["best_threshold"]
    if best is None:
        return (
            f'<p class="take">No detection finds an object of its class with IoU {MIN_IOU} or '
            f"more. Errors are counted at a score of {at['threshold']}.</p>"
        )
    return (
        f'<p class="take">Take the threshold <b>{best:g}</b>, which gives the highest F1 '
        f"({number(at['f1'])}). Detections with at least this score find {at['found']:,} of "
        f"{numbers['objects']:,} objects (recall {number(at['recall'])}), and {at['false']:,} "
        f"detections are false (precision {number(at['precision'])}). Errors on this page are "
        f"counted at this threshold and IoU {MIN_IOU}, unless a line says otherwise.</p>"
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


def _categories(rows: Numbers) -> str:
    heads = ["category", "objects", "AP", "AP50", "AP75", "found", "missed", "false"]
    heads += ["precision", "recall", "F1", "best threshold", "its F1", "ECE"]
    listed = table(heads, [[shorten(n), *map(number, _category(row))] for n, row in rows.items()])
    return listed if len(rows) <= MAX_CATEGORIES else folded(f"{len(rows)} categories", listed)


def _category(row: Numbers) -> list[float | int | None]:
    at, best = row["at_threshold"], row["best"] or {"threshold": None, "f1": None}
    scores = [row[key] for key in ("objects", "AP", "AP50", "AP75")]
    counts = [at[key] for key in ("found", "missed", "false", "precision", "recall", "f1")]
    return [*scores, *counts, best["threshold"], best["f1"], row["ece"]]


def _sizes(numbers: Numbers) -> str:
    keys, rows = ("objects", "AP", "AR", "found", "missed", "false"), numbers["per_size"]
    cells = [[size, *(number(row[key]) for key in keys)] for size, row in rows.items()]
    categories = numbers["per_category"]
    parts = [
        [shorten(name), *map(number, row["AP_by_size"].values())]
        for name, row in categories.items()
    ]
    return (
        "<p>COCO's sizes: small is below 32 x 32 pixels, large is 96 x 96 or more. Objects count "
        "by the area of their annotation, false detections by the area of their box.</p>"
        + table(["size", *keys], cells)
        + folded("AP by category and size", table(["category", *rows], parts))
    )


def _confusion(found: Numbers) -> str:
    names, matrix = [*map(shorten, found["categories"])], np.array(found["matrix"])
    shown = confusion.shown_categories(matrix)
    part = (
        f" The table shows the {len(shown)} most confused of {len(names)} categories."
        if names[len(shown) :]
        else ""
    )
    return (
        f"<p>Row: category of the object, none: a detection without an object. Column: detected "
        f"category, none: missed. Here a detection may match an object of any category. A darker "
        f"cell has a larger share of its row.{part}</p>{confusion.matrix_table(matrix, names)}"
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
        "<p>The kinds are those of TIDE (Bolya et al., 2020). AP50 lost: how much AP50, now "
        f"{number(errors['AP50'])}, would gain without the errors of the kind at any score. The "
        "gains do not add up.</p>"
        + table(["kind", "at the threshold", "at any score", "AP50 lost"], rows)
        + f"<ul>{meanings}</ul>"
    )


def _calibration(found: Numbers) -> str:
    bins = [tenth for tenth in found["bins"] if tenth["count"]]
    x, y = (np.array([tenth[key] for tenth in bins]) for key in ("avg_confidence", "avg_accuracy"))
    line = Line("a tenth of the scores", x, y, points=True)
    drawn = chart.chart("Reliability", [line], "mean score", "share right", diagonal=True)
    rows = [
        (
            f"{tenth['bin_lower']:.1f} to {tenth['bin_upper']:.1f}",
            *(number(tenth[key]) for key in ("count", "avg_confidence", "avg_accuracy")),
        )
        for tenth in bins
    ]
    listed = table(["scores", "detections", "mean score", "share right"], rows)
    return (
        f"<p>A score is calibrated if it equals the share of right detections (the dashed line). "
        f"Expected calibration error (ECE, the mean gap): {number(found['ece'])}. Largest gap "
        f"(MCE): {number(found['mce'])}. Both are over the {found['num_detections']:,} detections "
        f'that count.</p><div class="plots">{drawn}{listed}</div>'
    )
