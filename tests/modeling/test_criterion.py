"""Tests the loss terms in cases where the releases fail, and the collective calls."""

import pytest
import torch

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.boxes import iou
from dynamic_atss.modeling.coder import DeltaCoder, DistanceCoder
from dynamic_atss.modeling.criterion import LABELS, Criterion, RetinaNetCriterion
from dynamic_atss.modeling.head import HeadOutput
from dynamic_atss.modeling.priors import AnchorGenerator
from dynamic_atss.types import BACKGROUND, IGNORE, Assignment, GroundTruth

MAPS = ((8, 8), (4, 4), (2, 2))
CLASSES = 3
PRIORS = AnchorGenerator((8, 16, 32), (64, 128, 256))(MAPS, torch.device("cpu"))
BOXES = [[10.0, 10, 50, 50], [20, 5, 60, 40]]


class Counting:
    """Stands for the mean over processes. Records its arguments."""

    def __init__(self, result=None):
        self.calls, self.result = [], result

    def __call__(self, totals):
        self.calls.append(totals.clone())
        return totals if self.result is None else self.result


def make_gt(boxes, image=0):
    count = len(boxes)
    return GroundTruth(
        torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        torch.arange(count) % CLASSES,
        torch.full((count,), image),
    )


def make_output(images=2, size=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(images, len(PRIORS), CLASSES), (images, len(PRIORS), 4), (images, len(PRIORS))]
    leaves = [torch.randn(s, generator=generator).mul(size).requires_grad_() for s in shapes]
    return HeadOutput(*leaves, MAPS)


def gradients(losses, output):
    return torch.autograd.grad(sum(losses.values()), output[:3], allow_unused=False)


@pytest.mark.parametrize("rule", ASSIGNERS)
@pytest.mark.parametrize("boxes", [[], BOXES, [[500.0, 500, 510, 510]]], ids=["no", "two", "far"])
@pytest.mark.parametrize("size", [1.0, 120.0, 1e4])
def test_finite_with_the_same_terms_and_one_collective_whatever_the_data(rule, boxes, size):
    average, output = Counting(), make_output(size=size)
    losses = Criterion(ASSIGNERS[rule](), DeltaCoder(), average)(
        output, PRIORS, make_gt(boxes, 1)
    ).losses
    assert list(losses) == ["loss_cls", "loss_reg", f"loss_{ASSIGNERS[rule].quality_name}"]
    assert all(x.shape == () and x.isfinite() for x in losses.values())
    assert all(x.isfinite().all() for x in gradients(losses, output))
    sums = 3 + 2 * (rule == "dw")  # which gives two divisors
    assert [(x.shape, x.dtype) for x in average.calls] == [((sums,), torch.float32)]
    positives, qualities = average.calls[0].tolist()[:2]
    assert 0 <= qualities <= positives


def test_the_quality_loss_has_a_weight():
    output, gt = make_output(), make_gt(BOXES)
    once, half = (
        Criterion(ASSIGNERS["atss"](), DeltaCoder(), Counting(), quality_weight=w)(
            output, PRIORS, gt
        ).losses
        for w in (1.0, 0.5)
    )
    assert once["loss_centerness"] > 0
    assert half == once | {"loss_centerness": once["loss_centerness"] / 2}


@pytest.mark.parametrize("rule", ASSIGNERS)
def test_without_boxes_only_the_background_is_learnt(rule):
    output = make_output()
    losses = Criterion(ASSIGNERS[rule](), DeltaCoder(), Counting())(
        output, PRIORS, make_gt([])
    ).losses
    terms = [x.item() for x in losses.values()]
    assert terms[0] > 0 and terms[1:] == [0, 0]
    logits, deltas, quality = gradients(losses, output)
    assert (logits > 0).all()
    assert (deltas == 0).all() and (quality == 0).all()


class Fixed:
    """An assigner that gives prior 3 of image 0 to box 1 with a set quality."""

    soft_labels, quality_name, needs_size = True, "IoU", True

    def __init__(self, quality):
        self.quality = quality

    def __call__(self, priors, gt, predictions):
        assert not (predictions.boxes.requires_grad or predictions.logits.requires_grad)
        shape = predictions.boxes.shape[:2]
        result = Assignment(torch.full(shape, BACKGROUND), torch.zeros(shape))
        result.gt_index[0, 3] = 1
        result.quality[0, 3] = self.quality
        return result


def test_all_qualities_zero():
    output = make_output()
    losses = Criterion(Fixed(0.0), DeltaCoder(), Counting())(output, PRIORS, make_gt(BOXES)).losses
    assert losses["loss_reg"].item() == 0
    assert all(x.isfinite().all() for x in gradients(losses, output))


