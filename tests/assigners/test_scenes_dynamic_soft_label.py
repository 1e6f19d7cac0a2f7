"""RTMDet's dynamic soft labels beside a double loop, and by hand."""

import random
from math import hypot, log

import pytest
import torch
from scenes import CLASSES, agree, cross_entropy, iou, nearest_side, random_scene, sigmoid, unpacked

from dynamic_atss.assigners.rules.dynamic_soft_label import DynamicSoftLabel
from dynamic_atss.modeling.priors import PointGenerator
from dynamic_atss.types import GroundTruth, Predictions


def cost_of(logits, label, u, away, radius, iou_weight):
    targets = [u if c == label else 0.0 for c in range(CLASSES)]
    quality_focal = sum(
        cross_entropy(x, t) * (t - sigmoid(x)) ** 2 for x, t in zip(logits, targets, strict=True)
    )
    return quality_focal - iou_weight * log(u + 1e-7) + 10 ** (away - radius)


def double_loop(scene, radius, topk, iou_weight):
    s, winners = scene, {}
    for t, (box, label, n) in enumerate(zip(s["boxes"], s["classes"], s["images"], strict=True)):
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        inside = []
        for p, (point, stride) in enumerate(zip(s["points"], s["strides"], strict=True)):
            if nearest_side(point, box) > 0:
                u = iou(s["predicted"][n][p], box)
                away = hypot(point[0] - x, point[1] - y) / stride
                cost = cost_of(s["logits"][n][p], label, u, away, radius, iou_weight)
                inside.append((cost, p, u))
        count = max(int(sum(sorted((u for _, _, u in inside), reverse=True)[:topk])), 1)
        for cost, p, u in sorted(inside)[:count]:
            if cost < winners.get((n, p), (0, float("inf")))[1]:
                winners[n, p] = (t, cost, u)
    return {place: (t, u) for place, (t, _, u) in winners.items()}


def test_double_loop_agrees():
    rng, positives = random.Random(6), 0
    for _ in range(200):
        scene = random_scene(rng, ("square", "three", "points"))
        arguments = rng.choice(((3.0, 13, 3.0), (3.0, 13, 3.0), (1.0, 4, 1.0), (0.0, 20, 0.0)))
        answer = double_loop(unpacked(*scene), *arguments)
        agree(DynamicSoftLabel(*arguments)(*scene), answer)
        positives += len(answer)
    assert positives > 800


def test_far_priors_of_a_huge_box_are_told_apart():
    """A float32 holds no more than 10^38: priors 42 strides and more from the centre would tie."""
    points = PointGenerator((8,))(((1, 100),), torch.device("cpu"))
    box = torch.tensor([[-44.0, 0, 2356, 8]])  # 45 to 144 strides to the right of the priors
    gt = GroundTruth(box, torch.tensor([0]), torch.tensor([0]))
    predictions = Predictions(box.expand(1, 100, 4), torch.zeros(1, 100, 1))
    result = DynamicSoftLabel()(points, gt, predictions)
    assert result.positive[0].nonzero()[:, 0].tolist() == list(range(87, 100))


@pytest.mark.parametrize("arguments", [{"radius": -1.0}, {"topk": 0}, {"iou_weight": -1.0}])
def test_wrong_arguments(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"{name} is .*; it must be a .*number of at least"):
        DynamicSoftLabel(**arguments)
