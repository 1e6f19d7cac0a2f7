"""The HTML page of a report: its sections in the order in which one asks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dynamic_atss.evaluation.scores import shorten
from dynamic_atss.reports import confusion, curves
from dynamic_atss.reports.errors import KINDS, MEANINGS
from dynamic_atss.reports.matching import MIN_IOU
from dynamic_atss.reports.wording import Numbers, number
from dynamic_atss.viz import chart
from dynamic_atss.viz.chart import Line
from dynamic_atss.viz.html import breakable, folded, page, safe, table

MOST_CATEGORIES = 20  # that a table shows unfolded
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
    """numbers: as `report.json` has them · pictures: the sections with pictures"""
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
        f" Shown are the {len(shown)} of {len(names)} categories that are confused most."
        if names[len(shown) :]
        else ""
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
