"""Reads data sets in COCO's format."""

from __future__ import annotations

import re

from dynamic_atss.data.annotations import Annotations, read_annotations
from dynamic_atss.data.dataset import DetectionDataset


class CocoDataset(DetectionDataset):
    """Reads a COCO JSON file and its image folder.

    It is made by `CocoDataset(annotations, images, training=...)`.
    """

    written_as = "coco:<annotations.json>:<image folder>"

    @classmethod
    def parts_of(cls, name: str) -> tuple[str, str]:
        # Split after ".json", because paths may have colons.
        found = re.fullmatch(r"(.*?\.json):(.*)", name, re.IGNORECASE | re.DOTALL)
        if found:
            return found[1], found[2]
        annotations, _, folder = name.partition(":")
        return annotations, folder

    def read(self, *, need_boxes: bool = False) -> Annotations:
        return read_annotations(self.annotations, need_boxes=need_boxes)
