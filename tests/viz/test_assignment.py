"""Tests pictures of an assignment by their pixels."""

import torch

from dynamic_atss.modeling.priors import PointGenerator
from dynamic_atss.types import Assignment, Batch, GroundTruth
from dynamic_atss.viz import assignment
from dynamic_atss.viz.draw import class_color

NAMES = ["cat", "dog"]


def scene():
    """Makes an image of 64 x 64 with two boxes, and one of 48 x 64 with one box."""
    boxes = torch.tensor([[8.0, 8, 40, 40], [44, 44, 60, 60], [8, 8, 56, 40]])
    gt = GroundTruth(boxes, torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]))
    images = torch.full((2, 3, 64, 64), 128, dtype=torch.uint8)
    batch = Batch(images, torch.tensor([[64, 64], [48, 64]]), gt, (7, 8), ((64, 64), (48, 64)))
    priors = PointGenerator((8, 16))(((8, 8), (4, 4)), torch.device("cpu"))
    index = torch.full((2, len(priors)), -1)
    index[0, 8 * 2 + 2] = 0  # the point (20, 20) of stride 8
    index[0, 64 + 4 * 1 + 1] = 0  # (24, 24) of stride 16
    index[1, 8 * 3 + 4] = 2  # (36, 28)
    return batch, priors, Assignment(index, torch.where(index < 0, 0.0, 1.0))


def test_a_prior_is_a_dot_in_the_colour_of_its_box():
    """Draws at the stored size, so that pixels can be compared."""
    batch, priors, found = scene()
    first, second = assignment.draw_assignment(batch, priors, found, NAMES, short_side=1)
    assert first.shape == (3, 64, 64) and second.shape == (3, 48, 64)
    for picture, place in ((first, (20, 20)), (first, (24, 24)), (second, (28, 36))):
        assert tuple(picture[:, place[0], place[1]].tolist()) == class_color(0)  # the first box
    assert tuple(first[:, 60, 4].tolist()) == (128, 128, 128)  # a prior that learns nothing
    assert (batch.images == 128).all()


def test_captions_count_the_priors_and_a_box_without_priors_is_dashed(monkeypatch):
    drawn = []

    def keep(image, boxes, labels, **more):
        drawn.append((boxes.tolist(), labels, more["dashed"]))
        return image

    monkeypatch.setattr(assignment, "draw_boxes", keep)
    batch, priors, found = scene()
    pictures = assignment.draw_assignment(batch, priors, found, NAMES, short_side=128)
    assert [tuple(p.shape) for p in pictures] == [(3, 128, 128), (3, 128, 171)]
    assert [(labels, dashed) for _, labels, dashed in drawn] == [
        (["cat 2", "dog 0"], [False, True]),
        (["dog 1"], [False]),
    ]
    assert drawn[0][0][0] == [16, 16, 80, 80]
    assert len(assignment.draw_assignment(batch, priors, found, NAMES, count=1)) == 1


def test_a_prior_of_weight_0_and_a_region_are_no_dots():
    batch, priors, found = scene()
    weight = torch.ones_like(found.quality)
    weight[0, 8 * 2 + 2] = 0
    index = found.gt_index.clone()
    index[0, 64 + 4 * 1 + 1] = 5  # a region, which follows the objects
    changed = Assignment(index, found.quality, weight)
    [first, _] = assignment.draw_assignment(batch, priors, changed, NAMES, short_side=1)
    for place in (20, 24):
        assert tuple(first[:, place, place].tolist()) == (128, 128, 128)
