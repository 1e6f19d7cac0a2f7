"""Compares POTO with all matchings of small scenes, and with another solver."""

import random

import numpy as np
import pytest
import torch
from scenes import agree, iou, random_scene, sigmoid, unpacked

from dynamic_atss.assigners.one_to_one import best_matching
from dynamic_atss.assigners.rules.poto import POTO


def region(box, stride, radius):
    """Gives the part of a box within `radius` strides of its centre. radius 0: the entire box."""
    if not radius:
        return box
    x, y, reach = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, radius * stride
    low = max(x - reach, box[0]), max(y - reach, box[1])
    return *low, min(x + reach, box[2]), min(y + reach, box[3])


def qualities(s, alpha, radius):
    """Gives [{prior: quality}] by box."""
    found = []
    for box, label, n in zip(s["boxes"], s["classes"], s["images"], strict=True):
        by_prior = {}
        for p, ((x, y), stride) in enumerate(zip(s["points"], s["strides"], strict=True)):
            low_x, low_y, high_x, high_y = region(box, stride, radius)
            if low_x < x < high_x and low_y < y < high_y:
                score = sigmoid(s["logits"][n][p][label])
                by_prior[p] = score ** (1 - alpha) * iou(s["predicted"][n][p], box) ** alpha
        found.append(by_prior)
    return found


def best_of_all(of_boxes):
    """Tries all matchings of one image box after box. Gives the largest sum of 1 + quality and its
    {box: prior}. The set of taken priors describes the remaining image."""
    known = {}

    def best_from(t, taken):
        if t == len(of_boxes):
            return 0.0, ()
        if (t, taken) not in known:
            total, pairs = best_from(t + 1, taken)
            options = [(total, pairs)]
            for prior, quality in of_boxes[t].items():
                if prior not in taken:
                    total, pairs = best_from(t + 1, taken | {prior})
                    options.append((total + 1 + quality, ((t, prior), *pairs)))
            known[t, taken] = max(options)
        return known[t, taken]

    return dict(best_from(0, frozenset())[1])


def sums(scene, found, alpha, radius):
    """Gives the sums of the found pairs and of the best matching over both images."""
    s = unpacked(*scene)
    by_box, best = qualities(s, alpha, radius), 0.0
    for n in range(2):
        mine = [by_prior for by_prior, image in zip(by_box, s["images"], strict=True) if image == n]
        best += sum(1 + mine[k][prior] for k, prior in best_of_all(mine).items())
    return sum(1 + by_box[t][prior] for prior, t in found), best


def each_its_best(scene, alpha, radius):
    s, winners = unpacked(*scene), {}
    for t, (by_prior, n) in enumerate(zip(qualities(s, alpha, radius), s["images"], strict=True)):
        if by_prior:
            prior = max(by_prior, key=lambda p: (by_prior[p], -p))
            if by_prior[prior] > winners.get((n, prior), (0, -1.0))[1]:
                winners[n, prior] = t, by_prior[prior]
    return {place: (t, 1.0) for place, (t, _) in winners.items()}


ARGUMENTS = ((0.8, 1.5), (0.8, 1.5), (0.5, 1.0), (0.0, 2.5), (1.0, 1.5))


def distinct(scene):
    """Makes all predictions of a scene distinct, so that nothing ties."""
    priors, gt, predictions = scene
    generator = torch.Generator().manual_seed(len(priors) + len(gt))
    for values in (predictions.boxes[..., 2:], predictions.logits):
        values += 0.01 * torch.rand(values.shape, generator=generator, dtype=values.dtype)
    return priors, gt, predictions


def test_no_matching_has_a_larger_sum():
    """Compares sums, because all qualities are 0 if no predicted box overlaps the true one."""
    rng, boxes, differ = random.Random(21), 0, 0
    for _ in range(150):
        scene = distinct(random_scene(rng, ("square", "three", "points")))
        arguments = rng.choice(ARGUMENTS)
        index = POTO(*arguments)(*scene).gt_index
        _, prior = places = (index >= 0).nonzero(as_tuple=True)
        found = list(zip(prior.tolist(), index[places].tolist(), strict=True))
        assert len({t for _, t in found}) == len(found)
        mine, best = sums(scene, found, *arguments)
        assert mine == pytest.approx(best, rel=1e-9)
        boxes += len(found)
        differ += len(each_its_best(scene, *arguments)) < len(found)
    assert boxes > 250 and differ > 10  # there are conflicts


