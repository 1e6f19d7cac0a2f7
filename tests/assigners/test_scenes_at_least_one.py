"""Compares `AtLeastOne` with a loop and with hand-made cases."""

import random

import numpy as np
import pytest
import torch
from oracle import candidates
from scenes import agree, iou, random_scene, unpacked

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.assigners.at_least_one import AtLeastOne
from dynamic_atss.modeling.priors import AnchorGenerator
from dynamic_atss.types import IGNORE, Assignment, GroundTruth, Predictions


class Fixed:
    """A rule that returns a given assignment."""

    soft_labels, quality_name, needs_size = False, "IoU", False

    def __init__(self, assignment):
        self.assignment = assignment

    def __call__(self, priors, gt, predictions):
        return self.assignment


def random_assignment(rng, priors, gt):
    """Gives priors to some boxes, and ignores some priors."""
    index = torch.full((2, len(priors)), -1)
    for t, n in enumerate(gt.image_index.tolist()):
        if rng.random() < 0.3:
            index[n, rng.randrange(len(priors))] = t
    for n in (0, 1):
        ignored = torch.tensor([rng.random() < 0.2 for _ in range(len(priors))])
        index[n] = torch.where(ignored & (index[n] < 0), IGNORE, index[n])
    return Assignment(index, torch.where(index >= 0, 0.25, 0.0))


def reference(s, p, sized):
    if sized:
        return s["anchors"][p]
    half, (x, y) = (8 * s["strides"][p] - 1) / 2, s["points"][p]
    return [x - half, y - half, x + half, y + half]


def loop(s, priors, given, topk, rounds):
    """Handles box after box and round after round."""
    maps = [(level.height, level.width) for level in priors.levels]
    answer = {
        (n, p): (t, 0.25)
        for n, row in enumerate(given.gt_index.tolist())
        for p, t in enumerate(row)
        if t >= 0
    }
    for _ in range(rounds):
        learnt, wishes = {t for t, _ in answer.values()}, {}
        for t, (box, n) in enumerate(zip(s["boxes"], s["images"], strict=True)):
            if t in learnt:
                continue
            center = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]
            chosen, _ = candidates(s["points"], maps, priors.per_location, center, topk)
            best, place = 0.0, None
            for p in chosen:
                u = np.float32(iou(reference(s, p, priors.sized), box, 1))
                if (n, p) not in answer and u > best:
                    best, place = u, (n, p)
            if place and best > wishes.get(place, (0, 0.0))[1]:
                wishes[place] = (t, best)
        for (n, p), (t, _) in wishes.items():
            answer[n, p] = (t, max(iou(s["predicted"][n][p], s["boxes"][t], 1), 0.5))
    return answer


def test_loop_agrees():
    rng, given_more, ended_without = random.Random(9), 0, 0
    for _ in range(200):
        kinds = ("square", "three", "points")
        priors, gt, predictions = random_scene(rng, kinds, torch.float32, step=0.25, largest=5)
        given = random_assignment(rng, priors, gt)
        topk, rounds = rng.choice((1, 4, 9)), rng.choice((1, 2, 4))
        result = AtLeastOne(Fixed(given), topk, rounds)(priors, gt, predictions)
        answer = loop(unpacked(priors, gt, predictions), priors, given, topk, rounds)
        agree(result, answer)
        free = ~result.positive
        assert torch.equal(result.gt_index[free], given.gt_index[free])  # also ignored priors
        given_more += len(answer) - int(given.positive.sum())
        ended_without += len(gt) - len({t for t, _ in answer.values()})
    assert given_more > 300
    assert ended_without > 10  # crowds with few rounds


def tiny_boxes(count):
    """Makes boxes 3 pixels wide, one per stride of 8, that contain no location."""
    x = torch.arange(count) * 16.0 + 20.5
    boxes = torch.stack((x, x * 0 + 20.5, x + 3, x * 0 + 23.5), 1)
    return GroundTruth(boxes, torch.zeros(count).long(), torch.zeros(count).long())


@pytest.mark.parametrize("name", ["atss", "dynamic_atss", "fcos", "dsla", "task_aligned"])
def test_tiny_boxes_are_learnt(name):
    priors = AnchorGenerator((8, 16, 32), (64, 128, 256))(((16, 16), (8, 8), (4, 4)), "cpu")
    gt = tiny_boxes(6)
    predictions = Predictions(priors.boxes[None], torch.zeros(1, len(priors), 2))
    alone = ASSIGNERS[name]()(priors, gt, predictions)
    assert not alone.positive.any()
    result = AtLeastOne(ASSIGNERS[name]())(priors, gt, predictions)
    assert result.gt_index[result.positive].tolist() == list(range(6))
    assert (result.quality[result.positive] == 0.5).all()
    away = (priors.centers[result.positive[0]] - gt.boxes[:, :2] - 1.5).abs().max()
    assert away <= 4  # the nearest location of the finest level


def test_a_good_prediction_keeps_its_iou():
    priors = AnchorGenerator((8,), (64,))(((8, 8),), "cpu")
    gt = tiny_boxes(1)
    boxes = gt.boxes.expand(1, len(priors), 4)
    result = AtLeastOne(ASSIGNERS["atss"]())(priors, gt, Predictions(boxes, torch.zeros(1, 64, 1)))
    assert result.quality.max() == 1


def test_speaks_for_its_rule():
    for name, make in ASSIGNERS.items():
        rule = make()
        wrapped = AtLeastOne(rule)
        for attribute in ("soft_labels", "quality_name"):
            assert getattr(wrapped, attribute) == getattr(rule, attribute)
        assert not wrapped.needs_size
        assert wrapped.waits == (name in ("paa", "poto", "simd"))
