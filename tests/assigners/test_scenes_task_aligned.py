"""Compares task-aligned assignment with a double loop and with hand-made cases."""

import random
from dataclasses import replace

import pytest
import torch
from scenes import agree, iou, nearest_side, random_scene, sigmoid, unpacked

from dynamic_atss.assigners.rules.task_aligned import TaskAligned
from dynamic_atss.modeling.priors import PointGenerator
from dynamic_atss.types import GroundTruth, Predictions


def double_loop(scene, topk, alpha, beta, candidates):
    s, winners = scene, {}
    for t, (box, label, n) in enumerate(zip(s["boxes"], s["classes"], s["images"], strict=True)):
        ranked = []
        for p, point in enumerate(s["points"]):
            inside = nearest_side(point, box) > 0.01
            if inside or candidates == "image":
                u = iou(s["predicted"][n][p], box)
                score = sigmoid(s["logits"][n][p][label]) ** alpha * u**beta
                ranked.append((-score, p, u, inside))
        for negative, p, u, inside in sorted(ranked)[:topk]:
            if inside and u > 0 and u > winners.get((n, p), (0, 0, 0))[1]:
                winners[n, p] = (t, u, -negative)
    answer = {}
    for place, (t, _, alignment) in winners.items():
        positives = [x for x in winners.values() if x[0] == t]
        largest = max(x[2] for x in positives) + (1e-7 if candidates == "image" else 0)
        answer[place] = (t, alignment / largest * max(x[1] for x in positives))
    return answer


@pytest.mark.parametrize("candidates", ["image", "box"])
def test_double_loop_agrees(candidates):
    rng, positives = random.Random(13), 0
    for _ in range(200):
        scene = random_scene(rng, ("square", "three", "points"))
        arguments = (rng.choice((1, 4, 13)), *rng.choice(((1.0, 6.0), (0.5, 2.0), (0.0, 1.0))))
        answer = double_loop(unpacked(*scene), *arguments, candidates)
        agree(TaskAligned(*arguments, candidates)(*scene), answer)
        positives += len(answer)
    assert positives > 600


def test_points_outside_take_places():
    """The three best predictions of a box lie outside of it, so one of four places is left."""
    points = PointGenerator((8,))(((6, 6),), torch.device("cpu"))
    box = torch.tensor([8.0, 8, 32, 32])
    gt = GroundTruth(box[None], torch.tensor([0]), torch.tensor([0]))
    worse = torch.tensor([8.0, 8, 32, 24])
    predicted = torch.where((torch.arange(36) < 3)[:, None], box, worse)
    predicted[14] = torch.tensor([8.0, 8, 32, 28])  # in the middle of the box: the next one
    found = {
        form: TaskAligned(topk=4, candidates=form)(
            points, gt, Predictions(predicted[None], torch.zeros(1, 36, 1))
        ).positive.sum()
        for form in ("image", "box")
    }
    assert found == {"image": 1, "box": 4}


def test_the_best_of_a_box_has_its_largest_iou():
    rng = random.Random(1)
    for _ in range(20):
        priors, gt, predictions = random_scene(rng, ("square",))
        result = TaskAligned(candidates="box")(priors, gt, predictions)
        for t in result.gt_index[result.positive].unique().tolist():
            mine = result.gt_index == t
            n = gt.image_index[t].item()
            places = mine[n].nonzero().flatten().tolist()
            boxes, box = predictions.boxes[n].tolist(), gt.boxes[t].tolist()
            best = max(iou(boxes[p], box) for p in places)
            assert result.quality[mine].max().item() == pytest.approx(best)


def test_scores_far_below_what_float32_holds_still_align():
    """sigmoid(-120) is 0 in float32, but the order of t and t / max t are not lost."""
    rng = random.Random(3)
    rule = TaskAligned(candidates="box")
    while True:
        priors, gt, predictions = random_scene(rng, ("square",), torch.float32)
        usual = rule(priors, gt, replace(predictions, logits=predictions.logits * 0 - 20))
        if usual.positive.sum() > 10:
            break
    tiny = rule(priors, gt, replace(predictions, logits=predictions.logits * 0 - 120))
    assert torch.equal(usual.gt_index, tiny.gt_index)
    torch.testing.assert_close(usual.quality, tiny.quality, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("arguments", [{"topk": 0}, {"alpha": -1}, {"beta": -0.5}, {"alpha": "x"}])
def test_wrong_arguments(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=rf"{name} is .*; it must be an? \w+ of at least"):
        TaskAligned(**arguments)


def test_the_candidates_have_a_name():
    with pytest.raises(ValueError, match="candidates is 'all'; give one of 'image', 'box'"):
        TaskAligned(candidates="all")
