"""Task-aligned assignment beside a double loop, and by hand."""

import random
from dataclasses import replace

import pytest
import torch
from scenes import agree, iou, nearest_side, random_scene, sigmoid, unpacked

from dynamic_atss.assigners.rules.task_aligned import TaskAligned


def double_loop(scene, topk, alpha, beta):
    s, winners = scene, {}
    for t, (box, label, n) in enumerate(zip(s["boxes"], s["classes"], s["images"], strict=True)):
        inside = []
        for p, point in enumerate(s["points"]):
            if nearest_side(point, box) > 0.01:
                u = iou(s["predicted"][n][p], box)
                inside.append((-(sigmoid(s["logits"][n][p][label]) ** alpha) * u**beta, p, u))
        for negative, p, u in sorted(inside)[:topk]:
            if u > 0 and u > winners.get((n, p), (0, 0, 0))[1]:
                winners[n, p] = (t, u, -negative)
    answer = {}
    for place, (t, _, alignment) in winners.items():
        own = [x for x in winners.values() if x[0] == t]
        quality = alignment / max(x[2] for x in own) * max(x[1] for x in own)
        answer[place] = (t, quality)
    return answer


def test_double_loop_agrees():
    rng, positives = random.Random(13), 0
    for _ in range(200):
        scene = random_scene(rng, ("square", "three", "points"))
        arguments = (rng.choice((1, 4, 13)), *rng.choice(((1.0, 6.0), (0.5, 2.0), (0.0, 1.0))))
        answer = double_loop(unpacked(*scene), *arguments)
        agree(TaskAligned(*arguments)(*scene), answer)
        positives += len(answer)
    assert positives > 800


def test_the_best_of_a_box_has_its_largest_iou():
    rng = random.Random(1)
    for _ in range(20):
        priors, gt, predictions = random_scene(rng, ("square",))
        result = TaskAligned()(priors, gt, predictions)
        for t in result.gt_index[result.positive].unique().tolist():
            mine = result.gt_index == t
            n = gt.image[t].item()
            places = mine[n].nonzero().flatten().tolist()
            boxes, box = predictions.boxes[n].tolist(), gt.boxes[t].tolist()
            best = max(iou(boxes[p], box) for p in places)
            assert result.quality[mine].max().item() == pytest.approx(best)


def test_scores_far_below_what_float32_holds_still_align():
    """sigmoid(-120) is 0 in float32; the order of t, and t / max t, are not."""
    rng = random.Random(3)
    while True:
        priors, gt, predictions = random_scene(rng, ("square",), torch.float32)
        usual = TaskAligned()(priors, gt, replace(predictions, logits=predictions.logits * 0 - 20))
        if usual.positive.sum() > 10:
            break
    tiny = TaskAligned()(priors, gt, replace(predictions, logits=predictions.logits * 0 - 120))
    assert torch.equal(usual.gt_index, tiny.gt_index)
    torch.testing.assert_close(usual.quality, tiny.quality, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("arguments", [{"topk": 0}, {"alpha": -1}, {"beta": -0.5}, {"alpha": "x"}])
def test_wrong_arguments(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"{name} is .*; it must be a .*number of at least"):
        TaskAligned(**arguments)
