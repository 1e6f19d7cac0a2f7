"""Reads damaged COCO files, and files with entries of any kind."""

import json

import cv2
import numpy as np
import pytest
from helpers_fuzz import REFUSED, damaged, outcome, spoilt
from hypothesis import given
from hypothesis import strategies as st

from dynamic_atss.data.annotations import read_annotations
from dynamic_atss.data.coco import CocoDataset

pytestmark = pytest.mark.slow

SIZES = {1: (20, 30), 2: (16, 16), 5: (40, 8)}  # height, width


def annotation(id, image, bbox, category=7, **fields):
    return {"id": id, "image_id": image, "category_id": category, "bbox": bbox, **fields}


VALID = {
    "images": [
        {"id": id, "file_name": f"{id}.png", "height": h, "width": w}
        for id, (h, w) in SIZES.items()
    ],
    "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
    "annotations": [
        annotation(1, 1, [2, 3, 10, 8], area=80, iscrowd=0),
        annotation(2, 1, [0.5, 0, 29.5, 20], 3, ignore=1),
        annotation(3, 2, [1, 1, 4, 4], iscrowd=1, segmentation=[[1, 1, 5, 1, 5, 5]]),
        annotation(4, 5, [0, 0, 8, 40], attributes={"rotation": 0.0}),
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coco")
    for id, size in SIZES.items():
        cv2.imwrite(str(folder / f"{id}.png"), np.full((*size, 3), 9 * id, np.uint8))
    return folder


def check_annotations(found):
    count = len(found.xywh)
    assert found.xywh.shape == (count, 4) and found.sizes.shape == (len(found.names), 2)
    columns = found.areas, found.classes, found.image_index, found.crowd
    assert all(len(column) == count for column in columns)
    assert (np.diff(found.image_ids) > 0).all() and (np.diff(found.image_index) >= 0).all()
    assert ((found.classes >= 0) & (found.classes < len(found.class_names))).all()
    assert ((found.image_index >= 0) & (found.image_index < len(found.names))).all()
    assert len(set(found.category_ids)) == len(found.class_names)


def check_samples(dataset):
    for index in range(len(dataset)):
        image, gt = dataset.load(index)
        height, width = image.shape[1:]
        assert (height, width) == tuple(dataset.sizes[index])
        low, high = gt.boxes[:, :2], gt.boxes[:, 2:]
        assert gt.boxes.isfinite().all() and (low >= 0).all() and (high >= low).all()
        assert (high <= gt.boxes.new_tensor([width, height])).all()
        assert ((gt.classes >= 0) & (gt.classes < len(dataset.class_names))).all()


@given(content=spoilt(VALID), need_boxes=st.booleans())
def test_entries_of_any_kind(folder, content, need_boxes):
    path = folder / "a.json"
    path.write_text(json.dumps(content))
    found = outcome(read_annotations, path, need_boxes=need_boxes)
    if found is not REFUSED:
        check_annotations(found)


@given(content=spoilt(VALID), training=st.booleans())
def test_data_sets_of_any_entries(folder, content, training):
    path = folder / "b.json"
    path.write_text(json.dumps(content))
    dataset = outcome(CocoDataset, path, folder, training=training)
    if dataset is not REFUSED:
        check_samples(dataset)


@given(data=damaged([json.dumps(VALID).encode(), b"{}", b"[" * 3000, b"\xef\xbb\xbf{}"]))
def test_damaged_files(folder, data):
    path = folder / "c.json"
    path.write_bytes(data)
    found = outcome(read_annotations, path, need_boxes=True)
    if found is not REFUSED:
        check_annotations(found)
