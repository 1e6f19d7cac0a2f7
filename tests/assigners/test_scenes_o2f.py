"""Compares o2f with a double loop and with hand-made cases."""

import random
from dataclasses import replace

import pytest
import torch
from scenes import agree, iou, nearest_side, random_scene, sigmoid, unpacked

from dynamic_atss.assigners.rules.o2f import O2F
from dynamic_atss.modeling.priors import PointGenerator
from dynamic_atss.types import GroundTruth, Predictions


def center_region(box, reach):
    center = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]
    low = [max(c - reach, v) for c, v in zip(center, box[:2], strict=True)]
    return low + [min(c + reach, v) for c, v in zip(center, box[2:], strict=True)]


def winners_of(scene, topk, power, radius):
    """Gives {(image, prior): (gt index, score, class score)}."""
    s, winners = scene, {}
    for t, (box, label, n) in enumerate(zip(s["boxes"], s["classes"], s["images"], strict=True)):
        candidates = []
        for p, (point, stride) in enumerate(zip(s["points"], s["strides"], strict=True)):
            if nearest_side(point, center_region(box, radius * stride)) > 0:
                score = sigmoid(s["logits"][n][p][label])
                both = score ** (1 - power) * iou(s["predicted"][n][p], box) ** power
                candidates += [(-both, p, score)] * (both > 0)
        for negative, p, score in sorted(candidates)[:topk]:
            if -negative > winners.get((n, p), (0, 0, 0))[1]:
                winners[n, p] = (t, -negative, score)
    return winners


def double_loop(scene, topk, power, radius, factor):
    winners, answer, best = winners_of(scene, topk, power, radius), {}, set()
    for t in range(len(scene["boxes"])):
        positives = sorted((-x[1], place, x[2]) for place, x in winners.items() if x[0] == t)
        for rank, (_, place, score) in enumerate(positives):
            largest = max(x for _, _, x in positives[1:]) if rank else 1
            answer[place] = (t, score / largest * factor if rank else 1.0)
            best |= set() if rank else {place}
    return answer, best


def test_double_loop_agrees():
    rng, positives = random.Random(23), 0
    for _ in range(200):
        scene = random_scene(rng, ("square", "three", "points"))
        arguments = rng.choice(((7, 0.8, 1.5), (7, 0.8, 1.5), (3, 0.5, 2.5), (20, 1.0, 1.0)))
        rule = O2F(*arguments, iterations=7)  # the scenes have iterations 0 to 9
        factor = 0.6 - 0.4 * min(scene[2].iteration / 6, 1)
        answer, best = double_loop(unpacked(*scene), *arguments, factor)
        found = rule(*scene)
        agree(found, answer)
        for n, p in answer:
            assert found.weight[n, p] == (1 if (n, p) in best else pytest.approx(0.4))
        positives += len(answer)
    assert positives > 1000


def test_labels_fall_during_the_training():
    """Four points around a box's centre predict perfect boxes with scores of 0.8, 0.4 and 0.2."""
    points = PointGenerator((8,))(((2, 2),), torch.device("cpu"))
    box = torch.tensor([[0.0, 0, 16, 16]])
    gt = GroundTruth(box, torch.tensor([0]), torch.tensor([0]))
    logits = torch.tensor([0.4, 0.8, 0.2, 0.1]).logit().view(1, 4, 1)
    predictions = Predictions(box.expand(1, 4, 4), logits)
    rule = O2F(iterations=101)
    for iteration, factor in ((0, 0.6), (50, 0.4), (100, 0.2), (1000, 0.2)):
        found = rule(points, gt, replace(predictions, iteration=iteration))
        labels = [factor, 1, factor / 2, factor / 4]
        assert found.quality[0].tolist() == pytest.approx(labels)
        assert found.weight[0].tolist() == pytest.approx([0.4, 1, 0.4, 0.4])


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"topk": 0}, "topk is 0; it must be an integer of at least 1"),
        ({"iterations": 0}, "iterations is 0; it must be an integer"),
        ({"radius": 0.0}, "radius is 0.0; it must be a number of at least 0.5"),
        ({"power": 1.5}, "power is 1.5; it must be at most 1"),
        ({"labels": (0.5,)}, r"labels is \(0.5,\); give two numbers from 0 to 1"),
        ({"labels": (0.5, 2)}, r"labels is \(0.5, 2\); give two numbers from 0 to 1"),
    ],
)
def test_wrong_arguments(arguments, match):
    with pytest.raises(ValueError, match=match):
        O2F(**arguments)
