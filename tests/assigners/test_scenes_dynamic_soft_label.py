"""Compares RTMDet's dynamic soft labels with a double loop and with hand-made cases."""

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


def offers(s, t, priors, radius, iou_weight):
    """Gives {prior: (cost, IoU)} of box t."""
    box, label, n = s["boxes"][t], s["classes"][t], s["images"][t]
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    found = {}
    for p in priors:
        u, point = iou(s["predicted"][n][p], box), s["points"][p]
        away = hypot(point[0] - x, point[1] - y) / s["strides"][p]
        found[p] = cost_of(s["logits"][n][p], label, u, away, radius, iou_weight), u
    return found


def taken(offered, topk):
    """Gives the cheapest priors, as many as the largest IoUs add up to."""
    largest = sorted((u for _, u in offered.values()), reverse=True)[:topk]
    by_cost = sorted(offered, key=lambda p: (offered[p][0], p))
    return by_cost[: max(int(sum(largest)), 1)]


def double_loop(s, radius, topk, iou_weight, candidates):
    answer, everyone = {}, range(len(s["points"]))
    for n in range(len(s["predicted"])):
        here = [t for t in range(len(s["boxes"])) if s["images"][t] == n]
        inside = {
            t: [p for p in everyone if nearest_side(s["points"][p], s["boxes"][t]) > 0]
            for t in here
        }
        known = sorted({p for priors in inside.values() for p in priors})
        known = {t: known if candidates == "image" else inside[t] for t in here}
        offered = {t: offers(s, t, known[t], radius, iou_weight) for t in here}
        takers = {}
        for t in here:
            for p in taken(offered[t], topk):
                takers.setdefault(p, []).append(t)
        for p, boxes in takers.items():
            rivals = here if candidates == "image" and len(boxes) > 1 else boxes
            owner = min(rivals, key=lambda t: (offered[t][p][0], t))
            answer[n, p] = (owner, offered[owner][p][1])
    return answer


@pytest.mark.parametrize("candidates", ["image", "box"])
def test_double_loop_agrees(candidates):
    rng, positives = random.Random(6), 0
    for _ in range(150):
        scene = random_scene(rng, ("square", "three", "points"))
        arguments = rng.choice(((3.0, 13, 3.0), (3.0, 13, 3.0), (1.0, 4, 1.0), (0.0, 20, 0.0)))
        answer = double_loop(unpacked(*scene), *arguments, candidates)
        agree(DynamicSoftLabel(*arguments, candidates=candidates)(*scene), answer)
        positives += len(answer)
    assert positives > 600


@pytest.mark.parametrize("candidates, positives", [("image", 1), ("box", 0)])
def test_a_box_without_a_prior_inside_takes_one_of_another_box(candidates, positives):
    points = PointGenerator((8,))(((4, 4),), torch.device("cpu"))
    boxes = torch.tensor([[0.0, 0, 32, 32], [14, 14, 17, 17]])
    gt = GroundTruth(boxes, torch.tensor([0, 0]), torch.tensor([0, 0]))
    predicted = boxes[0].repeat(1, 16, 1)
    predicted[0, 5] = boxes[1]
    found = DynamicSoftLabel(candidates=candidates)(
        points, gt, Predictions(predicted, torch.zeros(1, 16, 1))
    )
    assert (found.gt_index == 1).sum() == positives


def test_far_priors_of_a_huge_box_are_told_apart():
    """A float32 overflows at 10^38, so priors 42 strides or more from the centre would tie."""
    points = PointGenerator((8,))(((1, 100),), torch.device("cpu"))
    box = torch.tensor([[-44.0, 0, 2356, 8]])  # 45 to 144 strides to the right of the priors
    gt = GroundTruth(box, torch.tensor([0]), torch.tensor([0]))
    predictions = Predictions(box.expand(1, 100, 4), torch.zeros(1, 100, 1))
    result = DynamicSoftLabel()(points, gt, predictions)
    assert result.positive[0].nonzero()[:, 0].tolist() == list(range(87, 100))


@pytest.mark.parametrize("arguments", [{"radius": -1.0}, {"topk": 0}, {"iou_weight": -1.0}])
def test_wrong_arguments(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=rf"{name} is .*; it must be an? \w+ of at least"):
        DynamicSoftLabel(**arguments)
