"""Tiles cover the picture, and an object that an edge cuts is detected once."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from dynamic_atss import load
from dynamic_atss.inference.detect import Rows
from dynamic_atss.inference.tiles import detect_in_tiles, windows


@pytest.mark.parametrize(
    ("height", "width", "tile", "overlap"),
    [(1000, 1500, 640, 0.2), (641, 640, 640, 0.2), (100, 3000, 64, 0.0), (90, 90, 32, 0.9)],
)
def test_windows_cover_and_overlap(height, width, tile, overlap):
    found = windows(height, width, tile, overlap)
    seen = np.zeros((height, width), int)
    for left, top, right, bottom in found:
        assert 0 <= left < right <= width and 0 <= top < bottom <= height
        assert right - left == min(tile, width) and bottom - top == min(tile, height)
        seen[top:bottom, left:right] += 1
    assert seen.min() >= 1
    lefts = sorted({window[0] for window in found})
    assert all(a + tile - b >= overlap * tile - 1 for a, b in pairwise(lefts))


def test_a_picture_no_larger_than_a_tile_is_one_window():
    assert windows(640, 300, 640, 0.2) == [(0, 0, 300, 640)]


class Finds:
    """Detects coloured rectangles in a crop.

    A box is the visible part of a rectangle, and its score grows with that part. In a crop larger
    than `sees`, only rectangles of at least 40 pixels are detected.
    """

    def __init__(self, sees: int, cut_score: float = 0.5) -> None:
        self.sees, self.cut_score, self.calls = sees, cut_score, []

    def __call__(self, images):
        self.calls.append([tuple(image.shape[1:]) for image in images])
        return [self._one(image) for image in images]

    def _one(self, image):
        rows = []
        for color in range(1, int(image[0].max()) + 1):
            y, x = np.nonzero(image[0].numpy() == color)
            if len(x) and (max(image.shape[1:]) <= self.sees or np.ptp(x) >= 40):
                width, height = np.ptp(x) + 1, np.ptp(y) + 1
                score = 0.9 if len(x) >= image[1].max() else self.cut_score
                rows.append((x.min(), y.min(), width, height, score, image[2, y[0], x[0]]))
        table = np.array(rows, float).reshape(-1, 6)
        scores, labels = table[:, 4].astype(np.float32), table[:, 5].astype(np.int64)
        return Rows(table[:, :4], scores, labels)


def scene(boxes, height=200, width=300):
    """Makes an image of boxes.

    Channel 0 is the number of the object, channel 1 its area and channel 2 its class.
    """
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    for number, (x, y, w, h, label) in enumerate(boxes, start=1):
        image[:, y : y + h, x : x + w] = torch.tensor([number, 20, label])[:, None, None]
    return image


def join(image, detect, tile=100, overlap=0.3):
    return detect_in_tiles(detect, image, tile=tile, overlap=overlap, threshold=0.6, batch=4)


def as_boxes(rows):
    return sorted((*map(int, box), int(c)) for box, c in zip(rows.xywh, rows.labels, strict=True))


@pytest.mark.parametrize("cut_score", [0.2, 0.95])
def test_small_objects_are_found_once_wherever_the_edges_lie(cut_score):
    boxes = [(x, y, 20, 20, 0) for x in range(3, 275, 31) for y in range(2, 175, 29)]
    detect = Finds(sees=100, cut_score=cut_score)
    assert as_boxes(join(scene(boxes), detect)) == sorted(boxes)
    assert max(map(len, detect.calls)) == 4
    assert detect.calls[0][0] == (100, 100) and detect.calls[-1][-1] == (200, 300)


def test_an_object_larger_than_the_overlap_comes_from_the_whole_picture():
    boxes = [(20, 30, 200, 120, 1), (240, 10, 20, 20, 0)]
    assert as_boxes(join(scene(boxes), Finds(sees=100))) == sorted(boxes)


def test_objects_of_another_class_do_not_cover_each_other():
    """A small object at the edge of a tile lies inside a large object of another class."""
    detect = Finds(sees=100)
    rows = join(scene([(20, 30, 200, 120, 1), (95, 60, 20, 20, 0)]), detect)
    assert (95, 60, 20, 20, 0) in as_boxes(rows) and (20, 30, 200, 120, 1) in as_boxes(rows)


def test_an_unsure_box_does_not_stand_in_for_a_cut_one():
    """The full picture gives a box of score 0.1 around the certain boxes of the tiles."""

    def detect(images):
        found = []
        for image in images:
            is_full = image.shape[2] > 100
            box, score = ((0, 0, 300, 100), 0.1) if is_full else ((90, 10, 10, 10), 0.9)
            rows = np.array([box], float), np.array([score], np.float32), np.zeros(1, np.int64)
            found.append(Rows(*rows))
        return found

    rows = join(torch.zeros(3, 100, 300, dtype=torch.uint8), detect)
    assert (90, 10, 10, 10, 0) in as_boxes(rows)


def test_the_model_looks_at_tiles(run, pictures):
    model = load(run)
    path = sorted(pictures.glob("*.jpg"))[0]
    plain, same = model(path, threshold=0), model(path, threshold=0, tile=96)
    assert np.array_equal(plain.xywh, same.xywh)
    tiled = model(path, threshold=0, tile=64, overlap=0.25)
    assert len(tiled) > len(plain) / 2 and not np.array_equal(tiled.xywh[:5], plain.xywh[:5])
    boxes = tiled.boxes
    assert boxes.min() >= -1 and boxes.max() <= 98  # all in the picture's own pixels
    assert boxes[:, 2].max() > 64
