"""Data sets in COCO's format."""

from __future__ import annotations

from dynamic_atss.data.annotations import Annotations, read_annotations
from dynamic_atss.data.dataset import DetectionDataset


class CocoDataset(DetectionDataset):
    """`CocoDataset(annotations, images, training=...)`: a COCO JSON file and its image folder."""

    def read(self, *, need_boxes: bool = False) -> Annotations:
        return read_annotations(self.annotations, need_boxes=need_boxes)
