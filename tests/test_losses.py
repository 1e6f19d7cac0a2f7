"""Tests the losses against sums computed by hand."""

import math

import pytest
import torch

from dynamic_atss.losses import giou_loss, iou_loss, quality_loss, smooth_l1_loss


def test_giou_loss_is_a_weighted_sum():
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]])
    targets = torch.tensor([[0.0, 0, 10, 10]]).expand(3, 4)
    weight = torch.tensor([0.3, 0.5, 0.25])
    expected = 0.3 * 0 + 0.5 * (1 - 1 / 3) + 0.25 * (1 + 700 / 900)
    assert giou_loss(boxes, targets, weight).item() == pytest.approx(expected, abs=1e-6)


def test_a_pair_of_weight_zero_has_no_loss_and_no_gradient():
    boxes = torch.tensor([[0.0, 0, 10, 10], [1e4, 1e4, 9e4, 9e4]], requires_grad=True)
    targets = torch.tensor([[1.0, 1, 9, 9], [0, 0, 0, 0]])
    loss = giou_loss(boxes, targets, torch.tensor([1.0, 0.0]))
    alone = giou_loss(boxes[:1], targets[:1], torch.ones(1))
    assert loss.item() == alone.item()
    loss.backward()
    assert boxes.grad[0].abs().sum() > 0
    assert (boxes.grad[1] == 0).all()


def test_quality_loss_is_the_cross_entropy_of_positives():
    logits = torch.tensor([0.3, -2.0, 1.5], dtype=torch.float64)
    quality = torch.tensor([0.8, 0.1, 0.4], dtype=torch.float64)
    positive = torch.tensor([True, True, False])
    expected = 0.0
    for x, q in ((0.3, 0.8), (-2.0, 0.1)):
        p = 1 / (1 + math.exp(-x))
        expected -= q * math.log(p) + (1 - q) * math.log(1 - p)
    assert quality_loss(logits, quality, positive).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("size", [120.0, 1e4])
def test_quality_loss_of_large_logits(size):
    logits = torch.tensor([size, -size], requires_grad=True)
    loss = quality_loss(logits, torch.tensor([0.25, 0.25]), torch.tensor([True, True]))
    assert loss.item() == pytest.approx(0.75 * size + 0.25 * size)
    loss.backward()
    assert logits.grad.tolist() == pytest.approx([0.75, -0.25])


def test_without_positives_loss_and_gradient_are_zero():
    logits = torch.randn(4, requires_grad=True)
    loss = quality_loss(logits, torch.zeros(4), torch.zeros(4, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()
    assert giou_loss(torch.zeros(0, 4), torch.zeros(0, 4), torch.zeros(0)).item() == 0


@pytest.mark.parametrize("plus", [0.0, 1.0, 64.0])
def test_iou_losses_by_hand(plus):
    """Uses boxes of 10 x 10 that share 5 x 10 and have a hull of 15 x 10."""
    boxes, targets = torch.tensor([[5.0, 0, 15, 10]]), torch.tensor([[0.0, 0, 10, 10]])
    iou = (50 + plus) / (150 + plus)
    expected = {"iou": -math.log(iou), "linear_iou": 1 - iou, "giou": 1 - iou}
    for kind, value in expected.items():
        loss = iou_loss(boxes, targets, torch.tensor([0.5]), kind, plus)
        assert loss.item() == pytest.approx(0.5 * value, rel=1e-6)
    apart = torch.tensor([[20.0, 0, 30, 10]])
    loss = iou_loss(apart, targets, torch.ones(1), "giou", plus).item()
    assert loss == pytest.approx(1 - plus / (200 + plus) + 100 / 300, rel=1e-6)


@pytest.mark.parametrize("kind", ["iou", "linear_iou", "giou"])
def test_iou_losses_of_boxes_that_do_not_overlap_are_finite(kind):
    boxes = torch.tensor([[20.0, 20, 30, 30], [5, 5, 5, 5]], requires_grad=True)
    targets = torch.tensor([[0.0, 0, 10, 10], [5, 5, 5, 5]])
    loss = iou_loss(boxes, targets, torch.ones(2), kind)
    loss.backward()
    assert loss.isfinite() and boxes.grad.isfinite().all()


def test_a_very_wrong_box_still_learns_in_fcos():
    """A box of 12,000 pixels for one of 8 has an IoU below 1e-6, which only DSLA limits."""
    boxes = torch.tensor([[0.0, 0, 12000, 12000]], requires_grad=True)
    targets = torch.tensor([[0.0, 0, 8, 8]])
    loss = iou_loss(boxes, targets, torch.ones(1), "iou", 1.0)
    assert loss.item() == pytest.approx(-math.log(65 / (12000**2 + 1)), rel=1e-5)
    assert torch.autograd.grad(loss, boxes)[0].abs().sum() > 0
    bounded = iou_loss(boxes, targets, torch.ones(1), "iou")
    assert bounded.item() == pytest.approx(-math.log(1e-6), rel=1e-5)


def test_smooth_l1_by_hand():
    deltas = torch.tensor([[0.05, -0.2, 0, 1.0], [9, 9, 9, 9]])
    loss = smooth_l1_loss(deltas, torch.zeros(2, 4), torch.tensor([2.0, 0.0]), beta=0.1)
    expected = 0.5 * 0.05**2 / 0.1 + (0.2 - 0.05) + (1.0 - 0.05)
    assert loss.item() == pytest.approx(2 * expected, rel=1e-6)