def test_each_box_its_best_prior():
    rng, positives = random.Random(22), 0
    for _ in range(150):
        scene = distinct(random_scene(rng, ("square", "three", "points")))
        arguments = rng.choice((*ARGUMENTS, (0.8, 0.0)))
        answer = each_its_best(scene, *arguments)
        agree(POTO(*arguments, exact=False)(*scene), answer)
        positives += len(answer)
    assert positives > 250


def random_pairs(rng, boxes, priors, share, steps):
    """Makes (box, prior, value) sorted by box. Values have few steps, so that they tie."""
    there = rng.random((boxes, priors)) < share
    box, prior = there.nonzero()
    return box, prior, 1 + rng.integers(0, steps, len(box)) / steps


def largest_sum(box, prior, value, boxes):
    """Tries all matchings: keeps the best for each set of taken priors, box after box."""
    best = {frozenset(): 0.0}
    for t in range(boxes):
        new = dict(best)
        for taken, total in best.items():
            for p, v in zip(prior[box == t], value[box == t], strict=True):
                if p not in taken:
                    key = taken | {p}
                    new[key] = max(new.get(key, 0.0), total + v)
        best = new
    return max(best.values())


def largest_sum_of_scipy(box, prior, value, boxes):
    solve = pytest.importorskip("scipy.optimize").linear_sum_assignment
    matrix = np.zeros((boxes, max(prior, default=0) + 1 + boxes))  # 0: a box without
    matrix[box, prior] = value
    return matrix[solve(matrix, maximize=True)].sum()


@pytest.mark.parametrize(
    ("check", "largest"),
    [(largest_sum, (5, 6)), (largest_sum_of_scipy, (60, 80))],
    ids=["trial", "scipy"],
)
@pytest.mark.parametrize("steps", [4, 1 << 20], ids=["ties", "distinct"])
def test_the_matching_has_the_largest_sum(check, largest, steps):
    rng, crowded = np.random.default_rng(steps), 0
    for _ in range(150):
        boxes, priors = (int(rng.integers(1, limit + 1)) for limit in largest)
        box, prior, value = random_pairs(rng, boxes, priors, rng.random(), steps)
        given = map(torch.from_numpy, (box, prior, value))
        matched = best_matching(*given, boxes).numpy()
        for side in (box, prior):
            assert np.bincount(side[matched], minlength=1).max() <= 1
        wanted = check(box, prior, value, boxes)
        assert value[matched].sum() == pytest.approx(wanted, rel=1e-12)
        crowded += matched.sum() < boxes
    assert crowded > 10


def test_a_box_is_not_left_out_for_the_quality_of_others():
    """Box 0 has one prior, which is also the best of box 1. Box 1 takes its other prior."""
    box, prior = torch.tensor([0, 1, 1]), torch.tensor([5, 5, 9])
    value = torch.tensor([1.1, 2.0, 1.0], dtype=torch.float64)
    assert best_matching(box, prior, value, 2).tolist() == [True, False, True]


def test_a_long_chain():
    """Every box has a prior. Another box wants only the first one, so all boxes move on by one,
    and each loses 1/4096."""
    count = 2000
    box = torch.arange(count).repeat_interleave(2)
    prior = (torch.arange(count)[:, None] + torch.tensor([0, 1])).flatten()
    value = torch.tensor([2.0, 2 - 1 / 4096]).repeat(count)
    box, prior, value = (
        torch.cat((x, torch.tensor([last], dtype=x.dtype)))
        for x, last in ((box, count), (prior, 0), (value, 1.0))
    )
    matched = best_matching(box, prior, value, count + 1)
    assert matched.sum() == count + 1
    assert prior[matched].tolist() == [*range(1, count + 1), 0]
    value[-1] = 0.25  # less than the sum of the losses
    assert best_matching(box, prior, value, count + 1).sum() == count


def test_it_waits_unless_each_box_takes_its_best():
    assert POTO.waits and POTO().waits and not POTO(exact=False).waits


@pytest.mark.parametrize("arguments", [{"alpha": -0.1}, {"radius": -1}, {"alpha": "x"}])
def test_wrong_arguments(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"{name} is .*; it must be a number of at least"):
        POTO(**arguments)
    with pytest.raises(ValueError, match=r"alpha is 1.5; it must be a number from 0 to 1"):
        POTO(alpha=1.5)
