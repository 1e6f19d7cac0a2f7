"""Rules that rank all priors of an image give the same labels on a CPU and as on a GPU."""

import random

import pytest
import torch
from scenes import random_scene

from dynamic_atss.assigners import all_priors
from dynamic_atss.assigners.reference.inside import VECTOR
from dynamic_atss.assigners.rules import dynamic_soft_label, simota
from dynamic_atss.assigners.rules.dynamic_soft_label import DynamicSoftLabel
from dynamic_atss.assigners.rules.simota import SimOTA
from dynamic_atss.assigners.rules.task_aligned import TaskAligned

# Small radii and weights often leave a box too few candidates of its own, or too few cheap ones.
RULES = (
    SimOTA(),
    SimOTA(radius=0.5, topk=20),
    TaskAligned(),
    TaskAligned(topk=100),
    DynamicSoftLabel(),
    DynamicSoftLabel(radius=0.0, topk=20, iou_weight=0.1),
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_all_ways_give_the_same(rule, monkeypatch):
    rng, positives = random.Random(8), 0
    for _ in range(60):
        scene = random_scene(rng, ("square", "three", "points"))
        expected = rule(*scene).gt_index
        positives += (expected >= 0).sum()
        with monkeypatch.context() as changed:
            changed.setattr(all_priors, "MAX_PAIRS", 1)  # one box at a time
            assert torch.equal(rule(*scene).gt_index, expected)
        with monkeypatch.context() as changed:  # as on a GPU
            for module in (all_priors, dynamic_soft_label, simota):
                changed.setattr(module, "readable", lambda values: False)
            assert torch.equal(rule(*scene).gt_index, expected)
    assert positives > 200


def test_a_list_is_as_long_as_the_longest_of_an_image():
    flags = torch.tensor([[0, 1, 0, 1], [0, 0, 0, 1]]).bool()
    for most in (4, 100):
        prior, exists = all_priors.list_flagged(flags, most)
        assert prior.shape == exists.shape == (2, VECTOR)
        assert prior[:, :2].tolist() == [[1, 3], [3, 0]]
        assert exists.nonzero().tolist() == [[0, 0], [0, 1], [1, 0]]


def test_pairs_without_overlap_are_left_out():
    priors, gt, predictions = random_scene(random.Random(5), ("square",))
    every = all_priors.every_prior(predictions)
    found = 0
    for box, pairs, overlap in all_priors.overlapping_pairs(priors, gt, predictions, *every):
        assert (overlap[pairs.exists] > 0).all() and torch.isin(pairs.box, box).all()
        assert (pairs.box.diff() >= 0).all() and len(overlap) % VECTOR == 0
        assert len(overlap) - pairs.exists.sum() < VECTOR
        found += int(pairs.exists.sum())
    assert 0 < found < len(gt) * len(priors)
