"""One HTML file about data sets: what was found, and plots of classes, sizes and shapes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from dynamic_atss.data.check.balance import numbers
from dynamic_atss.data.survey import LEVELS, Finding, Surveyed, several
from dynamic_atss.viz.html import BLUE, GREY, breakable, folded, page, plot, safe

_MOST_CLASSES = 25  # that a plot names
_FEWEST_ROWS = 8  # room for so many: one class alone is no wall
_MOST_ITEMS = 200  # files of a finding that the page lists
_MEANING = {
    "stop": "cannot be trained on or tested with",
    "fix": "is read, but wrong",
    "warning": "may be wrong: look at it",
    "note": "good to know",
}

_CSS = """ul { list-style: none; padding: 0; }
li { border-left: .4rem solid; padding: .3rem .8rem; margin: .6rem 0; background: #f6f6f6; }
.stop, .fix { border-color: #b3261e; } .warning { border-color: #c77700; }
.note { border-color: #5f7f95; } b { text-transform: uppercase; font-size: .8rem; }"""


def dataset_page(sets: Iterable[tuple[str, Surveyed]], found: Sequence[Finding]) -> str:
    """The page. sets: with their names. All pictures are in it: it is one file."""
    counts = {level: sum(f.level == level for f in found) for level in LEVELS}
    bad = counts["stop"] + counts["fix"]
    verdict = f"{bad} to fix" if bad else "nothing must be fixed"
    lines = [_line(finding) for finding in found] or ["<li class='note'>Nothing was found.</li>"]
    parts = [_section(name, one) for name, one in sets]
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
    shown = "<br>".join(safe(item) for item in finding.items[:_MOST_ITEMS])
    rest = len(finding.items) - _MOST_ITEMS
    shown += f"<br>and {rest:,} more (--json has all)" if rest > 0 else ""
    return folded("All of them", shown) if finding.items[1:] else ""


def _section(name: str, one: Surveyed) -> str:
    own = numbers(one)
    drawn = PLOTS.items() if own["images"] and own["boxes"] else ()
    plots = "".join(plot(title, partial(draw, one=one)) for title, draw in drawn)
    return (
        f"<h2>{breakable(name)}</h2><p>{several(own['images'], 'image')}, "
        f"{own['images_without_boxes'] or 'none'} without a box; {own['boxes']:,} boxes of "
        f"{len(own['classes'])} classes, at most {own['largest_number_of_boxes']:,} in an image; "
        f"{own['regions']:,} crowds, difficult or ignored boxes.</p>"
        f'<div class="plots">{plots}</div>{_all_classes(own["classes"])}'
    )


def _all_classes(counts: dict[str, int]) -> str:
    """Those that the plot has no room for, too."""
    if len(counts) <= _MOST_CLASSES:
        return ""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{safe(name)}&nbsp;{count:,}" for name, count in ordered)
    return folded(f"All {len(counts)} classes", shown)


def _classes(axes: Axes, one: Surveyed) -> None:
    ordered = sorted(numbers(one)["classes"].items(), key=lambda item: -item[1])
    shown = ordered[:_MOST_CLASSES][::-1]
    names = [name if len(name) <= 20 else name[:19] + "…" for name, _ in shown]
    axes.barh(range(len(shown)), [count for _, count in shown], color=BLUE)
    axes.set_yticks(range(len(shown)), [n.replace("$", r"\$") for n in names], fontsize=7)
    axes.set_ylim(len(shown) - max(len(shown), _FEWEST_ROWS) - 0.5, len(shown) - 0.5)
    axes.set_xlabel("objects")
    rest = f", the {_MOST_CLASSES} largest of {len(ordered)}" if len(ordered) > len(shown) else ""
    axes.set_title(f"Classes{rest}", fontsize=10)


def _sides(axes: Axes, one: Surveyed) -> None:
    wh = one.content.xywh[one.objects()][:, 2:]
    sides = np.sqrt(wh.prod(1))
    low, high = max(sides.min(), 0.5), max(sides.max(), 1.0)
    axes.hist(sides, bins=np.geomspace(low, high * 1.01, 40).tolist(), color=BLUE)
    _plain_log_scale(axes, [2.0**power for power in range(13)])
    for edge in (32, 96):  # COCO's small, medium and large
        axes.axvline(edge, color=GREY, linestyle=":")
    axes.set(xlabel="square root of width x height in pixels", ylabel="boxes")
    axes.set_title("Box sizes (dotted: COCO's small, medium, large)", fontsize=10)


def _plain_log_scale(axes: Axes, ticks: Sequence[float]) -> None:
    """Numbers as people write them in place of powers of ten; those within the plot."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    shown = [tick for tick in ticks if low <= tick <= high] or [low, high]  # all boxes are alike
    axes.set_xticks(shown, [f"{tick:.3g}" for tick in shown])
    axes.minorticks_off()


def _shapes(axes: Axes, one: Surveyed) -> None:
    wh = one.content.xywh[one.objects()][:, 2:]
    ratios = np.clip(wh[:, 0] / wh[:, 1], 0.05, 20)
    axes.hist(ratios, bins=np.geomspace(0.05, 20, 40).tolist(), color=BLUE)
    _plain_log_scale(axes, [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20])
    axes.axvline(1, color=GREY, linestyle=":")
    axes.set(xlabel="width / height (0.05 and 20: or beyond)", ylabel="boxes")
    axes.set_title("Box shapes", fontsize=10)


def _images(axes: Axes, one: Surveyed) -> None:
    sizes, counts = np.unique(one.content.sizes, axis=0, return_counts=True)
    area = 12 + 120 * counts / counts.max()
    axes.scatter(sizes[:, 1], sizes[:, 0], s=area, color=BLUE, alpha=0.4, linewidths=0)
    height, width = sizes.max(0) * 1.1  # the circles of the largest as a whole
    axes.set(xlabel="width", ylabel="height", xlim=(0, width), ylim=(0, height))
    axes.set_title(f"Images: {several(len(sizes), 'size')} (larger: more images)", fontsize=10)


def _per_image(axes: Axes, one: Surveyed) -> None:
    counts = np.bincount(one.content.image_index[one.objects()], minlength=len(one.names))
    step = -(-(int(counts.max()) + 1) // 40)  # a bar is of whole numbers
    edges = np.arange(0, counts.max() + step + 1, step) - 0.5
    axes.hist(counts, bins=edges.tolist(), color=BLUE)
    axes.set(xlabel="objects in an image", ylabel="images")
    axes.set_title("Objects per image", fontsize=10)


def _places(axes: Axes, one: Surveyed) -> None:
    chosen = one.objects()
    xywh, sizes = one.content.xywh[chosen], one.content.sizes[one.content.image_index[chosen]]
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
