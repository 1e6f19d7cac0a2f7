"""Large-scale jitter: output size, boxes on their pixels, and the colour of the padding."""

import numpy as np
import pytest
import torch
from helpers_scenes import EMPTY, check_boxes, found, painted, random_scene

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.data.jitter import LargeScaleJitter, Pad
from dynamic_atss.data.transforms import Compose

FILL = (124, 116, 104)


def jitter(image, gt, seed=0, size=(48, 64), scale=(0.1, 2.0), min_visible=0.3, **options):
    transform = Compose([LargeScaleJitter(size, scale, min_visible, **options), Pad(size, FILL)])
    return transform(image, gt, np.random.default_rng(seed))


@pytest.mark.parametrize("exact", [False, True])
def test_at_scale_1_the_image_fits_and_is_padded(exact):
    image, gt = painted(24, 16, [[2, 3, 9, 20]])
    out, moved = jitter(image, gt, scale=(1.0, 1.0), exact=exact)
    assert out.shape == (3, 48, 64)
    assert moved.boxes.tolist() == [[4, 6, 18, 40]]
    assert (out[:, :, 32:] == torch.tensor(FILL)[:, None, None]).all()
    assert torch.equal(
        out[:, 10:38, 8:16], torch.tensor([255, 0, 0])[:, None, None].expand(3, 28, 8)
    )


def test_painted_boxes_are_found():
    image, gt = painted(48, 64, [[4, 4, 27, 20], [36, 6, 60, 40], [3, 26, 30, 45]])
    cut = 0
    for seed in range(40):
        out, moved = jitter(image, gt, seed, scale=(0.5, 2.0), min_visible=0.2)
        cut += len(moved) < 3
        for index, box in zip(moved.classes.tolist(), moved.boxes.tolist(), strict=True):
            near = torch.tensor(found(out, index, 160)) - torch.tensor(box)
            assert near.abs().max() < 3, (seed, index)  # largest scale plus half a pixel
    assert cut > 5


def test_scales_of_the_full_range_are_drawn():
    image = torch.full((3, 48, 64), 255, dtype=torch.uint8)
    widths = [int((jitter(image, EMPTY, s)[0][0, 0] == 255).sum()) for s in range(200)]
    assert min(widths) < 9 and max(widths) == 64
    assert 80 < sum(width == 64 for width in widths) < 130  # 10 of 19 parts of the range


@pytest.mark.parametrize("convention", BoxConvention)
@pytest.mark.parametrize("seed", range(20))
def test_random_scenes(seed, convention):
    height, width = np.random.default_rng(seed).integers(3, 90, 2).tolist()
    image, gt = random_scene(seed, height, width, seed % 5, convention)
    out, moved = jitter(image, gt, seed)
    assert out.shape == (3, 48, 64)
    check_boxes(out, moved)
    assert set(moved.classes.tolist()) <= set(gt.classes.tolist())
    again, same = jitter(image, gt, seed)
    assert torch.equal(out, again) and torch.equal(moved.boxes, same.boxes)


def test_an_image_that_would_lose_its_boxes_is_not_cropped():
    """At most a quarter of the box would be visible, and min_visible is 1."""
    image, gt = painted(48, 64, [[0, 0, 63, 47]])
    for seed in range(5):
        out, moved = jitter(image, gt, seed, scale=(2.0, 2.0), min_visible=1.0)
        assert torch.equal(out, image) and torch.equal(moved.boxes, gt.boxes)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1)])
def test_extreme_images(size):
    out, moved = jitter(torch.zeros(3, *size, dtype=torch.uint8), EMPTY)
    assert out.shape == (3, 48, 64) and len(moved) == 0


def test_memory_order_of_images():
    assert jitter(*painted(9, 9, [[1, 1, 7, 7]]))[0].permute(1, 2, 0).is_contiguous()
