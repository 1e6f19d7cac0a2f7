"""Compares focal losses with the dense formulas."""

import math

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss as torchvision_focal_loss

from dynamic_atss.losses import weighted_focal_loss
from dynamic_atss.ops.focal import (
    quality_focal_loss,
    sigmoid_focal_loss,
    sigmoid_focal_rows,
    varifocal_loss,
)

ROWS, CLASSES = 9, 4


def make_inputs(seed=0):
    """Makes positives of every class, background and ignored rows."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(ROWS, CLASSES, generator=generator, dtype=torch.float64) * 3
    classes = torch.tensor([0, 1, 2, 3, -1, -1, -2, 3, -2])
    return logits, classes, torch.rand(ROWS, generator=generator, dtype=torch.float64)


def written_out_quality(logits, classes, quality, gamma):
    total = 0.0
    for row, label, q in zip(logits.tolist(), classes.tolist(), quality.tolist(), strict=True):
        for c, x in enumerate(row):
            p = 1 / (1 + math.exp(-x))
            target = q if c == label else 0.0
            entropy = -target * math.log(p) - (1 - target) * math.log(1 - p)
            total += 0.0 if label == -2 else abs(target - p) ** gamma * entropy
    return total


def written_out_focal(logits, classes, alpha, gamma):
    total = 0.0
    for row, label in zip(logits.tolist(), classes.tolist(), strict=True):
        for c, x in enumerate(row):
            p = 1 / (1 + math.exp(-x))
            if label == -2:
                continue
            if c == label:
                total -= alpha * (1 - p) ** gamma * math.log(p)
            else:
                total -= (1 - alpha) * p**gamma * math.log(1 - p)
    return total


def written_out_varifocal(logits, classes, quality, alpha, gamma):
    total = 0.0
    for row, label, q in zip(logits.tolist(), classes.tolist(), quality.tolist(), strict=True):
        for c, x in enumerate(row):
            p = 1 / (1 + math.exp(-x))
            if label == -2:
                continue
            if c == label and q > 0:
                total -= q * (q * math.log(p) + (1 - q) * math.log(1 - p))
            else:
                total -= alpha * p**gamma * math.log(1 - p)
    return total


@pytest.mark.parametrize("gamma", [2.0, 1.5, 3.0, 1.0])
def test_quality_focal_loss(gamma):
    inputs = make_inputs()
    expected = written_out_quality(*inputs, gamma)
    assert quality_focal_loss(*inputs, gamma).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("alpha, gamma", [(0.25, 2.0), (0.6, 1.5), (0.25, 3.0), (0.5, 0.0)])
def test_sigmoid_focal_loss(alpha, gamma):
    logits, classes, _ = make_inputs()
    expected = written_out_focal(logits, classes, alpha, gamma)
    loss = sigmoid_focal_loss(logits, classes, alpha, gamma)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("gamma", [2.0, 0.0])
def test_no_alpha_as_in_torchvision(gamma):
    """With alpha below 0, positives and negatives have the weight 1."""
    logits, classes, label = make_inputs()
    kept = classes != -2
    target = torch.zeros_like(logits)
    positive = (classes >= 0).nonzero()[:, 0]
    target[positive, classes[positive]] = 1.0
    dense = torchvision_focal_loss(logits, target, alpha=-1, gamma=gamma)[kept]
    torch.testing.assert_close(sigmoid_focal_loss(logits, classes, -1, gamma), dense.sum())
    rows = kept.nonzero()[:, 0]
    found = sigmoid_focal_rows(logits, rows, classes[rows], -1, gamma)
    torch.testing.assert_close(found, dense.sum(1))
    weighted = weighted_focal_loss(logits, classes, label, None, None, "focal", -1, gamma)
    torch.testing.assert_close(weighted, dense.sum())
    with pytest.raises(ValueError, match="varifocal loss: alpha is -1; it must be at least 0"):
        varifocal_loss(logits, classes, label, -1, gamma)


@pytest.mark.parametrize("alpha, gamma", [(0.75, 2.0), (0.5, 1.5), (1.0, 3.0)])
def test_varifocal_loss(alpha, gamma):
    logits, classes, quality = make_inputs()
    quality[2] = 0  # a positive of quality 0
    expected = written_out_varifocal(logits, classes, quality, alpha, gamma)
    loss = varifocal_loss(logits, classes, quality, alpha, gamma)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_varifocal_defaults_are_the_paper_s():
    inputs = make_inputs()
    assert torch.equal(varifocal_loss(*inputs), varifocal_loss(*inputs, alpha=0.75, gamma=2.0))


def test_rows_of_the_focal_loss():
    logits, classes, _ = make_inputs()
    order = torch.tensor([3, 0, 3, *range(ROWS)])
    losses = sigmoid_focal_rows(logits, order, classes[order], 0.3, 1.5)
    assert losses.shape == order.shape
    for i, row in enumerate(order):
        expected = written_out_focal(logits[row : row + 1], classes[row : row + 1], 0.3, 1.5)
        assert losses[i].item() == pytest.approx(expected, rel=1e-12)


def test_gradients():
    logits, classes, quality = make_inputs(1)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: quality_focal_loss(x, classes, quality), logits)
    assert torch.autograd.gradcheck(lambda x: sigmoid_focal_loss(x, classes), logits)
    assert torch.autograd.gradcheck(lambda x: varifocal_loss(x, classes, quality), logits)


def losses(logits, classes, quality):
    return {
        "quality": quality_focal_loss(logits, classes, quality),
        "sigmoid": sigmoid_focal_loss(logits, classes),
        "varifocal": varifocal_loss(logits, classes, quality),
    }


@pytest.mark.parametrize("name", ["quality", "sigmoid", "varifocal"])
@pytest.mark.parametrize("size", [17.0, 89.0, 120.0, 1e4])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_far_out(name, size, sign):
    """The release gives NaN there. In the limit only wrong classes have a loss, the logit."""
    logits = torch.full((2, 2), sign * size, requires_grad=True)
    classes, quality = torch.tensor([1, -1]), torch.tensor([1.0, 0.5])
    loss = losses(logits, classes, quality)[name]
    loss.backward()
    assert logits.grad.isfinite().all()
    wrong = {"quality": 1.0, "sigmoid": 0.75, "varifocal": 0.75}[name] * 3 if sign > 0 else 1.0
    wrong = 0.25 if sign < 0 and name == "sigmoid" else wrong
    assert loss.item() == pytest.approx(wrong * size, rel=1e-4)


@pytest.mark.parametrize("name", ["quality", "sigmoid", "varifocal"])
def test_ignored_rows_neither_count_nor_learn(name):
    logits, classes, quality = make_inputs(2)
    logits.requires_grad_()
    used = classes != -2
    loss = losses(logits, classes, quality)[name]
    alone = losses(logits[used], classes[used], quality[used])[name]
    assert loss.item() == pytest.approx(alone.item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (gradient[~used] == 0).all()
    assert (gradient[used] != 0).all()


@pytest.mark.parametrize("name", ["quality", "sigmoid", "varifocal"])
def test_no_positives_and_no_rows(name):
    logits, _, quality = make_inputs(3)
    background = torch.full((ROWS,), -1)
    p = logits.sigmoid()
    expected = (-(p**2) * (1 - p).log()).sum() * {"quality": 1.0}.get(name, 0.75)
    torch.testing.assert_close(losses(logits, background, quality)[name], expected)
    empty = torch.zeros(0, CLASSES, requires_grad=True)
    loss = losses(empty, torch.zeros(0).long(), torch.zeros(0))[name]
    loss.backward()
    assert loss.item() == 0


def test_a_perfect_prediction_costs_nothing():
    quality = torch.tensor([0.7], dtype=torch.float64)
    logits = torch.tensor([[math.log(0.7 / 0.3), -800.0]], dtype=torch.float64)
    assert quality_focal_loss(logits, torch.tensor([0]), quality).item() == pytest.approx(0)
