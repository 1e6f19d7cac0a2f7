"""Compares PAA with a double loop and with hand-made cases."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from scenes import CLASSES, agree, iou, random_scene, sigmoid, unpacked

from dynamic_atss.assigners.rules.max_iou import MaxIoU
from dynamic_atss.assigners.rules.paa import PAA

mixture = pytest.importorskip("sklearn.mixture")


def focal(logits, label):
    total = 0.0
    for c in range(CLASSES):
        p = sigmoid(logits[c])
        total -= 0.25 * (1 - p) ** 2 * np.log(p) if c == label else 0.0
        total -= 0.75 * p**2 * np.log(1 - p) if c != label else 0.0
    return total


def giou_loss(a, b):
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0.0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height + 1e-7
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1])) + 1e-7
    return 1 - width * height / union + (hull - union) / hull


def box_of_anchors(s, n, threshold):
    """Gives by prior of image n the box of the largest IoU if it is large enough, or None."""
    mine = [t for t, image in enumerate(s["images"]) if image == n]
    ious = [[iou(a, s["boxes"][t], 1) for t in mine] for a in s["anchors"]]
    best = [max(column) for column in zip(*ious, strict=True)]
    chosen = []
    for row in ious:
        top = max(row, default=0.0)
        claimed = any(u == b > 0 for u, b in zip(row, best, strict=True))
        fits = top > 0 and (top >= threshold or claimed)
        chosen.append(mine[row.index(top)] if fits else None)
    return chosen


def positives(losses):
    """Counts the positives among increasing losses."""
    if len(losses) < 2:
        return len(losses)
    x = np.array(losses)[:, None]
    fitted = mixture.GaussianMixture(
        2,
        means_init=[[losses[0]], [losses[-1]]],
        weights_init=[0.5, 0.5],
        precisions_init=[[[1.0]], [[1.0]]],
    ).fit(x)
    likelihood = fitted.score_samples(x)
    low = [i for i, component in enumerate(fitted.predict(x)) if component == 0]
    return max(low, key=lambda i: (likelihood[i], -i)) + 1 if low else len(losses)


def double_loop(s, topk, threshold):
    answer = {}
    for n in (0, 1):
        chosen = box_of_anchors(s, n, threshold)
        for t in {t for t in chosen if t is not None}:
            box, candidates = s["boxes"][t], []
            for level in range(3):
                losses = [
                    (
                        focal(s["logits"][n][p], s["classes"][t])
                        + giou_loss(s["predicted"][n][p], box),
                        p,
                    )
                    for p in range(len(chosen))
                    if chosen[p] == t and s["levels"][p] == level
                ]
                candidates += sorted(losses)[:topk]
            candidates.sort()
            for _, p in candidates[: positives([loss for loss, _ in candidates])]:
                answer[n, p] = (t, iou(s["predicted"][n][p], box, 1))
    return answer


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_double_loop_agrees():
    rng, count = random.Random(4), 0
    for _ in range(100):
        scene = random_scene(rng, ("square", "three"))
        arguments = (rng.choice((1, 4, 9, 9)), rng.choice((0.1, 0.1, 0.4)))
        answer = double_loop(unpacked(*scene), *arguments)
        agree(PAA(*arguments)(*scene), answer)
        count += len(answer)
    assert count > 400


def test_positives_are_anchors_that_max_iou_gives_to_the_same_box():
    rng = random.Random(8)
    for _ in range(10):
        scene = random_scene(rng, ("square",), torch.float32)
        result, proposed = PAA()(*scene), MaxIoU(0.1, 0.1)(*scene)
        assert torch.equal(result.gt_index[result.positive], proposed.gt_index[result.positive])
        boxes = proposed.gt_index[proposed.positive].unique()
        assert torch.equal(result.gt_index[result.positive].unique(), boxes)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_leaves_its_box_all_candidates(bad):
    rng, seen, rule = random.Random(5), 0, PAA(topk=100)
    for _ in range(20):
        priors, gt, predictions = random_scene(rng, ("square",), torch.float32)
        before = rule(priors, gt, predictions)
        if not before.positive.any():
            continue
        n, p = before.positive.nonzero()[0].tolist()
        box, boxes = before.gt_index[n, p], predictions.boxes.clone()
        boxes[n, p, 2] = bad
        after = rule(priors, gt, replace(predictions, boxes=boxes))
        other = before.gt_index != box
        assert torch.equal(
            before.gt_index[other & (after.gt_index != box)],
            after.gt_index[other & (after.gt_index != box)],
        )
        mine = MaxIoU(0.1, 0.1)(priors, gt, predictions).gt_index[n] == box
        assert torch.equal(after.gt_index[n] == box, mine)
        seen += 1
    assert seen > 5


@pytest.mark.parametrize("arguments", [{"topk": 0}, {"threshold": -0.1}, {"gamma": -1.0}])
def test_wrong_arguments(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=rf"{name} is .*; it must be an? \w+ of at least"):
        PAA(**arguments)
