"""SimOTA beside a double loop, and by hand."""

import random
from math import log

import pytest
import torch
from scenes import CLASSES, agree, cross_entropy, iou, random_scene, unpacked

from dynamic_atss.assigners.rules.simota import SimOTA
from dynamic_atss.modeling.priors import AnchorGenerator, PointGenerator
from dynamic_atss.types import GroundTruth, Predictions


def double_loop(scene, radius, topk, iou_weight):
    s, winners = scene, {}
    for t, (box, label, n) in enumerate(zip(s["boxes"], s["classes"], s["images"], strict=True)):
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        near = []
        for p, (point, stride) in enumerate(zip(s["points"], s["strides"], strict=True)):
            if max(abs(point[0] - x), abs(point[1] - y)) < radius * stride:
                u = iou(s["predicted"][n][p], box)
                logits = s["logits"][n][p]
                cost = sum(cross_entropy(logits[c], float(c == label)) for c in range(CLASSES))
                sides = (point[0] - box[0], point[1] - box[1], box[2] - point[0], box[3] - point[1])
                outside = 1e5 * (min(sides) <= 0)
                near.append((cost - iou_weight * log(u + 1e-8) + outside, p, u))
        count = max(int(sum(sorted((u for _, _, u in near), reverse=True)[:topk])), 1)
        for cost, p, u in sorted(near)[:count]:
            if cost < winners.get((n, p), (0, float("inf")))[1]:
                winners[n, p] = (t, cost, u)
    return {place: (t, u) for place, (t, _, u) in winners.items()}


def test_double_loop_agrees():
    rng, positives = random.Random(5), 0
    for _ in range(200):
        scene = random_scene(rng, ("square", "three", "points"))
        arguments = rng.choice(((2.5, 10, 3.0), (2.5, 10, 3.0), (1.5, 4, 1.0), (2.0, 20, 0.0)))
        answer = double_loop(unpacked(*scene), *arguments)
        agree(SimOTA(*arguments)(*scene), answer)
        positives += len(answer)
    assert positives > 800


def one_box(points, box, predicted, classes=1):
    count = len(points)
    boxes = torch.tensor(predicted).expand(1, count, 4)
    gt = GroundTruth(torch.tensor([box]), torch.tensor([0]), torch.tensor([0]))
    return SimOTA()(points, gt, Predictions(boxes, torch.zeros(1, count, classes)))


def test_as_many_as_the_iou_adds_up_to():
    """All predictions have an IoU of 0.45 with the box: floor(10 * 0.45) = 4 of 25 points a
    level."""
    points = PointGenerator((8,))(((20, 20),), torch.device("cpu"))
    result = one_box(points, [40.0, 40, 140, 140], [40.0, 40, 85, 140])
    assert result.positive.sum() == 4
    assert result.quality[result.positive].tolist() == pytest.approx([0.45] * 4)


@pytest.mark.parametrize("offset, lines", [(0.0, 5), (4.0, 4), (2.0, 5)])
def test_the_region_is_open(offset, lines):
    """Perfect predictions take the ten IoUs' sum; their points are 5 x 5, or 4 x 4 where the
    region's border lies on the points."""
    points = AnchorGenerator((8,), (64,))(((20, 20),), torch.device("cpu"))
    center = 84.0 + offset
    gt = GroundTruth(
        torch.tensor([[center - 30, center - 30, center + 30, center + 30]]),
        torch.tensor([0]),
        torch.tensor([0]),
    )
    boxes = gt.boxes.expand(1, len(points), 4)
    assigner = SimOTA(topk=100)
    result = assigner(points, gt, Predictions(boxes, torch.zeros(1, len(points), 1)))
    assert result.positive.sum() == lines**2
    away = (points.centers[result.positive[0]] - center).abs().max()
    assert away < 2.5 * 8


def test_points_outside_of_the_box_come_last():
    """A box of 10 x 30 holds one of five columns; it takes no other while that suffices."""
    points = PointGenerator((8,))(((20, 20),), torch.device("cpu"))
    box = [79.0, 65, 89, 95]  # one column, at 84, four rows
    result = one_box(points, box, [79.0, 65, 89, 83.5])  # an IoU above 0.6: six positives
    x, y = points.centers[result.positive[0]].unbind(1)
    assert len(x) == 6
    assert ((x == 84) & (y > 65) & (y < 95)).sum() == 4


@pytest.mark.parametrize("arguments", [{"radius": 0.0}, {"topk": 0}, {"iou_weight": -1.0}])
def test_wrong_arguments(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"{name} is .*; it must be a .*number of at least"):
        SimOTA(**arguments)
