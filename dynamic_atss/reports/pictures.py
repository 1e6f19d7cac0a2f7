"""Builds the sections of a report that show pictures. The number of pictures is limited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dynamic_atss.progress import progress
from dynamic_atss.reports.drawing import MAX_CAPTIONS, Drawer, Images, letters
from dynamic_atss.reports.errors import KINDS, Errors
from dynamic_atss.reports.worst import by_image, largest_missed, most_confident_false
from dynamic_atss.viz.html import breakable, safe

MAX_IMAGES, MAX_CROPS = 12, 18
_CROP_KEY = "<p>Yellow: the detection. White and dashed: objects that it overlaps.</p>"


def worst_images(errors: Errors, dataset: Images) -> list[dict[str, Any]]:
    """Lists the images that a report shows, with their counts, for `report.json`."""
    counts, file_ids = by_image(errors), errors.matches.file_ids
    return [
        {
            "image_id": file_ids[index],
            "file": dataset.path(dataset.image_ids.index(file_ids[index])).name,
            "found": int(counts.found[index]),
            "missed": int(counts.missed[index]),
            "false": int(counts.false[index]),
        }
        for index in counts.worst(MAX_IMAGES)
    ]


def picture_sections(
    errors: Errors, dataset: Images, names: Sequence[str]
) -> list[tuple[str, str]]:
    """Returns title and HTML of each section.

    Args:
        errors: the errors of the test.
        dataset: the images.
        names: the names of the categories.
    """
    drawer = Drawer(dataset, errors, names)
    false = most_confident_false(errors, MAX_CROPS)
    missed = largest_missed(errors, MAX_CROPS)
    false_crops = [drawer.crop_of_false(i) for i in false]
    missed_crops = [drawer.crop_of_missed(i) for i in missed]
    count = len(errors.false)
    return [
        ("False detections", _CROP_KEY + _crops(false_crops, count, "of highest score")),
        ("Missed objects", _crops(missed_crops, len(errors.missed), "largest")),
        ("Worst images", _worst(drawer)),
    ]


def _crops(figures: Sequence[str], total: int, order: str) -> str:
    if not total:
        return "<p>None.</p>"
    shown = f", the {len(figures)} {order}" if len(figures) < total else ""
    return f'<p>{total:,}{shown}:</p><div class="crops">{"".join(figures)}</div>'


def _worst(drawer: Drawer) -> str:
    counts = by_image(drawer.errors)
    images = counts.worst(MAX_IMAGES)
    if not images:
        return "<p>No image has an error.</p>"
    total = int(((counts.missed + counts.false) > 0).sum())
    key = ", ".join(f"{letters(kind)}: {words}" for kind, words in KINDS.items() if kind != "Miss")
    figures = [
        drawer.full_image(
            index,
            f"{breakable(drawer.file_name(index))}<small>{counts.found[index]:,} found, "
            f"{counts.missed[index]:,} missed, {counts.false[index]:,} false</small>",
        )
        for index in progress(images, "report", len(images))
    ]
    return (
        f"<p>{len(images)} of the {total:,} images with errors, those with the most errors. Blue "
        "without a caption: right. Yellow with a caption: a false detection. White and dashed: a "
        f"missed object. If an image has more than {MAX_CAPTIONS} errors, captions are letters "
        f'({safe(key)}).</p><div class="worst">{"".join(figures)}</div>'
    )
