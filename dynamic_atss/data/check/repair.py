"""Makes a cleaned copy of a data set as a COCO file. Existing files stay unchanged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from dynamic_atss.data.annotations import read_json
from dynamic_atss.data.check.coco_file import to_coco
from dynamic_atss.data.coco import CocoDataset
from dynamic_atss.data.coco_boxes import area_of
from dynamic_atss.data.dataset import DetectionDataset
from dynamic_atss.data.headers.record import ImageHeader
from dynamic_atss.data.survey import SurveyInput
from dynamic_atss.data.survey.boxes import (
    CERTAIN,
    OTHERS,
    as_written,
    drawn_upright,
    likely_reading,
)
from dynamic_atss.data.values import read_values

Box = tuple[float, float, float, float]
Entry = dict[str, Any]


class Repair:
    """Cleans the content of a COCO file, and counts the changes by kind in `changes`."""

    def __init__(self, data: SurveyInput, unreadable: Collection[str]) -> None:
        """Decides how to read the boxes, and which images to keep.

        Args:
            data: all images, with headers.
            unreadable: the names of files that cannot be decoded.
        """
        self.changes: Counter[str] = Counter()
        name = likely_reading(data)
        self.reading = OTHERS[name] if name in CERTAIN else as_written
        self.drawn_upright = drawn_upright(data)[0] > 0
        ids = data.content.image_ids.tolist()
        rows = zip(ids, data.names, data.files(), data.headers, strict=True)
        self.files = {
            id: (name, file, header)
            for id, name, file, header in rows
            if isinstance(header, ImageHeader) and name not in unreadable
        }

    def __call__(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the content of the cleaned copy. Keeps the order and all other entries."""
        given = content.get("annotations", [])
        boxes: dict[int, list[Entry]] = {}
        for entry in given:
            boxes.setdefault(entry["image_id"], []).append(entry)
        image_of = self._images(content["images"], boxes)
        kept = []
        for entry in given:
            image = image_of.get(entry["image_id"])
            copy = {**entry, "image_id": image["id"]} if image else {}
            if image and self._correct_box(copy, image["height"], image["width"]):
                kept.append(copy)
        images = [*{image["id"]: image for image in image_of.values()}.values()]
        annotations = self._with_ids(self._without_copies(kept))
        return {**content, "images": images, "annotations": annotations}

    def _images(
        self, entries: Sequence[Entry], boxes: Mapping[int, Sequence[Entry]]
    ) -> dict[int, Entry]:
        """Returns id -> new entry for the images to keep. Images of one file share an entry."""
        image_of, by_file = {}, {}
        for entry in entries:
            if entry["id"] not in self.files:
                self._count("removed images that cannot be read, with their boxes")
                continue
            name, file, header = self.files[entry["id"]]
            size = self._size(entry, header, boxes.get(entry["id"], []))
            if size is None:
                self._count("removed images of another size than annotated, with their boxes")
                continue
            if file in by_file:
                self._count("joined entries of a file that is listed twice")
            else:
                by_file[file] = self._image(entry, name, size)
            image_of[entry["id"]] = by_file[file]
        return image_of

    def _size(
        self, entry: Entry, header: ImageHeader, boxes: Sequence[Entry]
    ) -> tuple[int, int] | None:
        """Returns the (height, width) of an image for the cleaned copy.

        It is the annotated size if that is right, and otherwise the size of the file. Returns None
        if a wrong size is annotated and the boxes do not fit into that of the file.
        """
        written = as_size(entry.get("height")), as_size(entry.get("width"))
        if self.drawn_upright:
            return header.upright
        if written in (header[:2], header.upright):
            return written
        ends = [self._corners(e["bbox"])[2:] for e in boxes]
        height, width = header.upright
        contains_boxes = all(x <= width + 1 and y <= height + 1 for x, y in ends)
        return header.upright if contains_boxes or 0 in written else None

    def _image(self, entry: Entry, name: str, size: tuple[int, int]) -> Entry:
        written = as_size(entry.get("height")), as_size(entry.get("width"))
        if size != written:
            self._count("added sizes of images" if 0 in written else "corrected sizes of images")
        if entry.get("file_name") != name:
            self._count("corrected names of files")
        return {**entry, "file_name": name, "height": size[0], "width": size[1]}

    def _correct_box(self, entry: Entry, height: int, width: int) -> bool:
        """Corrects an annotation in place. Returns False if it has to be removed."""
        box = tuple(map(float, entry["bbox"]))
        x1, y1, x2, y2 = self._corners(entry["bbox"])
        if self.reading is not as_written:
            self._count("converted boxes to (x, y, w, h)")
        cut = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
        if not np.isfinite(box).all() or cut[2] <= cut[0] or cut[3] <= cut[1]:
            self._count("removed boxes without extent in their image")
            return False
        if cut[2] - cut[0] <= 1 or cut[3] - cut[1] <= 1:  # a training drops them as well
            self._count("removed boxes of one pixel or less")
            return False
        if cut != (x1, y1, x2, y2):
            self._count("clipped boxes at the border of their image")
        if cut != (box[0], box[1], box[0] + box[2], box[1] + box[3]):
            entry["bbox"] = [cut[0], cut[1], cut[2] - cut[0], cut[3] - cut[1]]
        if np.isnan(area_of(entry.get("area"))):
            self._count("wrote areas as width x height")
            entry["area"] = entry["bbox"][2] * entry["bbox"][3]
        return True

    def _corners(self, box: Sequence[float]) -> Box:
        a, b, c, d = map(float, box)
        x1, y1, x2, y2 = self.reading(a, b, c, d)
        return float(x1), float(y1), float(x2), float(y2)

    def _without_copies(self, entries: list[Entry]) -> list[Entry]:
        found: dict[tuple, Entry] = {}
        for entry in entries:
            key = (entry["image_id"], entry["category_id"], *entry["bbox"])
            if key in found:
                self._count("removed copies of boxes")
            found.setdefault(key, entry)
        return list(found.values())

    def _with_ids(self, entries: list[Entry]) -> list[Entry]:
        """Adds ids to the entries that have none."""
        free = max((e["id"] for e in entries if isinstance(e.get("id"), int)), default=0)
        for entry in entries:
            if "id" not in entry:
                self._count("added ids of annotations")
                free += 1
                entry["id"] = free
        return entries

    def _count(self, change: str) -> None:
        self.changes[change] += 1


def source_of(dataset: DetectionDataset, data: SurveyInput) -> tuple[dict[str, Any], list[str]]:
    """Returns the content that a repair starts from, and notes on interpreted values.

    For COCO, it is the content of the file, so that no entry is lost. For other formats, it is made
    of the annotations.
    """
    if isinstance(dataset, CocoDataset):
        content = read_json(dataset.annotations)
        return content, read_values(dataset.annotations, content)
    return to_coco(data.content), []


def as_size(value: Any) -> int:
    return int(value) if isinstance(value, int | float) else 0
