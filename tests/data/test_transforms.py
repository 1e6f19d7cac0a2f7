"""Sizes, boxes and pixels after transforms."""

import json

import numpy as np
import pytest
import torch

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.data.coco import CocoDataset
from dynamic_atss.data.transforms import Compose, HorizontalFlip, Resize, VerticalFlip, resized
from dynamic_atss.types import GroundTruth


def scene(height=20, width=31):
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    boxes = torch.tensor([[2.0, 3.0, 10.5, 12.0], [0.0, 0.0, width - 1, height - 1]])
    gt = GroundTruth(boxes, torch.tensor([1, 0]), torch.zeros(2, dtype=torch.int64))
    return torch.from_numpy(pixels).permute(2, 0, 1), gt


@pytest.mark.parametrize(
    ("old", "size", "limit", "new"),
    [
        ((427, 640), 320, 533, (320, 479)),
        ((349, 640), 320, 533, (291, 533)),
        ((212, 640), 320, 533, (177, 534)),  # the release's rounding exceeds the maximum by one
        ((640, 212), 320, 533, (534, 177)),
        ((480, 640), 800, 1333, (800, 1066)),
        ((480, 480), 800, 1333, (800, 800)),
        ((800, 1000), 800, 1333, (800, 1000)),
        ((1, 5000), 800, 1333, (1, 5000)),
    ],
)
def test_sizes(old, size, limit, new):
    assert resized(*old, size, limit) == new


def test_resize_scales_each_axis():
    image, gt = scene(20, 31)
    image, moved = Resize((33,), 100)(image, gt, np.random.default_rng(0))
    assert image.shape == (3, 33, 51)
    ratio = torch.tensor([51 / 31, 33 / 20, 51 / 31, 33 / 20])
    assert torch.equal(moved.boxes, gt.boxes * ratio)
    assert torch.equal(moved.classes, gt.classes)


def test_resize_draws_all_sizes():
    image, gt = scene()
    rng = np.random.default_rng(0)
    for transform, sizes in ((Resize((8, 16), 99), {8, 16}), (Resize((8,), 99, (5, 7)), {5, 6, 7})):
        assert {transform(image, gt, rng)[0].shape[1] for _ in range(60)} == sizes


@pytest.mark.parametrize("flip", [HorizontalFlip, VerticalFlip])
def test_flip(flip):
    image, gt = scene()
    rng = np.random.default_rng(0)
    once, moved = flip(1.0)(image, gt, rng)
    axis = 2 if flip is HorizontalFlip else 1
    assert torch.equal(once, torch.flip(image, (axis,)))
    # The pixels under a box of integers move with it.
    x1, y1, x2, y2 = moved.boxes[1].int().tolist()
    assert (x1, y1, x2, y2) == (0, 0, 30, 19)
    x, edge = ([0, 2], 30) if axis == 2 else ([1, 3], 19)
    assert moved.boxes[0, x].tolist() == (edge - gt.boxes[0, x]).flip(0).tolist()
    twice, back = flip(1.0)(once, moved, rng)
    assert torch.equal(twice, image) and torch.equal(back.boxes, gt.boxes)
    assert flip(0.0)(image, gt, rng)[1] is gt


@pytest.mark.parametrize("flip", [HorizontalFlip, VerticalFlip])
def test_flip_of_exact_boxes(flip):
    image, gt = scene(20, 31)
    boxes = torch.tensor([[2.0, 3.0, 31.0, 20.0]])
    exact = BoxConvention.EXACT
    gt = GroundTruth(boxes, gt.classes[:1], gt.image_index[:1], convention=exact)
    _, moved = flip(1.0)(image, gt, np.random.default_rng(0))
    expected = [0, 3, 29, 20] if flip is HorizontalFlip else [2, 0, 31, 17]  # W - x, H - y
    assert moved.boxes.tolist() == [expected]


def test_flips_are_drawn_with_their_probability():
    image, gt = scene()
    rng = np.random.default_rng(0)
    flipped = sum(HorizontalFlip(0.3)(image, gt, rng)[0] is not image for _ in range(500))
    assert 110 < flipped < 190


def test_no_boxes():
    image, _ = scene()
    none = torch.zeros(0, dtype=torch.int64)
    empty = GroundTruth(torch.zeros(0, 4), none, none)
    transform = Compose([Resize((40,), 100), HorizontalFlip(1.0), VerticalFlip(1.0)])
    image, gt = transform(image, empty, np.random.default_rng(0))
    assert image.shape == (3, 40, 62) and gt.boxes.shape == (0, 4)


def test_inputs_of_the_release(shared):
    inputs = json.loads((shared / "reference/train/dynamic_atss_R_50.json").read_text())["inputs"]
    data = CocoDataset(
        shared / "reference/train/annotations.json",
        shared / "reference/detections/images",
        training=True,
        transform=Resize((320,), 533),
    )
    index = {id: i for i, id in enumerate(data.image_ids)}
    samples = [data[index[id]] for id in (885, 5477)]
    mean = (102.9801, 115.9465, 122.7717)  # blue, green, red
    for sample, size, target in zip(samples, inputs["image_sizes"], inputs["targets"], strict=True):
        assert list(sample.image.shape[1:]) == size
        assert torch.allclose(sample.gt.boxes, torch.tensor(target["boxes_xyxy"]), atol=1e-3)
    for place, value in inputs["pixels"].items():
        n, c, y, x = json.loads(place)
        assert abs(samples[n].image[2 - c, y, x] - mean[c] - value) <= 1.001
    total = sum(
        float(s.image[2 - c].double().sum()) - m * s.image[0].numel()
        for s in samples
        for c, m in enumerate(mean)
    )
    pixels = sum(s.image.numel() for s in samples)
    assert abs(total - inputs["tensor_sum"]) / pixels < 0.02  # grey levels, on average
