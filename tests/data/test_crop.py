"""Cropped boxes enclose the same pixels as before."""

import numpy as np
import pytest
import torch
from helpers_scenes import EMPTY, check_boxes, found, painted, random_scene

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.data.crop import RandomCrop, Window, cut_boxes
from dynamic_atss.types import GroundTruth

BOXES = [[3, 2, 9, 8], [14, 4, 20, 17], [2, 12, 11, 20], [25, 1, 30, 22]]


def crop(image, gt, seed=0, prob=1.0, side=(0.3, 1.0), min_visible=0.3):
    return RandomCrop(prob, side, min_visible)(image, gt, np.random.default_rng(seed))


def truth(*boxes, convention=BoxConvention.LEGACY):
    zeros = torch.zeros(len(boxes), dtype=torch.int64)
    packed = torch.tensor(boxes, dtype=torch.float32)
    return GroundTruth(packed, zeros, zeros, convention=convention)


def test_painted_boxes_are_found_where_the_crop_says():
    image, gt = painted(24, 33, BOXES)
    cut = 0
    for seed in range(60):
        part, kept = crop(image, gt, seed, min_visible=0.0)
        boxes = dict(zip(kept.classes.tolist(), kept.boxes.int().tolist(), strict=True))
        for index in range(len(BOXES)):
            seen = found(part, index)
            thin = seen is not None and (seen[0] == seen[2] or seen[1] == seen[3])
            assert boxes.get(index) == (None if thin else seen)
        cut += len(kept) < len(gt)
    assert 10 < cut < 60


@pytest.mark.parametrize(
    ("convention", "width", "left"),
    [(BoxConvention.LEGACY, 13, 3 * 6 / (4 * 6)), (BoxConvention.EXACT, 12, 2 * 5 / (3 * 5))],
)
def test_visible_fraction(convention, width, left):
    """3 or 2 columns of pixels of the box remain."""
    gt = truth([10, 10, 13, 15], convention=convention)
    window = Window(left=0, top=0, height=40, width=width)
    assert len(cut_boxes(gt, window, left - 0.01)) == 1
    assert len(cut_boxes(gt, window, left + 0.01)) == 0


def test_limits_of_both_conventions():
    box, exact = [5, 5, 100, 100], BoxConvention.EXACT
    window = Window(left=10, top=20, height=30, width=40)
    assert cut_boxes(truth(box), window, 0.0).boxes.tolist() == [[0, 0, 39, 29]]
    kept = cut_boxes(truth(box, convention=exact), window, 0.0)
    assert kept.boxes.tolist() == [[0, 0, 40, 30]]


def test_boxes_outside_of_the_window_are_dropped_even_with_threshold_0():
    window = Window(left=10, top=10, height=10, width=10)
    outside = [[0, 0, 9, 9], [0, 12, 10, 14], [20, 10, 25, 15], [30, 30, 40, 40]]
    for convention in BoxConvention:
        assert len(cut_boxes(truth(*outside, convention=convention), window, 0.0)) == 0


@pytest.mark.parametrize("convention", BoxConvention)
def test_a_box_inside_the_window_is_fully_visible(convention):
    gt = truth([10.3, 11.7, 20.9, 15.1], convention=convention)
    kept = cut_boxes(gt, Window(3, 5, 40, 50), 1.0)
    assert torch.allclose(kept.boxes, gt.boxes - torch.tensor([3.0, 5.0, 3.0, 5.0]))


@pytest.mark.parametrize("convention", BoxConvention)
@pytest.mark.parametrize("seed", range(25))
def test_random_scenes(seed, convention):
    height, width = np.random.default_rng(seed).integers(3, 60, 2).tolist()
    image, gt = random_scene(seed, height, width, 1 + seed % 6, convention)
    part, kept = crop(image, gt, seed, side=(0.05, 1.0))
    check_boxes(part, kept)
    assert len(kept) >= 1 and set(kept.classes.tolist()) <= set(gt.classes.tolist())
    again, same = crop(image, gt, seed, side=(0.05, 1.0))
    assert torch.equal(part, again) and torch.equal(kept.boxes, same.boxes)
    assert 0.04 * height - 1 <= part.shape[1] <= height


def test_no_crop_if_all_boxes_would_be_lost():
    """A window of 2 x 2 pixels cannot contain 0.9 of a box of 10 x 10."""
    image, gt = painted(20, 20, [[5, 5, 14, 14]])
    for seed in range(10):
        part, kept = crop(image, gt, seed, side=(0.1, 0.1), min_visible=0.9)
        assert part is image and kept is gt


def test_without_boxes_any_window_is_allowed():
    image, _ = random_scene(0, 20, 30, 0)
    part, kept = crop(image, EMPTY, 1, side=(0.5, 0.5))
    assert part.shape == (3, 10, 15) and len(kept) == 0 and kept.boxes.shape == (0, 4)
    one, _ = random_scene(0, 1, 1, 0)
    assert torch.equal(crop(one, EMPTY, 1, side=(0.01, 0.5))[0], one)


def test_probability():
    image, gt = random_scene(0, 20, 30, 3)
    done = sum(crop(image, gt, s, prob=0.3, side=(0.5, 0.9))[0] is not image for s in range(300))
    assert 60 < done < 120
    assert crop(image, gt, prob=0.0)[0] is image
