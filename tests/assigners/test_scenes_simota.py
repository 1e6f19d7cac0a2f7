"""Compares SimOTA with a double loop and with hand-made cases."""

import random
from math import log

import pytest
import torch
from scenes import CLASSES, agree, cross_entropy, iou, nearest_side, random_scene, unpacked

from dynamic_atss.assigners.rules.simota import SimOTA
from dynamic_atss.modeling.priors import AnchorGenerator, PointGenerator
from dynamic_atss.types import GroundTruth, Predictions


def cost_and_iou(s, t, p):
    """Gives cost and IoU of box t and prior p, without the penalty."""
    box, label, n = s["boxes"][t], s["classes"][t], s["images"][t]
    u = iou(s["predicted"][n][p], box)
    logits = s["logits"][n][p]
    cost = sum(cross_entropy(logits[c], float(c == label)) for c in range(CLASSES))
    return cost - s["iou_weight"] * log(u + 1e-8), u


def near_center(s, t, p):
    box, point = s["boxes"][t], s["points"][p]
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return max(abs(point[0] - x), abs(point[1] - y)) < s["radius"] * s["strides"][p]


def taken(s, t, priors, comes_last):
    """Gives [(cost with penalty, prior, IoU)] of the cheapest among `priors`.

    Args:
        comes_last: flags of the priors that get the penalty.
    """
    offers = []
    for p in priors:
        cost, u = cost_and_iou(s, t, p)
        offers.append((cost + 1e6 * comes_last[p], p, u))
    count = max(int(sum(sorted((u for *_, u in offers), reverse=True)[: s["topk"]])), 1)
    return sorted(offers)[:count]


def of_image(s):
    """Assigns as the release does, with candidates and conflicts of the image."""
    boxes, every, answer = range(len(s["boxes"])), range(len(s["points"])), {}
    far = [[not near_center(s, t, p) for p in every] for t in boxes]
    for n in range(len(s["predicted"])):
        here = [t for t in boxes if s["images"][t] == n]
        candidates = [p for p in every if any(not far[t][p] for t in here)]
        takers = {}
        for t in here:
            for _, p, _ in taken(s, t, candidates, far[t]):
                takers.setdefault(p, []).append(t)
        for p, claimants in takers.items():
            # If several boxes claim the prior, any box of the image may win it.
            rivals = claimants if len(claimants) == 1 else here
            _, t = min((cost_and_iou(s, t, p)[0] + 1e6 * far[t][p], t) for t in rivals)
            answer[n, p] = (t, cost_and_iou(s, t, p)[1])
    return answer


def of_box(s):
    """Assigns with the priors near the box's centre. Those outside of the box come last."""
    winners = {}
    for t, (box, n) in enumerate(zip(s["boxes"], s["images"], strict=True)):
        near = [p for p in range(len(s["points"])) if near_center(s, t, p)]
        outside = [nearest_side(point, box) <= 0 for point in s["points"]]
        for cost, p, u in taken(s, t, near, outside):
            if cost < winners.get((n, p), (0, float("inf")))[1]:
                winners[n, p] = (t, cost, u)
    return {place: (t, u) for place, (t, _, u) in winners.items()}


LOOPS = {"image": of_image, "box": of_box}


@pytest.mark.slow
@pytest.mark.parametrize("candidates", LOOPS)
def test_double_loop_agrees(candidates):
    rng, positives = random.Random(5), 0
    for _ in range(200):
        scene = random_scene(rng, ("square", "three", "points"))
        usual = {"radius": 1.5 if candidates == "image" else 2.5, "topk": 10, "iou_weight": 3.0}
        arguments = rng.choice(
            (
                *(usual, usual, {"radius": 1.5, "topk": 4, "iou_weight": 1.0}),
                {"radius": 2.0, "topk": 20, "iou_weight": 0.0},
            )
        )
        answer = LOOPS[candidates](unpacked(*scene) | arguments)
        agree(SimOTA(**arguments, candidates=candidates)(*scene), answer)
        positives += len(answer)
    assert positives > 800


def one_box(points, box, predicted, classes=1, **arguments):
    count = len(points)
    boxes = torch.tensor(predicted).expand(1, count, 4)
    gt = GroundTruth(torch.tensor([box]), torch.tensor([0]), torch.tensor([0]))
    return SimOTA(**arguments)(points, gt, Predictions(boxes, torch.zeros(1, count, classes)))


def test_as_many_as_the_iou_adds_up_to():
    """All predictions have an IoU of 0.45, so floor(10 * 0.45) = 4 of 9 points are taken."""
    points = PointGenerator((8,))(((20, 20),), torch.device("cpu"))
    result = one_box(points, [40.0, 40, 140, 140], [40.0, 40, 85, 140])
    assert result.positive.sum() == 4
    assert result.quality[result.positive].tolist() == pytest.approx([0.45] * 4)


