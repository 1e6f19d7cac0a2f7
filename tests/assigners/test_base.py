"""Tests the helpers of rules by hand-made cases."""

import pytest
import torch

from dynamic_atss.assigners.base import (
    Pairs,
    center_offsets,
    inside,
    logit_of_class,
    resolve,
    std,
)
from dynamic_atss.types import GroundTruth, Level, Predictions, Priors


def test_inside_leaves_a_margin_of_a_hundredth_pixel():
    box = torch.tensor([0.0, 0, 10, 10], dtype=torch.float64)
    x = torch.tensor([-1, 0, 0.009, 0.011, 5, 9.989, 9.991, 10, 11], dtype=torch.float64)
    expected = [False, False, False, True, True, True, False, False, False]
    for points in (torch.stack((x, x * 0 + 5), 1), torch.stack((x * 0 + 5, x), 1)):
        assert inside(points, box).tolist() == expected


def test_std_is_unbiased():
    x = torch.tensor([[[1.0, 2, 6]], [[4, 4, 4]]])
    assert std(x).flatten().tolist() == pytest.approx([7**0.5, 0])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shape", [(3, 1), (0, 5), (2, 0, 5), (2, 3, 1)])
def test_std_without_spread(shape):
    result = std(torch.ones(shape))
    assert result.shape == (*shape[:-1], 1)
    assert (result == 0).all()


def test_resolve_takes_the_best_then_the_first():
    """Two images of four priors have boxes 0, 1, 2 and box 3. Scores have both signs."""
    flat = torch.tensor([[0, 1], [0, 1], [1, 2], [4, 6]])
    score = torch.tensor([[-3.0, 0.5], [-2, 0.5], [0.4, 9], [1, 1]])
    quality = torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6], [0.7, 0.0]])
    selected = torch.ones(4, 2, dtype=torch.bool)
    selected[2, 1] = False
    pairs = Pairs(torch.arange(4)[:, None], flat % 4, flat, torch.ones_like(selected))
    result = resolve(pairs, selected, score, quality, (2, 4))
    assert result.gt_index.tolist() == [[1, 0, -1, -1], [3, -1, 3, -1]]
    expected = torch.tensor([[0.3, 0.2, 0, 0], [0.7, 0, 0.0, 0]])
    assert torch.equal(result.quality, expected)


def capped_by_loops(box, flat, selected, score, per_box):
    """Resolves conflicts, then keeps the best of each box, in a tie the first.

    Returns:
        the box of each prior, as {prior: box}.
    """
    pairs = [x for x in zip(box, flat, selected, score, range(len(box)), strict=True) if x[2]]
    winner = {}
    for t, p, _, s, i in sorted(pairs, key=lambda x: (-x[3], x[0])):
        winner.setdefault(p, (t, s, i))
    answer = {}
    for t in set(box):
        mine = sorted((-s, i, p) for p, (owner, s, i) in winner.items() if owner == t)
        answer |= {p: t for _, _, p in mine[:per_box]}
    return answer


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("per_box", [1, 2, 5])
def test_resolve_keeps_the_best_of_each_box(per_box, listed):
    """Ten boxes want the same fifteen priors, and many scores are equal."""
    fewer = 0
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        flat = torch.rand(10, 15, generator=generator).argsort(1)
        box = torch.arange(10)[:, None]
        score = torch.randint(-3, 3, flat.shape, generator=generator) / 2
        selected = torch.rand(flat.shape, generator=generator) < 0.8
        exists = torch.rand(flat.shape, generator=generator) < 0.8
        pairs = Pairs(box, flat, flat, exists)
        answer = capped_by_loops(
            box.expand(10, 15).flatten().tolist(),
            *(x.flatten().tolist() for x in (flat, selected & exists, score)),
            per_box,
        )
        if listed:
            box = box.expand(10, 15).flatten()
            flat, exists, selected, score = (x.flatten() for x in (flat, exists, selected, score))
            pairs = Pairs(box, flat, flat, exists)
        result = resolve(pairs, selected, score, score + 2, (1, 15), per_box=per_box)
        expected = [answer.get(p, -1) for p in range(15)]
        assert result.gt_index.tolist() == [expected]
        places = {
            (int(b), int(p)): i
            for i, (b, p) in enumerate(
                zip(pairs.box.expand_as(flat).flatten(), flat.flatten(), strict=True)
            )
        }
        quality = [
            score.flatten()[places[b, p]].item() + 2 if b >= 0 else 0
            for p, b in enumerate(expected)
        ]
        assert result.quality.tolist() == [quality]
        fewer += len(answer) < 15
    assert fewer > 5 or per_box == 5


def test_a_cap_that_nothing_reaches_changes_nothing():
    pairs = Pairs(
        torch.arange(2)[:, None],
        torch.tensor([[0, 1], [1, 2]]),
        torch.tensor([[0, 1], [1, 2]]),
        torch.ones(2, 2, dtype=torch.bool),
    )
    score = torch.tensor([[1.0, 2], [1, 3]])
    free, capped = (resolve(pairs, score > 0, score, score, (1, 3), per_box=k) for k in (None, 2))
    assert torch.equal(free.gt_index, capped.gt_index)
    assert torch.equal(free.quality, capped.quality)
    none = Pairs(*(x[:0] for x in pairs))
    empty = resolve(none, score[:0] > 0, score[:0], score[:0], (1, 3), per_box=1)
    assert empty.gt_index.tolist() == [[-1, -1, -1]]


@pytest.mark.parametrize("listed", [False, True])
def test_center_offsets_and_logits_of_a_pair(listed):
    """Two boxes of two images have three candidates each, in rows or in one list."""
    corners = torch.tensor([[0.0, 0, 8, 8], [8, 0, 16, 8], [16, 0, 24, 8]])
    priors = Priors(corners, (Level(1, 3, 8),))
    boxes = torch.tensor([[0.0, 0, 10, 6], [-4, 2, 6, 8]])
    gt = GroundTruth(boxes, torch.tensor([1, 0]), torch.tensor([0, 1]))
    logits = torch.arange(12).view(2, 3, 2).bfloat16()
    box, prior = torch.tensor([[0], [1]]), torch.tensor([[2, 0, 1], [1, 1, 0]])
    pairs = Pairs(box, prior, 3 * box + prior, prior >= 0)
    if listed:
        pairs = Pairs(box.repeat_interleave(3), *(x.flatten() for x in pairs[1:]))
    x, y = center_offsets(priors, gt, pairs)
    assert x.flatten().tolist() == [15, -1, 7, 11, 11, 3]
    assert y.flatten().tolist() == [1, 1, 1, -1, -1, -1]
    found = logit_of_class(Predictions(logits.new_zeros(2, 3, 4), logits), gt, pairs)
    assert found.shape == x.shape == pairs.prior.shape
    assert found.dtype == torch.bfloat16
    assert found.flatten().tolist() == [5, 1, 3, 8, 8, 6]
    assert torch.equal(priors.centers[:, 0], torch.tensor([4.0, 12, 20]))
