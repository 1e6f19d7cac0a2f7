"""Tests the pictures that are drawn from a test's files."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from dynamic_atss.data.coco import CocoDataset
from dynamic_atss.evaluation.results import result_table
from dynamic_atss.viz.draw import class_color
from dynamic_atss.viz.pictures import sample_pictures


@pytest.fixture
def tested_set(tmp_path):
    """Makes ten images of 1200 x 900. Those with odd ids have a box and a detection on it."""
    for i in range(10):
        Image.fromarray(np.full((900, 1200, 3), 90, np.uint8)).save(tmp_path / f"{i}.png")
    images = [{"id": i, "file_name": f"{i}.png", "width": 1200, "height": 900} for i in range(10)]
    box = [300, 300, 601, 301]
    boxes = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": box, "area": 1, "iscrowd": 0}
        for i in (1, 3, 5, 7, 9)
    ]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cell"}]}
    (tmp_path / "train.json").write_text(json.dumps(content))
    found = [
        {"image_id": b["image_id"], "category_id": 1, "bbox": box, "score": 0.5} for b in boxes
    ]
    dataset = CocoDataset(tmp_path / "train.json", tmp_path, training=False)
    return dataset, result_table(found, "results")


def test_a_few_images_with_boxes_spread_over_the_set(tested_set):
    assert list(sample_pictures(*tested_set, count=3)) == ["1", "5", "9"]
    assert list(sample_pictures(*tested_set, count=30)) == ["1", "3", "5", "7", "9"]


def test_large_images_are_reduced_and_their_boxes_with_them(tested_set):
    (picture,) = sample_pictures(*tested_set, count=1, long_side=600).values()
    width = (picture.shape[2] - 8) // 2  # two panels and a gap
    assert width == 600
    color = torch.tensor(class_color(0), dtype=torch.uint8)[:, None, None]
    for panel in (picture[:, -450:, :600], picture[:, -450:, -600:]):
        rows, columns = (panel == color).all(0)[200:].nonzero().T  # below the caption
        assert abs(int(columns.min()) - 150) <= 2 and abs(int(columns.max()) - 450) <= 2
        assert abs(int(rows.max()) + 200 - 300) <= 2


def test_a_set_without_boxes_has_pictures_too(tested_set):
    dataset, table = tested_set
    content = json.loads(dataset.annotations.read_text()) | {"annotations": []}
    dataset.annotations.write_text(json.dumps(content))
    empty = CocoDataset(dataset.annotations, dataset.images, training=False)
    assert list(sample_pictures(empty, table, count=2)) == ["0", "9"]
