"""Compares DW with a double loop and with hand-made cases."""

import random
from math import exp

import pytest
import torch
from scenes import iou, nearest_side, random_scene, sigmoid, unpacked

from dynamic_atss.assigners.rules.dw import DW
from dynamic_atss.modeling.priors import PointGenerator
from dynamic_atss.types import GroundTruth, Predictions


def giou(a, b):
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    area = sum((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b))
    union = area / (1 + iou(a, b))
    return iou(a, b) - (hull - union) / hull


def positive_weights(s, t, sigma, beta, mu):
    """Gives {prior: weight} of box t."""
    box, label, n = s["boxes"][t], s["classes"][t], s["images"][t]
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    share, total = {}, 0.0
    for p, point in enumerate(s["points"]):
        if nearest_side(point, box) > 0:
            score = sigmoid(s["logits"][n][p][label])
            score *= exp(-beta * (1 - giou(s["predicted"][n][p], box)))
            away = ((point[0] - x) ** 2 + (point[1] - y) ** 2) / s["strides"][p] ** 2
            near = exp(-away / (2 * sigma**2))
            total += exp(3 * score) * score * near
            share[p] = exp(mu * score) * score * near
    return {p: value / max(total, 1e-12) for p, value in share.items()}


def negative_weights(s, t, priors):
    box, n = s["boxes"][t], s["images"][t]
    overlap = {p: iou(s["predicted"][n][p], box) for p in priors}
    fall = {p: (1 - u * u) / 0.75 for p, u in overlap.items()}
    low, high = min(fall.values(), default=0), min(1, max(fall.values(), default=0))
    return {
        p: (fall[p] - low + 1e-12) / (high - low + 1e-12) if u >= 0.5 else 1.0
        for p, u in overlap.items()
    }


def double_loop(scene, *arguments):
    """Gives {(image, prior): {gt index: (positive weight, negative weight)}}."""
    answer = {}
    for t, n in enumerate(scene["images"]):
        positive = positive_weights(scene, t, *arguments)
        negative = negative_weights(scene, t, positive)
        for p, weight in positive.items():
            answer.setdefault((n, p), {})[t] = weight, negative[p]
    return answer


def test_double_loop_agrees():
    rng, positives, half = random.Random(22), 0, 0
    for _ in range(200):
        scene = random_scene(rng, ("square", "three", "points"))
        arguments = rng.choice(((1.11, 5.0, 5.0), (1.11, 5.0, 5.0), (3.0, 1.0, 0.0)))
        answer = double_loop(unpacked(*scene), *arguments)
        found = DW(*arguments)(*scene)
        places = (found.gt_index >= 0).nonzero().tolist()
        assert {(n, p) for n, p in places} == {*answer}
        chosen = {place: boxes[found.gt_index[place].item()] for place, boxes in answer.items()}
        unlike_background = max(sum(1 - negative for _, negative in chosen.values()), 1)
        divisors = [max(len(scene[1]), 1), 0.75 * unlike_background]
        assert found.divisors.tolist() == pytest.approx(divisors, rel=1e-4)
        for (n, p), (weight, negative) in chosen.items():
            assert weight >= max(w for w, _ in answer[n, p].values()) * (1 - 1e-12)
            assert found.weight[n, p].item() == pytest.approx(0.25 * weight, rel=1e-5, abs=1e-12)
            assert found.negative[n, p].item() == pytest.approx(negative, rel=1e-5, abs=1e-6)
            half += 0 < negative < 1
        positives += len(answer)
    assert positives > 2000 and half > 30


def test_the_negative_weight_falls_from_a_half_to_the_best():
    """IoUs of 0.3, 0.5, 0.8 and 1 give 1, 1, (1 - 0.64) / 0.75 and 0."""
    points = PointGenerator((8,))(((1, 4),), torch.device("cpu"))
    box = torch.tensor([[0.0, 0, 32, 8]])
    gt = GroundTruth(box, torch.tensor([0]), torch.tensor([0]))
    boxes = box.repeat(4, 1)
    boxes[:, 2] *= torch.tensor([0.3, 0.5, 0.8, 1.0])
    found = DW()(points, gt, Predictions(boxes[None], torch.zeros(1, 4, 1)))
    assert found.negative[0].tolist() == pytest.approx([1, 1, 0.48, 0], abs=1e-6)
    assert found.gt_index.tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize("arguments", [{"sigma": 0}, {"beta": -1.0}, {"mu": "x"}])
def test_wrong_arguments(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=rf"{name} is .*; it must be an? \w+ of at least"):
        DW(**arguments)