@pytest.mark.parametrize("offset, lines", [(0.0, 5), (4.0, 4), (2.0, 5)])
def test_the_region_is_open(offset, lines):
    """With perfect predictions a box takes ten points, of 5 x 5, or of 4 x 4 if the border of the
    region lies on points."""
    points = AnchorGenerator((8,), (64,))(((20, 20),), torch.device("cpu"))
    center = 84.0 + offset
    gt = GroundTruth(
        torch.tensor([[center - 30, center - 30, center + 30, center + 30]]),
        torch.tensor([0]),
        torch.tensor([0]),
    )
    boxes = gt.boxes.expand(1, len(points), 4)
    assigner = SimOTA(radius=2.5, topk=100)
    result = assigner(points, gt, Predictions(boxes, torch.zeros(1, len(points), 1)))
    assert result.positive.sum() == lines**2
    away = (points.centers[result.positive[0]] - center).abs().max()
    assert away < 2.5 * 8


def test_points_outside_of_the_box_come_last():
    """A box of 10 x 30 contains one of five columns. It takes no other if that is enough."""
    points = PointGenerator((8,))(((20, 20),), torch.device("cpu"))
    box = [79.0, 65, 89, 95]  # one column, at 84, four rows
    options = {"radius": 2.5, "candidates": "box"}
    result = one_box(points, box, [79.0, 65, 89, 83.5], **options)  # IoU > 0.6: six positives
    x, y = points.centers[result.positive[0]].unbind(1)
    assert len(x) == 6
    assert ((x == 84) & (y > 65) & (y < 95)).sum() == 4


@pytest.mark.parametrize("candidates, count", [("image", 4), ("box", 1)])
def test_what_is_near_another_box_counts_in_the_sum(candidates, count):
    """All 4 priors that predict the first box, with an IoU of 1, lie near the second's centre."""
    points = PointGenerator((8,))(((12, 16),), torch.device("cpu"))
    boxes = torch.tensor([[24.0, 24, 64, 64], [64, 24, 104, 64]])
    gt = GroundTruth(boxes, torch.tensor([0, 1]), torch.tensor([0, 0]))
    near = [(points.centers - torch.tensor(c)).abs().amax(1) < 12 for c in ((44, 44), (84, 44))]
    predicted = torch.tensor([200.0, 200, 210, 210]).repeat(len(points), 1)
    predicted[near[1].nonzero()[:4, 0]] = boxes[0]
    predictions = Predictions(predicted[None], torch.zeros(1, len(points), 2))
    index = SimOTA(candidates=candidates)(points, gt, predictions).gt_index[0]
    assert near[0].sum() == 9
    assert (index == 0).sum() == count
    assert near[0][index == 0].all()  # it still takes those near its centre


def test_a_prior_of_several_boxes_may_go_to_one_that_has_not_taken_it():
    """Three boxes have the same centre. Two boxes of class 0 want the same prior. The third, of
    class 1, takes a still better one, but has the least cost for that prior."""
    points = PointGenerator((8,))(((6, 6),), torch.device("cpu"))
    boxes = torch.tensor([[8.0, 8, 40, 40], [9, 9, 39, 39], [10, 10, 38, 38]])
    gt = GroundTruth(boxes, torch.tensor([0, 0, 1]), torch.zeros(3, dtype=torch.int64))
    predicted = torch.tensor([60.0, 60, 61, 61]).repeat(len(points), 1)
    logits = torch.full((len(points), 2), -4.0)
    wanted, better = 14, 15  # both near the centre
    predicted[[wanted, better]] = boxes[2]
    logits[wanted], logits[better] = torch.tensor([1.0, 2.0]), torch.tensor([-4.0, 6.0])
    found = {}
    for form in ("image", "box"):
        rule = SimOTA(topk=1, candidates=form)
        found[form] = rule(points, gt, Predictions(predicted[None], logits[None])).gt_index[0]
    assert found["image"][[wanted, better]].tolist() == [2, 2]
    assert found["box"][[wanted, better]].tolist() == [1, 2]


@pytest.mark.parametrize("arguments", [{"radius": 0.0}, {"topk": 0}, {"iou_weight": -1.0}])
def test_wrong_arguments(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=rf"{name} is .*; it must be an? \w+ of at least"):
        SimOTA(**arguments)


def test_the_candidates_have_a_name():
    with pytest.raises(ValueError, match="candidates is 'all'; give one of 'image', 'box'"):
        SimOTA(candidates="all")
