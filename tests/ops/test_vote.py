"""Compares box voting with a loop over the clusters in plain Python."""

import pytest
import torch
from helpers_rounding import assert_rounded
from helpers_vote import naive_score_vote, naive_vote, rows

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.ops.vote import box_vote, score_vote


def crowd(count, classes, seed, side=100.0):
    """Makes boxes around few objects in random order."""
    g = torch.Generator().manual_seed(seed)
    objects = torch.rand(max(count // 8, 1), 4, generator=g) * side
    center = objects[torch.randint(len(objects), (count,), generator=g)]
    center = center + torch.randn(count, 4, generator=g) * side / 25
    half = center[:, 2:].abs() / 2 + 2
    boxes = torch.cat([center[:, :2] - half, center[:, :2] + half], dim=1)
    scores = torch.rand(count, generator=g) * 0.94 + 0.06
    return boxes, scores, torch.randint(classes, (count,), generator=g)


@pytest.mark.parametrize("soft", [None, 0.05, 0.0])
@pytest.mark.parametrize("convention", BoxConvention)
@pytest.mark.parametrize("seed", range(5))
def test_as_the_double_loop(seed, convention, soft):
    boxes, scores, classes = crowd(150, 3, seed)
    threshold = 0.4 + 0.1 * seed
    found = box_vote(boxes, scores, classes, threshold, soft_threshold=soft, convention=convention)
    wanted = naive_vote(boxes, scores, classes, threshold, soft, convention.value)
    assert len(found[0]) == len(wanted) != len(boxes)
    torch.testing.assert_close(torch.tensor(rows(*found)), torch.tensor(wanted))
    assert found[1].tolist() == sorted(found[1].tolist(), reverse=True)


def test_mean_of_two_and_one_alone():
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 10], [50, 50, 60, 60], [0, 0, 9, 9]])
    scores, classes = torch.tensor([0.6, 0.2, 0.3, 0.5]), torch.tensor([1, 1, 1, 0])
    boxes_out, scores_out, classes_out = box_vote(boxes, scores, classes, 0.66)
    assert classes_out.tolist() == [1, 0, 1]
    assert scores_out.tolist() == scores[[0, 3, 2]].tolist()  # bitwise those of the best box
    torch.testing.assert_close(boxes_out[0], torch.tensor([0, 0, 9, 9 + 0.2 / 0.8]))
    assert torch.equal(boxes_out[1:], boxes[[3, 2]])


def test_threshold_itself_is_enough():
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 4]])  # 10 x 10 and 10 x 5: exactly a half
    scores, classes = torch.tensor([0.9, 0.8]), torch.zeros(2, dtype=torch.int64)
    assert len(box_vote(boxes, scores, classes, 0.5)[0]) == 1
    assert len(box_vote(boxes, scores, classes, 0.5 + 1e-6)[0]) == 2


def test_members_stay_lowered():
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 7], [0, 0, 9, 8]])
    scores, classes = torch.tensor([0.9, 0.5, 0.4]), torch.full((3,), 2)
    found = box_vote(boxes, scores, classes, 0.66, soft_threshold=0.05)
    # IoUs 1, 0.8 and 0.9: 0.5 * 0.2 = 0.1 stays; 0.4 * 0.1 = 0.04 and 0 do not
    torch.testing.assert_close(found[1], torch.tensor([0.9, 0.1]))
    assert torch.equal(found[0][1], boxes[1])
    assert found[2].tolist() == [2, 2]


@pytest.mark.parametrize("soft", [None, 0.05])
def test_nothing_in_nothing_out(soft):
    empty = torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    found = box_vote(*empty, 0.66, soft_threshold=soft)
    assert [x.shape for x in found] == [x.shape for x in empty]


@pytest.mark.parametrize("threshold", [1.5, 1.0, 1e-3])
def test_extreme_thresholds_end(threshold):
    boxes, scores, classes = crowd(40, 2, seed=0)
    found = box_vote(boxes, scores, classes, threshold)
    assert torch.isfinite(found[0]).all()
    assert len(found[0]) == 40 if threshold >= 1 else len(found[0]) < 40


