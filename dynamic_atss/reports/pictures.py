"""The sections of a report that show pictures. Their number is bounded; they say of how many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dynamic_atss.progress import progress
from dynamic_atss.reports.drawing import MOST_CAPTIONS, Drawer, Images, letters
from dynamic_atss.reports.errors import KINDS, Errors
from dynamic_atss.reports.worst import by_image, largest_missed, most_confident_false
from dynamic_atss.viz.html import breakable, safe

MOST_IMAGES, MOST_CROPS = 12, 18
_OF_CROPS = "<p>Yellow: the detection. White and dashed: objects that it overlaps.</p>"


def worst_images(errors: Errors, dataset: Images) -> list[dict[str, Any]]:
    """The images that a report shows, with their counts, as `report.json` has them."""
    counts, file_ids = by_image(errors), errors.matches.file_ids
    return [
        {
            "image_id": file_ids[image],
            "file": dataset.path(dataset.image_ids.index(file_ids[image])).name,
            "found": int(counts.found[image]),
            "missed": int(counts.missed[image]),
            "false": int(counts.false[image]),
        }
        for image in counts.worst(MOST_IMAGES)
    ]


def picture_sections(
    errors: Errors, dataset: Images, names: Sequence[str]
) -> list[tuple[str, str]]:
    """Title and HTML of each. names: of the categories"""
    drawer = Drawer(dataset, errors, names)
    false = most_confident_false(errors, MOST_CROPS)
    missed = largest_missed(errors, MOST_CROPS)
    figures = [drawer.crop_of_false(i) for i in false]
    others = [drawer.crop_of_missed(i) for i in missed]
    return [
        ("False detections", _OF_CROPS + _crops(figures, len(errors.false), "of highest score")),
        ("Missed objects", _crops(others, len(errors.missed), "largest")),
        ("Worst images", _worst(drawer)),
    ]


def _crops(figures: Sequence[str], total: int, which: str) -> str:
    if not total:
        return "<p>None.</p>"
    some = f", the {len(figures)} {which}" if len(figures) < total else ""
    return f'<p>{total:,}{some}:</p><div class="crops">{"".join(figures)}</div>'


def _worst(drawer: Drawer) -> str:
    counts = by_image(drawer.errors)
    images = counts.worst(MOST_IMAGES)
    if not images:
        return "<p>No image has an error.</p>"
    total = int(((counts.missed + counts.false) > 0).sum())
    key = ", ".join(f"{letters(kind)}: {words}" for kind, words in KINDS.items() if kind != "Miss")
    figures = [
        drawer.whole(
            image,
            f"{breakable(drawer.file_name(image))}<small>{counts.found[image]:,} found, "
            f"{counts.missed[image]:,} missed, {counts.false[image]:,} false</small>",
        )
        for image in progress(images, "report", len(images))
    ]
    return (
        f"<p>{len(images)} of the {total:,} images with errors, those with the most. Blue without "
        "a caption: right. Yellow with a caption: a false detection. White and dashed: a missed "
        f"object. Where an image has more than {MOST_CAPTIONS} errors, a letter is the caption "
        f'({safe(key)}).</p><div class="worst">{"".join(figures)}</div>'
    )
