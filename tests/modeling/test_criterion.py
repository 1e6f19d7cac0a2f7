"""The loss terms in the cases where the releases break, and the collectives they take."""

import pytest
import torch

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.modeling.coder import DeltaCoder
from dynamic_atss.modeling.criterion import Criterion
from dynamic_atss.modeling.head import HeadOutput
from dynamic_atss.modeling.priors import AnchorGenerator
from dynamic_atss.types import BACKGROUND, Assignment, GroundTruth

MAPS = ((8, 8), (4, 4), (2, 2))
CLASSES = 3
PRIORS = AnchorGenerator((8, 16, 32), (64, 128, 256))(MAPS, torch.device("cpu"))
BOXES = [[10.0, 10, 50, 50], [20, 5, 60, 40]]


class Counting:
    """Stands for the mean over processes; keeps what it was called with."""

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
    losses = Criterion(ASSIGNERS[rule](), DeltaCoder(), average)(output, PRIORS, make_gt(boxes, 1))
    assert list(losses) == ["loss_cls", "loss_reg", f"loss_{ASSIGNERS[rule].quality_name}"]
    assert all(x.shape == () and x.isfinite() for x in losses.values())
    assert all(x.isfinite().all() for x in gradients(losses, output))
    assert [(x.shape, x.dtype) for x in average.calls] == [((3,), torch.float32)]
    positives, qualities, _ = average.calls[0].tolist()
    assert 0 <= qualities <= positives


@pytest.mark.parametrize("rule", ASSIGNERS)
def test_without_boxes_only_the_background_is_learnt(rule):
    output = make_output()
    losses = Criterion(ASSIGNERS[rule](), DeltaCoder(), Counting())(output, PRIORS, make_gt([]))
    terms = [x.item() for x in losses.values()]
    assert terms[0] > 0 and terms[1:] == [0, 0]
    logits, deltas, quality = gradients(losses, output)
    assert (logits > 0).all()
    assert (deltas == 0).all() and (quality == 0).all()


class Fixed:
    """An assigner that gives prior 3 of image 0 to box 1 with a set quality."""

    soft_labels, quality_name = True, "IoU"

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
    losses = Criterion(Fixed(0.0), DeltaCoder(), Counting())(output, PRIORS, make_gt(BOXES))
    assert losses["loss_reg"].item() == 0
    assert all(x.isfinite().all() for x in gradients(losses, output))


def test_terms_by_hand():
    """Prior 3 predicts itself: decoded from zero deltas; its GIoU with box 1 is written out."""
    output = make_output()
    deltas = torch.zeros_like(output.deltas)
    output = output._replace(deltas=deltas)
    totals = torch.tensor([4.0, 1.6, 1.6])
    losses = {
        weight: Criterion(Fixed(0.8), DeltaCoder(), Counting(totals), box_weight=weight)(
            output, PRIORS, make_gt(BOXES)
        )
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
    """A quarter of a positive per process still divides by 1."""
    output, gt = make_output(), make_gt(BOXES)
    quarter = Counting(torch.tensor([0.25, 0.2, 0.2]))
    one = Counting(torch.tensor([1.0, 0.2, 0.2]))
    a, b = (Criterion(Fixed(0.8), DeltaCoder(), c)(output, PRIORS, gt) for c in (quarter, one))
    assert {k: v.item() for k, v in a.items()} == {k: v.item() for k, v in b.items()}