@pytest.mark.parametrize("threshold", [1e-40, 1e-10])
def test_boxes_apart_stay_where_they_are_at_the_lowest_threshold(threshold):
    boxes = torch.tensor([[0.0, 0, 9, 9], [50, 50, 60, 60], [0, 0, 9, 10]])
    scores, classes = torch.tensor([0.6, 0.5, 0.4]), torch.zeros(3, dtype=torch.int64)
    found, _, _ = box_vote(boxes, scores, classes, threshold)
    assert found[1].tolist() == [50, 50, 60, 60]
    torch.testing.assert_close(found[0], torch.tensor([0.0, 0, 9, 9.4]))


@pytest.mark.parametrize("threshold", [1.0, 1 - 1e-12])
def test_equal_boxes_vote_together_at_the_highest_threshold(threshold):
    boxes = torch.tensor([[0.1, 0.2, 9.3, 9.7], [0.1, 0.2, 9.3, 9.7], [0.1, 0.2, 9.3, 9.8]])
    scores, classes = torch.tensor([0.6, 0.5, 0.4]), torch.zeros(3, dtype=torch.int64)
    found, _, _ = box_vote(boxes, scores, classes, threshold)
    assert len(found) == 2
    torch.testing.assert_close(found, boxes[[0, 2]])


def test_inverted_boxes_are_alone():
    boxes = torch.tensor([[10.0, 10, 2, 2], [10, 10, 2, 2], [0, 0, 20, 20], [10, 10, 9, 9]])
    scores, classes = torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.zeros(4, dtype=torch.int64)
    found = box_vote(boxes, scores, classes, 0.66, soft_threshold=0.05)
    assert torch.equal(found[0], boxes) and torch.equal(found[1], scores)


def test_far_coordinates_do_not_mix_classes():
    boxes = torch.tensor([[1e5, 1e5, 1e5 + 40, 1e5 + 40]]).repeat(6, 1)
    found = box_vote(boxes, torch.arange(1.0, 7) / 10, torch.arange(6) * 13, 0.66)
    assert found[2].tolist() == [65, 52, 39, 26, 13, 0]
    assert torch.equal(found[0], boxes)


def test_thousands_of_boxes_are_those_of_each_class():
    boxes, scores, classes = crowd(4000, 20, seed=1, side=800.0)
    found = box_vote(boxes, scores, classes, 0.66, soft_threshold=0.05)
    for c in range(20):
        chosen = classes == c
        alone = box_vote(boxes[chosen], scores[chosen], classes[chosen], 0.66, soft_threshold=0.05)
        here = found[2] == c
        assert_rounded(found[0][here], alone[0])
        assert_rounded(found[1][here], alone[1])


@pytest.mark.parametrize("convention", BoxConvention)
def test_score_voting_as_the_double_loop(convention):
    images = [crowd(60, 3, seed) for seed in (1, 2)]
    candidates = tuple(torch.stack(x) for x in zip(*images, strict=True))
    candidates[1][:, ::7] = 0  # no candidates
    kept, classes = candidates[0][:, :20], candidates[2][:, :20]
    found = score_vote(kept, classes, candidates, convention)
    for n in range(2):
        image = [x[n] for x in candidates]
        for box, label, voted in zip(kept[n], classes[n], found[n], strict=True):
            wanted = naive_score_vote(box.tolist(), label.item(), *image, convention.value)
            torch.testing.assert_close(voted, torch.tensor(wanted))
    assert (found - kept).abs().amax() > 1


def test_score_voting_by_hand():
    """Tests a single box, one near a box of another class, and one whose only voter scores 0."""
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 9], [50, 50, 60, 60]])
    scores, classes = torch.tensor([0.5, 0.9, 0.0]), torch.tensor([1, 0, 1])
    candidates = boxes[None], scores[None], classes[None]
    found = score_vote(boxes[None], classes[None], candidates)
    assert torch.equal(found, boxes[None])
    assert score_vote(boxes[None, :0], classes[None, :0], candidates).shape == (1, 0, 4)
