"""Builds an HTML page about data sets, with findings and plots of classes, sizes and shapes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from dynamic_atss.data.check.balance import numbers
from dynamic_atss.data.survey import LEVELS, Finding, SurveyInput, several
from dynamic_atss.viz.html import BLUE, GREY, breakable, folded, page, plot, safe

_MAX_CLASSES = 25  # classes that a plot names
_MIN_ROWS = 8  # keeps the bar of a single class thin
_MAX_ITEMS = 200  # files of a finding that the page lists
_MEANING = {
    "stop": "blocks training and test",
    "fix": "readable, but wrong",
    "warning": "possibly wrong, check it",
    "note": "for information",
}

_CSS = """ul { list-style: none; padding: 0; }
li { border-left: .4rem solid; padding: .3rem .8rem; margin: .6rem 0; background: #f6f6f6; }
.stop, .fix { border-color: #b3261e; } .warning { border-color: #c77700; }
.note { border-color: #5f7f95; } b { text-transform: uppercase; font-size: .8rem; }"""


def dataset_page(sets: Iterable[tuple[str, SurveyInput]], found: Sequence[Finding]) -> str:
    """Returns the page as one file.

    Args:
        sets: the names and the surveys.
        found: the findings.
    """
    counts = {level: sum(f.level == level for f in found) for level in LEVELS}
    bad = counts["stop"] + counts["fix"]
    verdict = f"{bad} to fix" if bad else "nothing must be fixed"
    lines = [_line(finding) for finding in found] or ["<li class='note'>Nothing was found.</li>"]
    parts = [_section(name, surveyed) for name, surveyed in sets]
    body = "\n".join(["<ul>", *lines, "</ul>", *parts])
    return page(f"Data sets: {verdict}", body, _CSS)


def _line(finding: Finding) -> str:
    text, advice = safe(finding.text), safe(finding.advice)
    return (
        f'<li class="{finding.level}"><b>{finding.level}</b>: {_MEANING[finding.level]}<br>'
        f"{text}<br>What to do: {advice}.<small>{breakable(finding.where)}</small>"
        f"{_items(finding)}</li>"
    )


def _items(finding: Finding) -> str:
    shown = "<br>".join(safe(item) for item in finding.items[:_MAX_ITEMS])
    hidden = len(finding.items) - _MAX_ITEMS
    shown += f"<br>and {hidden:,} more (--json lists all)" if hidden > 0 else ""
    return folded("All of them", shown) if finding.items[1:] else ""


def _section(name: str, surveyed: SurveyInput) -> str:
    counts = numbers(surveyed)
    drawn = PLOTS.items() if counts["images"] and counts["boxes"] else ()
    plots = "".join(plot(title, partial(draw, surveyed=surveyed)) for title, draw in drawn)
    return (
        f"<h2>{breakable(name)}</h2><p>{several(counts['images'], 'image')}, "
        f"{counts['images_without_boxes'] or 'none'} without a box; {counts['boxes']:,} boxes of "
        f"{len(counts['classes'])} classes, at most {counts['largest_number_of_boxes']:,} in an "
        f"image; {counts['regions']:,} crowds, difficult or ignored boxes.</p>"
        f'<div class="plots">{plots}</div>{_all_classes(counts["classes"])}'
    )


def _all_classes(counts: dict[str, int]) -> str:
    """Lists all classes if the plot shows only some of them."""
    if len(counts) <= _MAX_CLASSES:
        return ""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{safe(name)}&nbsp;{count:,}" for name, count in ordered)
    return folded(f"All {len(counts)} classes", shown)


def _classes(axes: Axes, surveyed: SurveyInput) -> None:
    ordered = sorted(numbers(surveyed)["classes"].items(), key=lambda item: -item[1])
    shown = ordered[:_MAX_CLASSES][::-1]
    names = [name if len(name) <= 20 else name[:19] + "…" for name, _ in shown]
    axes.barh(range(len(shown)), [count for _, count in shown], color=BLUE)
    axes.set_yticks(range(len(shown)), [n.replace("$", r"\$") for n in names], fontsize=7)
    axes.set_ylim(len(shown) - max(len(shown), _MIN_ROWS) - 0.5, len(shown) - 0.5)
    axes.set_xlabel("objects")
    limit = f", the {_MAX_CLASSES} largest of {len(ordered)}" if len(ordered) > len(shown) else ""
    axes.set_title(f"Classes{limit}", fontsize=10)


def _sides(axes: Axes, surveyed: SurveyInput) -> None:
    wh = surveyed.content.xywh[surveyed.objects()][:, 2:]
    sides = np.sqrt(wh.prod(1))
    low, high = max(sides.min(), 0.5), max(sides.max(), 1.0)
    axes.hist(sides, bins=np.geomspace(low, high * 1.01, 40).tolist(), color=BLUE)
    _plain_log_scale(axes, [2.0**power for power in range(13)])
    for edge in (32, 96):  # COCO's small, medium and large
        axes.axvline(edge, color=GREY, linestyle=":")
    axes.set(xlabel="square root of width x height in pixels", ylabel="boxes")
    axes.set_title("Box sizes (dotted: COCO's small, medium, large)", fontsize=10)


def _plain_log_scale(axes: Axes, ticks: Sequence[float]) -> None:
    """Labels a logarithmic axis with plain numbers instead of powers of ten."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    shown = [tick for tick in ticks if low <= tick <= high] or [low, high]  # if boxes are all equal
    axes.set_xticks(shown, [f"{tick:.3g}" for tick in shown])
    axes.minorticks_off()


def _shapes(axes: Axes, surveyed: SurveyInput) -> None:
    wh = surveyed.content.xywh[surveyed.objects()][:, 2:]
    ratios = np.clip(wh[:, 0] / wh[:, 1], 0.05, 20)
    axes.hist(ratios, bins=np.geomspace(0.05, 20, 40).tolist(), color=BLUE)
    _plain_log_scale(axes, [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20])
    axes.axvline(1, color=GREY, linestyle=":")
    axes.set(xlabel="width / height (cut at 0.05 and 20)", ylabel="boxes")
    axes.set_title("Box shapes", fontsize=10)


def _images(axes: Axes, surveyed: SurveyInput) -> None:
    sizes, counts = np.unique(surveyed.content.sizes, axis=0, return_counts=True)
    area = 12 + 120 * counts / counts.max()
    axes.scatter(sizes[:, 1], sizes[:, 0], s=area, color=BLUE, alpha=0.4, linewidths=0)
    height, width = sizes.max(0) * 1.1  # leaves room for the circles of the largest images
    axes.set(xlabel="width", ylabel="height", xlim=(0, width), ylim=(0, height))
    axes.set_title(f"Images: {several(len(sizes), 'size')} (larger: more images)", fontsize=10)


def _per_image(axes: Axes, surveyed: SurveyInput) -> None:
    image_index = surveyed.content.image_index[surveyed.objects()]
    counts = np.bincount(image_index, minlength=len(surveyed.names))
    step = -(-(int(counts.max()) + 1) // 40)  # makes all bars equally wide in integers
    edges = np.arange(0, counts.max() + step + 1, step) - 0.5
    axes.hist(counts, bins=edges.tolist(), color=BLUE)
    axes.set(xlabel="objects in an image", ylabel="images")
    axes.set_title("Objects per image", fontsize=10)


def _places(axes: Axes, surveyed: SurveyInput) -> None:
    chosen, content = surveyed.objects(), surveyed.content
    xywh, sizes = content.xywh[chosen], content.sizes[content.image_index[chosen]]
    centers = (xywh[:, :2] + xywh[:, 2:] / 2) / np.maximum(sizes[:, ::-1], 1)
    axes.hist2d(centers[:, 0], centers[:, 1], bins=32, range=[[0, 1], [0, 1]], cmap="Blues")
    axes.invert_yaxis()
    axes.set(xlabel="x / width", ylabel="y / height")
    axes.set_title("Centres of the boxes", fontsize=10)


PLOTS = {
    "classes": _classes,
    "box sizes": _sides,
    "box shapes": _shapes,
    "image sizes": _images,
    "objects per image": _per_image,
    "centres": _places,
}
