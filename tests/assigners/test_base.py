"""The helpers that rules are made of, by hand."""

import pytest
import torch

from dynamic_atss.assigners.base import Pairs, inside, resolve, std


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
    """Two images of four priors; boxes 0, 1 and 2 of image 0, box 3 of image 1; scores of either
    sign."""
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
