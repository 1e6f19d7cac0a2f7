"""Boxes that no prior learns, on a lattice for which they are known."""

import pytest
import torch
from helpers_data import box, open_coco, write_coco

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.assigners.at_least_one import AtLeastOne
from dynamic_atss.data.survey import Matching, boxes_without_prior
from dynamic_atss.modeling.priors import AnchorGenerator

# Priors are at 4, 12, ..., 36, 44, 52, ... The first box contains two per row, the others are
# between priors. Twice as large, each of these contains one (76 and 92).
BOXES = [[2, 2, 12, 12], [37, 37, 6, 6], [45, 45, 5, 5]]


def matching(rule, scale=1):
    generator = AnchorGenerator((8,), (16,))
    return Matching(
        resize=lambda h, w: (h * scale, w * scale),
        priors=lambda h, w: generator([(h // 8, w // 8)], torch.device("cpu")),
        assign=rule,
        size="at that size",
    )


@pytest.fixture
def dataset(tmp_path):
    annotations = [box(i, 1, b) for i, b in enumerate(BOXES)] + [box(9, 1, [1, 1, 3, 3], iscrowd=1)]
    return open_coco(
        write_coco(tmp_path, {1: (64, 64), 2: (64, 64)}, annotations), keep_crowds=True
    )


@pytest.mark.parametrize("name", ["atss", "dynamic_atss", "topk"])
def test_boxes_between_the_priors(dataset, name):
    (finding,) = boxes_without_prior(dataset, matching(ASSIGNERS[name]()))
    assert finding.count == 2 and finding.level == "warning"
    assert "2 of 3 boxes (66.7%) have no anchor or point (prior)" in finding.line
    assert "learns them at that size, such as" in finding.line
    assert "6.0 x 6.0 pixels in '1.png'" in finding.line


def test_at_a_larger_size_all_boxes_have_priors(dataset):
    assert not list(boxes_without_prior(dataset, matching(ASSIGNERS["atss"](), scale=2)))


def test_rules_that_give_every_box_a_prior(dataset):
    for rule in (ASSIGNERS["max_iou"](), AtLeastOne(ASSIGNERS["atss"]())):
        assert not list(boxes_without_prior(dataset, matching(rule)))


def test_large_sets_are_sampled(dataset, monkeypatch):
    monkeypatch.setattr("dynamic_atss.data.survey.priors.MOST_IMAGES", 1)
    monkeypatch.setattr(type(dataset), "__len__", lambda self: 4)
    dataset.image_ids = dataset.image_ids * 4
    (finding,) = boxes_without_prior(dataset, matching(ASSIGNERS["atss"]()))
    assert "in 1 of 4 images" in finding.line