def test_terms_by_hand():
    """Prior 3 predicts itself, decoded from zero deltas. Its GIoU with box 1 is computed here."""
    output = make_output()
    deltas = torch.zeros_like(output.deltas)
    output = output._replace(deltas=deltas)
    totals = torch.tensor([4.0, 1.6, 1.6])
    losses = {
        weight: Criterion(Fixed(0.8), DeltaCoder(), Counting(totals), box_weight=weight)(
            output, PRIORS, make_gt(BOXES)
        ).losses
        for weight in (2.0, 5.0)
    }
    x1, y1, x2, y2 = PRIORS.boxes[3].tolist()
    a1, b1, a2, b2 = BOXES[1]
    inter = (min(x2, a2) - max(x1, a1)) * (min(y2, b2) - max(y1, b1))
    union = (x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - inter
    hull = (max(x2, a2) - min(x1, a1)) * (max(y2, b2) - min(y1, b1))
    giou = inter / union - (hull - union) / hull
    for weight, terms in losses.items():
        expected = (1 - giou) * 0.8 / 1.6 * weight
        assert terms["loss_reg"].item() == pytest.approx(expected, rel=1e-5)
    q = output.quality[0, 3].sigmoid()
    entropy = -(0.8 * q.log() + 0.2 * (1 - q).log()) / 4
    torch.testing.assert_close(losses[2.0]["loss_IoU"], entropy)
    target = torch.zeros_like(output.logits)
    target[0, 3, 1] = 0.8  # the class of box 1
    p = output.logits.sigmoid()
    dense = (target - p).square() * -(target * p.log() + (1 - target) * (1 - p).log())
    torch.testing.assert_close(losses[2.0]["loss_cls"], dense.sum() / 4)


def test_at_least_one_positive_in_the_normaliser():
    """With a quarter of a positive per process, the divisor is 1."""
    output, gt = make_output(), make_gt(BOXES)
    quarter = Counting(torch.tensor([0.25, 0.2, 0.2]))
    one = Counting(torch.tensor([1.0, 0.2, 0.2]))
    a, b = (
        Criterion(Fixed(0.8), DeltaCoder(), c)(output, PRIORS, gt).losses for c in (quarter, one)
    )
    assert {k: v.item() for k, v in a.items()} == {k: v.item() for k, v in b.items()}


class Ignoring(Fixed):
    """Like Fixed, but prior 5 of image 1 is ignored."""

    def __call__(self, priors, gt, predictions):
        result = super().__call__(priors, gt, predictions)
        result.gt_index[1, 5] = IGNORE
        return result


def test_retinanet_by_hand():
    """One positive in two images gives focal / (1 + 2) and smooth L1 / (4 * 1)."""
    output, gt = make_output()._replace(quality=None), make_gt(BOXES)
    rule = Ignoring(0.8)
    rule.soft_labels = False
    average = Counting()
    losses = RetinaNetCriterion(rule, DeltaCoder(), average)(output, PRIORS, gt).losses
    assert list(losses) == ["loss_retina_cls", "loss_retina_reg"] and len(average.calls) == 1
    target = torch.zeros_like(output.logits)
    target[0, 3, 1] = 1
    p = output.logits.sigmoid()
    right = torch.where(target > 0, p, 1 - p)
    alpha = torch.where(target > 0, 0.25, 0.75)
    dense = -alpha * (1 - right) ** 2 * right.log()
    dense[1, 5] = 0
    torch.testing.assert_close(losses["loss_retina_cls"], dense.sum() / 3)
    wanted = DeltaCoder().encode(gt.boxes[1], PRIORS.boxes[3])
    far = (output.deltas[0, 3] - wanted).abs()
    smooth = torch.where(far < 0.11, far.square() / 0.22, far - 0.055).sum()
    torch.testing.assert_close(losses["loss_retina_reg"], smooth / 4)


@pytest.mark.parametrize("boxes", [[], BOXES])
def test_retinanet_is_finite(boxes):
    output = make_output(size=120.0)._replace(quality=None)
    criterion = RetinaNetCriterion(ASSIGNERS["max_iou"](), DeltaCoder(), Counting())
    losses = criterion(output, PRIORS, make_gt(boxes)).losses
    assert all(loss.isfinite() for loss in losses.values())
    grads = torch.autograd.grad(sum(losses.values()), output[:2])
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("label", LABELS)
def test_what_the_class_target_is(label):
    """Prior 3 predicts itself, so the IoU is that of prior 3 with box 1."""
    output = make_output()
    output = output._replace(deltas=torch.zeros_like(output.deltas))
    iou_3 = iou(PRIORS.boxes[3], torch.tensor(BOXES[1])).item()
    expected = {"quality": 0.8, "iou": iou_3, "quality_x_iou": 0.8 * iou_3}[label]
    average = Counting()
    losses = Criterion(
        Fixed(0.8), DeltaCoder(), average, label=label, divide_by_labels=True, class_weight=3.0
    )(output, PRIORS, make_gt(BOXES)).losses
    torch.testing.assert_close(average.calls[0], torch.tensor([1.0, 0.8, expected]))
    target = torch.zeros_like(output.logits)
    target[0, 3, 1] = expected
    p = output.logits.sigmoid()
    dense = (target - p).square() * -(target * p.log() + (1 - target) * (1 - p).log())
    torch.testing.assert_close(losses["loss_cls"], 3 * dense.sum())  # divided by at least 1


def test_no_quality_branch_no_quality_loss():
    output = make_output()._replace(quality=None)
    losses = Criterion(Fixed(0.8), DeltaCoder(), Counting())(output, PRIORS, make_gt(BOXES)).losses
    assert list(losses) == ["loss_cls", "loss_reg"]


def test_boxes_of_the_background_need_not_be_finite():
    """A box branch may diverge there. It must not reach the loss or the gradient."""
    output = make_output()
    deltas = output.deltas.detach().clone()
    deltas[:, 9:] = torch.inf
    output = output._replace(deltas=deltas.requires_grad_())
    losses = Criterion(Fixed(0.8), DistanceCoder(None), Counting())(
        output, PRIORS, make_gt(BOXES)
    ).losses
    assert losses["loss_reg"].isfinite()
    losses["loss_reg"].backward()
    assert deltas.grad.isfinite().all() and (deltas.grad[:, 9:] == 0).all()
