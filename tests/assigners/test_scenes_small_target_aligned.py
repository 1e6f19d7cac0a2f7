"""Compares small-target-aware task alignment with a double loop and with hand-made cases."""

import random

import pytest
import torch
from scenes import STRIDES, agree, iou, nearest_side, random_scene, sigmoid, unpacked

from dynamic_atss.assigners.rules.small_target_aligned import SmallTargetAligned
from dynamic_atss.modeling.priors import PointGenerator
from dynamic_atss.types import GroundTruth, Predictions


def widened(box, small, side):
    wide = list(box)
    for axis in (0, 1):
        length, center = box[axis + 2] - box[axis], (box[axis] + box[axis + 2]) / 2
        if length < small * STRIDES[0]:
            half = side * STRIDES[0] / 2
            wide[axis], wide[axis + 2] = center - half, center + half
    return wide


def double_loop(scene, topk, per_box, alpha, beta, small, side):
    s, winners = scene, {}
    for t, (box, label, n) in enumerate(zip(s["boxes"], s["classes"], s["images"], strict=True)):
        candidates = []
        for p, point in enumerate(s["points"]):
            u = iou(s["predicted"][n][p], box)
            if nearest_side(point, widened(box, small, side)) > 0.01 and u > 0:
                aligned = sigmoid(s["logits"][n][p][label]) ** alpha * u**beta
                candidates.append((-aligned, p, u))
        for negative, p, u in sorted(candidates)[:topk]:
            if u > winners.get((n, p), (0, 0, 0))[1]:
                winners[n, p] = (t, u, -negative)
    answer = {}
    for t in range(len(s["boxes"])):
        positives = [(-x[2], place, x[1]) for place, x in winners.items() if x[0] == t]
        positives = sorted(positives)[:per_box]
        for negative, place, _ in positives:
            largest = max(u for _, _, u in positives)
            answer[place] = (t, negative / positives[0][0] * largest)
    return answer


def test_double_loop_agrees():
    rng, positives, beyond = random.Random(26), 0, 0
    for _ in range(200):
        scene = random_scene(rng, ("square", "three", "points"))
        arguments = (rng.choice((4, 10)), rng.choice((1, 3, 10)), 0.5, 6.0)
        sizes = rng.choice(((1.0, 2.0), (1.0, 2.0), (2.0, 3.0), (0.0, 0.0)))
        answer = double_loop(unpacked(*scene), *arguments, *sizes)
        agree(SmallTargetAligned(*arguments, *sizes)(*scene), answer)
        positives += len(answer)
        points, boxes = scene[0].centers, scene[1].boxes
        beyond += sum(
            nearest_side(points[p].tolist(), boxes[t].tolist()) < 0
            for (_, p), (t, _) in answer.items()
        )
    assert positives > 600 and beyond > 60


@pytest.mark.parametrize("per_box, positives", [(None, 10), (3, 3), (1, 1)])
def test_a_box_keeps_its_best(per_box, positives):
    points = PointGenerator((8,))(((20, 20),), torch.device("cpu"))
    box = torch.tensor([[40.0, 40, 140, 140]])
    gt = GroundTruth(box, torch.tensor([0]), torch.tensor([0]))
    logits = torch.arange(400.0).view(1, 400, 1) / 100  # the last are the best
    predictions = Predictions(box.expand(1, 400, 4), logits)
    result = SmallTargetAligned(per_box=per_box)(points, gt, predictions)
    inside = [p for p, c in enumerate(points.centers.tolist()) if nearest_side(c, box[0]) > 0.01]
    assert result.positive[0].nonzero()[:, 0].tolist() == inside[-positives:]
    assert result.quality.max() == 1


@pytest.mark.parametrize(
    "place, candidates",
    [((80.0, 80.0), 4), ((81.5, 86.25), 4), ((84.0, 81.5), 2), ((84.0, 84.0), 1)],
)
def test_a_box_smaller_than_a_stride_has_candidates_of_the_finest_level(place, candidates):
    """It has four, or fewer if some lie on the border of the region. Without the wider region it
    would have one only at its centre."""
    points = PointGenerator((8, 16))(((20, 20), (10, 10)), torch.device("cpu"))
    x, y = place
    box = torch.tensor([[x - 1.0, y - 1, x + 1, y + 1]])
    gt = GroundTruth(box, torch.tensor([0]), torch.tensor([0]))
    predictions = Predictions(box.expand(1, 500, 4), torch.zeros(1, 500, 1))
    found = SmallTargetAligned()(points, gt, predictions).positive[0]
    assert found[:400].sum() == candidates
    plain = SmallTargetAligned(small=0.0, side=0.0)(points, gt, predictions).positive[0]
    assert plain.sum() == (candidates == 1)


@pytest.mark.parametrize(
    "arguments", [{"topk": 0}, {"per_box": 0}, {"alpha": -1}, {"side": 0.5}, {"small": "x"}]
)
def test_wrong_arguments(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=rf"{name} is .*; it must be an? \w+ of at least"):
        SmallTargetAligned(**arguments)
