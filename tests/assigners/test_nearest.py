"""Compares the lattice search with a search of every location."""

import pytest
import torch

from dynamic_atss.assigners.nearest import (
    nearest_candidates,
    nearest_locations,
    square_candidates,
)
from dynamic_atss.types import GroundTruth, Level, Priors

MAPS = [(1, 1), (1, 7), (7, 1), (2, 2), (1, 40), (3, 5), (20, 23), (40, 2)]


def brute_force(points, level, offset, k):
    """Sorts all locations by (distance, index) in float64."""
    x = (torch.arange(level.width).double() + offset) * level.stride
    y = (torch.arange(level.height).double() + offset) * level.stride
    dx = (points[:, :1].double() - x).square()
    dy = (points[:, 1:].double() - y).square()
    distance = (dy[:, :, None] + dx[:, None, :]).flatten(1)
    nearest = distance.sort(dim=1, stable=True)
    k = min(k, level.locations)
    return nearest.indices[:, :k], distance


def exact_points(level, offset):
    """Makes points with exact distances in float32: on the lattice, midway, on the map's borders,
    outside, and at quarters. On small maps it makes all of them."""
    x = torch.arange(-6, 4 * level.width + 6) / 4 * level.stride + offset * level.stride
    y = torch.arange(-6, 4 * level.height + 6) / 4 * level.stride + offset * level.stride
    grid = torch.cartesian_prod(x, y)
    keep = torch.randperm(len(grid), generator=torch.Generator().manual_seed(0))[:300]
    far = torch.tensor([[-100.0, 3.0], [300.0, -300.0], [1.0, 250.0], [-50.0, -50.0]])
    return torch.cat((grid[keep], far * level.stride))


@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("stride", [1, 8, 128])
@pytest.mark.parametrize("height, width", MAPS)
def test_exactly_the_nearest_with_ties_to_the_lower_index(height, width, stride, offset):
    level = Level(height, width, stride)
    points = exact_points(level, offset)
    for k in (1, 2, 3, 4, 5, 8, 9, 10, 12, 16, 25, 30):
        expected, _ = brute_force(points, level, offset, k)
        assert torch.equal(nearest_locations(points, (level,), offset, k), expected), k


@pytest.mark.parametrize("stride", [8, 12, 100])
@pytest.mark.parametrize("height, width", MAPS)
def test_random_points(height, width, stride):
    level = Level(height, width, stride)
    generator = torch.Generator().manual_seed(height * 100 + width)
    span = torch.tensor([width, height]) * float(stride)
    points = (torch.rand(400, 2, generator=generator) * 1.6 - 0.3) * span
    for k in range(1, 31):
        expected, distance = brute_force(points, level, 0.5, k)
        found = nearest_locations(points, (level,), 0.5, k)
        assert (found.sort(dim=1).values.diff(dim=1) > 0).all()  # no location occurs twice
        # They are equal, except for near ties in float32, where the distances agree to 1e-6.
        torch.testing.assert_close(
            distance.gather(1, found), distance.gather(1, expected), rtol=1e-5, atol=1e-4
        )
        assert (found.sort(1).values == expected.sort(1).values).float().mean() > 0.995


def test_levels_follow_each_other_and_may_have_fewer_than_k():
    levels = (Level(4, 5, 8), Level(2, 3, 16), Level(1, 1, 32))
    points = exact_points(levels[0], 0.5)
    found = nearest_locations(points, levels, 0.5, 9)
    assert found.shape == (len(points), 9 + 6 + 1)
    first = 0
    for level, part in zip(levels, found.split([9, 6, 1], dim=1), strict=True):
        assert torch.equal(part, first + brute_force(points, level, 0.5, 9)[0])
        first += level.locations


@pytest.mark.parametrize("lines", [1, 4, 5])
@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("height, width", MAPS)
def test_squares_hold_what_is_near_both_ways(height, width, offset, lines):
    level = Level(height, width, 8)
    locations = torch.cartesian_prod(torch.arange(height), torch.arange(width)).flip(1)
    centers = (locations + offset) * 8.0
    priors = Priors(torch.cat((centers - 4, centers + 4), dim=1), (level,), offset=offset)
    points = exact_points(level, offset)
    image = torch.zeros(len(points), dtype=torch.int64)
    pairs = square_candidates(priors, GroundTruth(torch.cat((points,) * 2, 1), image, image), lines)
    assert (pairs.exists.sum(1) == min(lines, height) * min(lines, width)).all()
    found = torch.zeros(len(points), len(priors) + 1, dtype=torch.int64)
    index = torch.where(pairs.exists, pairs.prior, len(priors))
    found.scatter_add_(1, index, torch.ones_like(index))
    near = ((centers - points[:, None]).abs() < lines / 2 * 8).all(-1)
    assert (found[:, :-1] <= 1).all() and (found[:, :-1][near] == 1).all()


def test_no_points():
    assert nearest_locations(torch.zeros(0, 2), (Level(3, 3, 8),), 0.5, 4).shape == (0, 4)


def test_candidates_take_all_anchors_of_a_location():
    level = Level(3, 3, 8)
    priors = Priors(torch.zeros(18, 4), (level,), per_location=2)
    boxes = torch.tensor([[11.0, 11, 13, 13], [0, 0, 8, 8]])  # centres of location 4 and 0
    gt = GroundTruth(boxes, torch.zeros(2).long(), torch.tensor([0, 1]))
    pairs = nearest_candidates(priors, gt, 1)
    assert pairs.prior.tolist() == [[8, 9], [0, 1]]
    assert pairs.flat.tolist() == [[8, 9], [18, 19]]
