"""Colour jitter changes colours by its factors, and leaves boxes unchanged."""

import numpy as np
import pytest
import torch
from helpers_scenes import EMPTY, random_scene
from torchvision.transforms.v2 import functional

from dynamic_atss.data.color import ColorJitter, adjust_contrast


def jitter(image, gt, seed=0, **strength):
    amounts = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, **strength}
    return ColorJitter(**amounts)(image, gt, np.random.default_rng(seed))


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0, 1.9])
def test_contrast_is_torchvisions(factor):
    image, _ = random_scene(0, 40, 50, 0)
    ours = adjust_contrast(image, factor)
    difference = (ours.int() - functional.adjust_contrast(image, factor).int()).abs()
    # torchvision's float32 mean rounds, and the conversion to uint8 may turn that into a level.
    assert difference.max() <= 1 and difference.float().mean() < 0.01


def test_contrast_does_not_depend_on_the_number_of_threads():
    image, _ = random_scene(0, 640, 800, 0)
    threads = torch.get_num_threads()
    try:
        results = [(torch.set_num_threads(n), adjust_contrast(image, 0.77))[1] for n in (1, 4)]
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)


def test_brightness_is_a_factor_of_its_range():
    image = torch.full((3, 4, 5), 100, dtype=torch.uint8)
    values = {int(jitter(image, EMPTY, s, brightness=0.4)[0][0, 0, 0]) for s in range(300)}
    assert min(values) in (60, 61) and max(values) in (139, 140) and len(values) > 60


def test_factors_are_never_negative():
    image = torch.full((3, 4, 5), 100, dtype=torch.uint8)
    for seed in range(50):
        assert jitter(image, EMPTY, seed, brightness=3.0)[0].dtype == torch.uint8


def test_saturation_leaves_grey_and_hue_turns_the_circle():
    grey = torch.full((3, 6, 7), 90, dtype=torch.uint8)
    assert (jitter(grey, EMPTY, saturation=0.9)[0].int() - 90).abs().max() <= 1
    assert torch.equal(jitter(grey, EMPTY, hue=0.5)[0], grey)
    red = torch.tensor([255, 0, 0], dtype=torch.uint8)[:, None, None].repeat(1, 3, 3)
    factor = np.random.default_rng(0)
    factor.permutation(1)
    turned = functional.adjust_hue(red, float(factor.uniform(-0.5, 0.5)))
    assert torch.equal(jitter(red, EMPTY, hue=0.5)[0], turned) and not torch.equal(turned, red)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (17, 23)])
def test_deterministic_and_boxes_stay(size):
    image, gt = random_scene(3, *size, 2 if min(size) > 3 else 0)
    before = image.clone()
    strength = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.2}
    first, same = jitter(image, gt, 7, **strength)
    assert same is gt and first.shape == image.shape and first.dtype == torch.uint8
    assert torch.equal(first, jitter(image, gt, 7, **strength)[0])
    assert torch.equal(image, before)


def test_without_changes_the_image_is_returned():
    image, gt = random_scene(3, 9, 9, 1)
    assert jitter(image, gt)[0].data_ptr() == image.data_ptr()


def test_memory_order_of_images():
    image, gt = random_scene(0, 20, 30, 2)
    assert jitter(image, gt, brightness=0.4, hue=0.1)[0].permute(1, 2, 0).is_contiguous()
