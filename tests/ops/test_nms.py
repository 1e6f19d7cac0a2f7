"""Compares NMS with a greedy loop."""

import pytest
import torch
from helpers_nms import greedy

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.ops.nms import _reference, multiclass_nms


def make_boxes(count, seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 60 * scale
    side = torch.rand(count, 2, generator=generator) * 40 * scale
    scores = torch.rand(count, generator=generator)
    return torch.cat((corner, corner + side), 1), scores, generator


@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("convention", BoxConvention)
@pytest.mark.parametrize("classes", [1, 3, 500])
def test_greedy_loop(threshold, convention, classes):
    boxes, scores, generator = make_boxes(250, classes)
    labels = torch.randint(classes, (250,), generator=generator)
    keep = multiclass_nms(boxes, scores, labels, threshold, convention)
    assert keep.tolist() == greedy(boxes, scores, labels, threshold, convention.value)


def test_the_legacy_extent_decides():
    """Pixels 0..9 and 0..5 have the IoU 6/10 with "+1", which is kept at 0.6, and 5/9 without.
    0..9 and 0..6 have 7/10 with "+1"."""
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 5], [0, 0, 6, 9]])
    scores, classes = torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3).long()
    assert multiclass_nms(boxes[:2], scores[:2], classes[:2], 0.6).tolist() == [0, 1]
    assert multiclass_nms(boxes[:2], scores[:2], classes[:2], 0.59).tolist() == [0]
    exact = multiclass_nms(boxes[:2], scores[:2], classes[:2], 0.59, BoxConvention.EXACT)
    assert exact.tolist() == [0, 1]
    assert multiclass_nms(boxes[[0, 2]], scores[:2], classes[:2], 0.6).tolist() == [0]


def test_boxes_of_one_pixel_are_boxes():
    boxes = torch.tensor([[5.0, 5, 5, 5], [5, 5, 5, 5], [6, 5, 6, 5]])
    keep = multiclass_nms(boxes, torch.tensor([0.5, 0.4, 0.3]), torch.zeros(3).long(), 0.6)
    assert keep.tolist() == [0, 2]


def test_of_equal_scores_the_first_wins():
    boxes = torch.tensor([[0.0, 0, 9, 9]]).repeat(4, 1)
    keep = multiclass_nms(boxes, torch.full((4,), 0.5), torch.tensor([1, 0, 0, 1]), 0.6)
    assert keep.tolist() == [0, 1]


def test_nothing():
    keep = multiclass_nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long(), 0.5)
    assert keep.shape == (0,)
    assert keep.dtype == torch.int64


@pytest.mark.parametrize("shift", [0.0, -5000.0, 1e5])
def test_classes_far_apart_do_not_round_the_boxes(shift):
    """With 1,203 classes on a large image, an offset in float32 would move corners by 1/4 pixel."""
    boxes, scores, generator = make_boxes(300, 5, scale=0.2)
    far = torch.tensor([[4000.0, 4000, 4012, 4012]])
    boxes = torch.cat((boxes, far)) + shift
    scores = torch.cat((scores, torch.tensor([0.99])))
    labels = 1200 + torch.randint(3, (301,), generator=generator)
    keep = multiclass_nms(boxes, scores, labels, 0.6)
    assert keep.tolist() == greedy(boxes, scores, labels, 0.6, 1.0)


def test_neighbouring_classes_never_touch():
    """The offset between two classes exceeds the full range of coordinates, also negative ones."""
    boxes = torch.tensor([[-50.0, -50, 100, 100], [-50, -50, 100, 100], [0, 0, 150, 150]])
    keep = multiclass_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 1, 2]), 0.0)
    assert keep.tolist() == [0, 1, 2]


def test_many_boxes_go_class_by_class(monkeypatch):
    boxes, scores, generator = make_boxes(400, 7, scale=0.3)
    scores[::5] = 0.5  # ties
    labels = torch.randint(4, (400,), generator=generator)
    wanted = multiclass_nms(boxes, scores, labels, 0.5)
    monkeypatch.setattr("dynamic_atss.ops.nms._ONE_PASS", 100)
    assert multiclass_nms(boxes, scores, labels, 0.5).tolist() == wanted.tolist()
    keep, (count,) = _reference(boxes[None], scores[None], labels[None], 0.5, 1.0, None)
    assert keep[0, :count].tolist() == wanted.tolist()
