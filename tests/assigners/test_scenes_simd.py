"""Compares SimD with a double loop, and tests its means by hand and in a checkpoint."""

import random
from math import exp, sqrt

import pytest
import torch
from scenes import random_scene, unpacked
from test_scenes_rfla import centerness

from dynamic_atss.assigners.call_rule import call_rule
from dynamic_atss.assigners.rules.simd import VISDRONE, SimD

EPS = 1e-6


def relative(anchor, box):
    """Gives the differences of box and anchor in x, y, width, height, by the sum of the sides."""
    sides = [[b[i + 2] - b[i] + 1 + EPS for i in (0, 1)] for b in (box, anchor)]
    centers = [[(b[i + 2] + b[i]) / 2 for i in (0, 1)] for b in (box, anchor)]
    total = [a + b for a, b in zip(*sides, strict=True)]
    return [(m - n) / t for part in (centers, sides) for m, n, t in zip(*part, total, strict=True)]


def simd(anchor, box, means):
    x, y, width, height = (v * m for v, m in zip(relative(anchor, box), means * 2, strict=True))
    return exp(-sqrt(x * x + y * y) - sqrt(width * width + height * height))


def double_loop(s, means, positive, negative, least, conflicts):
    """Gives {(image, prior): (gt index, quality)} and the ignored places."""
    found, claims, ignored = {}, {}, set()
    for t, (box, n) in enumerate(zip(s["boxes"], s["images"], strict=True)):
        values = [simd(anchor, box, means) for anchor in s["anchors"]]
        for p, u in enumerate(values):
            if u >= negative:
                ignored.add((n, p))
            if u >= positive and u > found.get((n, p), (0, 0.0))[1]:
                found[n, p] = (t, u)
            worth = t if conflicts == "last" else u
            if u == max(values) and u >= least and worth > claims.get((n, p), (0, -1.0))[1]:
                claims[n, p] = (t, worth)
    winners = {
        place: (t, centerness(s["points"][place[1]], s["boxes"][t]))
        for place, (t, _) in (found | claims).items()
    }
    return winners, ignored - winners.keys()


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"conflicts": "best"},
        {"means": (1.5, 2.0)},
        {"positive": 0.5, "negative": 0.4, "least": 0.1, "means": (3.0, 2.5)},
    ],
    ids=str,
)
def test_double_loop_agrees(arguments):
    rng, positives, ignored = random.Random(4), 0, 0
    asked = {"positive": 0.7, "negative": 0.3, "least": 0.3, "conflicts": "last"}
    asked |= {"means": VISDRONE} | arguments
    rule = SimD(**arguments).eval()
    for _ in range(150):
        scene = random_scene(rng, ("square", "three", "points"))
        sized = scene[0].with_size()
        result = call_rule(rule, *scene)
        winners, between = double_loop(unpacked(sized, *scene[1:]), **asked)
        expected = torch.full(result.gt_index.shape, -1)
        quality = torch.zeros_like(result.quality)
        for place, (t, value) in winners.items():
            expected[place], quality[place] = t, value
        for place in between:
            expected[place] = -2
        assert torch.equal(result.gt_index, expected)
        torch.testing.assert_close(result.quality, quality, rtol=1e-5, atol=1e-6)
        positives += len(winners)
        ignored += len(between)
    assert positives > 15 and ignored > 15, (positives, ignored)


def test_the_means_are_those_of_all_pairs_and_stay_after_the_first_batches():
    rng, rule = random.Random(5), SimD(batches=3)
    sums, pairs, kept = list(VISDRONE), 1, None
    for step in range(5):
        priors, gt, predictions = random_scene(rng, ("three",))
        predictions = predictions.__class__(predictions.boxes, predictions.logits, step)
        rule(priors, gt, predictions)
        if step < 3:
            for anchor in priors.boxes.tolist():
                for box in gt.boxes.tolist():
                    x, y, *_ = relative(anchor, box)
                    sums, pairs = [sums[0] + abs(x), sums[1] + abs(y)], pairs + 1
            kept = rule.sums.clone()
    assert torch.equal(rule.sums, kept)
    torch.testing.assert_close(kept.tolist(), [*sums, float(pairs)], rtol=1e-5, atol=0)


def test_a_resumed_training_has_the_same_means_to_the_bit():
    scenes = [random_scene(random.Random(seed), ("square",)) for seed in range(6)]

    def run(rule, scenes_of_run):
        return [rule(*scene).gt_index for scene in scenes_of_run]

    single, first, second = SimD(), SimD(), SimD()
    expected = run(single, scenes)
    run(first, scenes[:3])
    second.load_state_dict(first.state_dict())
    assert all(map(torch.equal, run(second, scenes[3:]), expected[3:]))
    assert torch.equal(second.sums, single.sums)


def test_a_box_that_is_not_finite_does_not_spoil_the_means():
    priors, gt, predictions = random_scene(random.Random(2), ("square",))
    gt.boxes[0, 2] = torch.inf
    rule = SimD()
    rule(priors, gt, predictions)
    assert rule.sums.isfinite().all() and rule.sums[2] == 1 + (len(gt) - 1) * len(priors)


def test_an_evaluation_learns_no_means():
    rule = SimD().eval()
    rule(*random_scene(random.Random(2), ("square",)))
    assert rule.sums.tolist() == [*VISDRONE, 1.0]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"positive": 0.2}, "negative is 0.3; it must not be above positive, 0.2"),
        ({"least": 0}, "least is 0"),
        ({"means": (1.0, -1.0)}, "mean_y is -1.0"),
        ({"means": (1.0,)}, "means is .* two numbers"),
        ({"batches": -1}, "batches is -1"),
        ({"conflicts": "first"}, "conflicts is 'first'; give one of 'last', 'best'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SimD(**arguments)
