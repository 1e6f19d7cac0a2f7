"""Compares the variants of Dynamic ATSS with a double loop and with known rules."""

import random
from dataclasses import replace
from math import prod

import oracle
import pytest
import torch
from scenes import random_scene, unpacked

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.assigners.rules.atss import ATSS
from dynamic_atss.assigners.rules.dynamic_atss import DynamicATSS

VARIANTS = [
    {"combine": "mean"},
    {"combine": "product"},
    {"use": "predicted"},
    {"use": "anchor"},
    {"warmup": 10},
    {"combine": "mean", "warmup": 10},
    {"combine": "product", "warmup": 10},
]


def scored(combine, use, weight, predicted, anchor):
    """Computes scores and threshold from the IoUs of a box's candidates."""
    if use != "both":
        scores = predicted if use == "predicted" else anchor
        return scores, sum(oracle.mean_and_std(scores))
    if combine == "sum":
        terms = ([weight * p for p in predicted], anchor)
        threshold = sum(sum(oracle.mean_and_std(term)) for term in terms)
        return [sum(pair) for pair in zip(*terms, strict=True)], threshold
    power = combine == "product"
    terms = ([p**weight if power else p * weight for p in predicted], anchor)
    scores = [prod(x) if power else sum(x) / 2 for x in zip(*terms, strict=True)]
    return scores, sum(oracle.mean_and_std(scores))


def double_loop(s, priors, iteration, topk=9, combine="sum", use="both", warmup=0):
    """Gives {place: (gt index, quality)}, and the boxes whose decisions nearly tie in float32."""
    maps = [(level.height, level.width) for level in priors.levels]
    weight = min(iteration / warmup, 1.0) if warmup else 1.0
    winners, doubtful = {}, set()
    for t, (box, n) in enumerate(zip(s["boxes"], s["images"], strict=True)):
        center = oracle.center(box)
        chosen, close = oracle.candidates(s["points"], maps, priors.per_location, center, topk)
        doubtful |= {t} if close else set()
        predicted = [oracle.iou(s["predicted"][n][p], box) for p in chosen]
        anchor = [oracle.iou(s["anchors"][p], box) for p in chosen]
        scores, threshold = scored(combine, use, weight, predicted, anchor)
        for p, score, quality in zip(chosen, scores, predicted, strict=True):
            x, y = s["points"][p]
            side = min(x - box[0], y - box[1], box[2] - x, box[3] - y)
            if side <= 0.01 or score < threshold - oracle.CLOSE:
                continue
            if abs(score - threshold) < oracle.CLOSE:
                doubtful.add(t)
            other = winners.get((n, p), (t, -1.0))
            # Also for equal boxes, because rounding may depend on the place in a tensor.
            if abs(other[1] - score) < oracle.CLOSE:
                doubtful |= {t, other[0]}
            if score >= threshold and score > other[1]:
                winners[n, p] = (t, score, quality)
    return {place: (t, quality) for place, (t, _, quality) in winners.items()}, doubtful


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_double_loop_agrees(variant):
    rng, positives, unsure = random.Random(6), 0, 0
    for _ in range(150):
        scene = random_scene(rng, ("square", "three"), torch.float32, step=0.25)
        result = DynamicATSS(**variant)(*scene)
        answer, doubtful = double_loop(unpacked(*scene), scene[0], scene[2].iteration, **variant)
        unsure += bool(doubtful)
        for n, p in (result.gt_index.ge(-2)).nonzero().tolist():
            found, (t, quality) = result.gt_index[n, p].item(), answer.get((n, p), (-1, 0.0))
            if not {found, t} & doubtful:
                assert found == t
                assert result.quality[n, p].item() == pytest.approx(quality, abs=1e-5)
        positives += len(answer)
    assert positives > 400
    assert unsure <= 20


@pytest.fixture(params=range(3))
def scene(request):
    return random_scene(random.Random(request.param), ("square",), torch.float32)


def test_warms_up_from_atss_to_the_published_rule(scene):
    priors, gt, predictions = scene
    assigner = DynamicATSS(warmup=1000)
    cold, warm = (assigner(priors, gt, replace(predictions, iteration=i)) for i in (0, 1000))
    assert torch.equal(cold.gt_index, ATSS()(priors, gt, predictions).gt_index)
    published = DynamicATSS()(priors, gt, predictions)
    assert torch.equal(warm.gt_index, published.gt_index)
    assert torch.equal(warm.quality, published.quality)


def test_anchors_alone_choose_as_atss_does_and_predictions_need_no_anchors(scene):
    priors, gt, predictions = scene
    found = DynamicATSS(use="anchor")(priors, gt, predictions)
    assert torch.equal(found.gt_index, ATSS()(priors, gt, predictions).gt_index)
    smaller = replace(priors, boxes=priors.boxes + torch.tensor([9.0, 9, -9, -9]))
    alone = DynamicATSS(use="predicted")
    assert torch.equal(
        alone(priors, gt, predictions).gt_index, alone(smaller, gt, predictions).gt_index
    )
    assert not alone.needs_size and DynamicATSS().needs_size and DynamicATSS.needs_size


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"combine": "max"}, "combine is 'max'; give one of 'sum', 'mean', 'product'"),
        ({"use": "none"}, "use is 'none'; give one of 'both', 'predicted', 'anchor'"),
        ({"warmup": -1}, "warmup is -1; it must be an integer of at least 0"),
        ({"topk": 0}, "topk is 0; it must be an integer of at least 1"),
        ({"topk": 2.5}, "topk is 2.5; it must be an integer of at least 1"),
        ({"warmup": "soon"}, "warmup is 'soon'; it must be an integer of at least 0"),
        ({"use": "anchor", "warmup": 5}, 'need use "both"'),
        ({"use": "predicted", "combine": "product"}, 'need use "both"'),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ASSIGNERS["dynamic_atss"](**arguments)
