"""Warnings of boxes that are not x, y, width, height in pixels."""

import logging

import numpy as np
import pytest
from helpers_data import box, open_coco, voc_object, write_coco, write_voc

from dynamic_atss.data.box_kinds import FRACTIONS, box_warning
from dynamic_atss.data.coco import CocoDataset
from dynamic_atss.data.voc import VocDataset
from dynamic_atss.errors import UserError

SIZE = (480, 640)


def boxes(count=60, seed=0):
    """Makes boxes x, y, w, h (A, 4) within SIZE, of a tenth to a half of its sides."""
    rng = np.random.default_rng(seed)
    sides = np.array(SIZE[::-1])
    wh = rng.uniform(0.1, 0.5, (count, 2)) * sides
    return np.hstack([rng.uniform(0, 1, (count, 2)) * (sides - wh), wh]).round(1)


def warning(xywh, areas=None):
    sizes = np.tile(SIZE, (len(xywh), 1))
    return box_warning(xywh, sizes, xywh[:, 2:].prod(1) if areas is None else areas)


def corners(b):
    return np.hstack([b[:, :2], b[:, :2] + b[:, 2:]])


def centres(b):
    return np.hstack([b[:, :2] + b[:, 2:] / 2, b[:, 2:]])


def test_classes_without_boxes_are_logged_in_training(tmp_path, caplog):
    path = write_coco(tmp_path, {9: (20, 30)}, [box(1, 9, [1, 1, 9, 9])])
    caplog.set_level(logging.INFO)
    open_coco(path)
    assert "1 of 2 classes have no box: 'dog'" in caplog.text
    caplog.clear()
    open_coco(path, training=False)
    assert "no box" not in caplog.text


@pytest.mark.parametrize(
    ("write", "cause"),
    [
        (corners, "corners (x1, y1, x2, y2)"),
        (centres, "centre, width, height"),
        (lambda b: b[:, [1, 0, 3, 2]], "y, x, height, width"),
        (lambda b: corners(b)[:, [1, 0, 3, 2]], "corners (y1, x1, y2, x2)"),
        (lambda b: b * 2, "pictures of another size"),
        (lambda b: b / [640, 480, 640, 480], "fractions of the image's sides"),
        (lambda b: corners(b) / [640, 480, 640, 480], "fractions of the image's sides"),
    ],
)
def test_the_likely_cause_is_named(write, cause):
    message = warning(write(boxes()))
    assert cause in message and " of 60 boxes" in message and "such as [" in message


def test_correct_boxes_give_no_warning():
    assert warning(boxes()) == "" and warning(boxes()[:0]) == ""
    assert warning(boxes() + np.array([0, 0, 3, 3])) == ""  # a little beyond the border
    few_wrong = boxes()
    few_wrong[:8] *= 3  # an eighth of the boxes is wrong, for no common reason
    assert warning(few_wrong) == ""
    full_images = np.tile([0.0, 0.0, 640.0, 480.0], (20, 1))
    assert warning(full_images) == "" and warning(np.full((3, 4), np.nan)) == ""


def test_areas_reveal_corners_of_boxes_that_stay_inside():
    near = boxes() * 0.3
    areas = near[:, 2:].prod(1)
    assert warning(corners(near)) == ""
    assert "60 have the area of corners" in warning(corners(near), areas)
    assert warning(near, areas * 0.7) == ""  # outlines


@pytest.mark.parametrize("kind", ["corners", "fractions"])
def test_opening_a_data_set_logs_the_warning(tmp_path, caplog, kind):
    rows = [[10, 2, 25, 18], [12, 4, 28, 16], [20, 9, 29, 15]]
    if kind == "fractions":
        rows = [[x / 30, y / 20, w / 60, h / 40] for x, y, w, h in rows]
    path = write_coco(tmp_path, {9: (20, 30)}, [box(i, 9, b) for i, b in enumerate(rows)])
    open_coco(path, training=False)
    (line,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert kind in line.getMessage() and "3 of 3 boxes" in line.getMessage()
    if kind == "fractions":
        with pytest.raises(UserError, match=r"none of its 1 images has a usable box: 3 of 3.*yolo"):
            open_coco(path)


def test_fractions_in_a_devkit(tmp_path, caplog):
    objects = voc_object("cat", "0.1 0.2 0.5 0.9") + voc_object("cat", "0.3 0.2 1 1")
    folder = write_voc(tmp_path / "d", {"a": objects}, {"t": ["a"]})
    VocDataset(folder, "t", training=False)
    assert "fractions of the image's sides" in caplog.text


def test_real_data_have_no_warning(shared, caplog):
    data = shared / "data"
    CocoDataset(
        data / "coco_mini/annotations/instances_train2017.json",
        data / "coco_mini/train2017", training=False,
    )  # fmt: skip
    VocDataset(data / "bccd", "trainval", training=False)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("write", "cause"),
    [
        (corners, "corners (x1, y1, x2, y2), by which 60 lie inside"),
        (lambda b: b, "upper left corner, width, height, by which 60 lie inside"),
        (lambda b: centres(b) * 2, "pictures of another size"),
    ],
)
def test_fractions_in_another_form(write, cause):
    written = write(boxes())
    read = np.hstack([written[:, :2] - written[:, 2:] / 2, written[:, 2:]])
    sizes = np.tile(SIZE, (60, 1))
    message = box_warning(read, sizes, read[:, 2:].prod(1), FRACTIONS)
    assert cause in message and "centre x, centre y, width, height as fractions" in message
    assert "pixels" not in message
    first = [float(v) for v in message.split("[")[1].split("]")[0].split(",")]
    assert np.isclose(written / np.tile(SIZE[::-1], 2), first, atol=1e-5).all(1).any()


def test_correct_fractions_give_no_warning():
    assert box_warning(boxes(), np.tile(SIZE, (60, 1)), boxes()[:, 2:].prod(1), FRACTIONS) == ""
