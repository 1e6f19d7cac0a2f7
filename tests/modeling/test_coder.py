"""Tests box coders by round trips, closed forms and published values."""

import math

import pytest
import torch
from helpers_reference import read_arrays

from dynamic_atss.modeling.coder import DeltaCoder, DistanceCoder
from dynamic_atss.modeling.priors import PointGenerator

CODERS = {"delta": DeltaCoder(), "distance": DistanceCoder(8)}


def make_boxes(count, seed):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 600
    return torch.cat((corner, corner + 1 + torch.rand(count, 2, generator=generator) * 300), 1)


@pytest.mark.parametrize("coder", CODERS.values(), ids=CODERS)
def test_round_trips(coder):
    gt, priors = make_boxes(200, 0), make_boxes(200, 1)
    deltas = coder.encode(gt, priors)
    torch.testing.assert_close(coder.decode(deltas, priors), gt, rtol=1e-5, atol=2e-3)
    again = coder.encode(coder.decode(deltas, priors), priors)
    torch.testing.assert_close(again, deltas, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("coder", CODERS.values(), ids=CODERS)
def test_leading_dimensions_broadcast(coder):
    priors = make_boxes(5, 2)
    deltas = torch.rand(3, 5, 4)
    boxes = coder.decode(deltas, priors)
    assert boxes.shape == (3, 5, 4)
    for n in range(3):
        alone = coder.decode(deltas[n], priors)
        torch.testing.assert_close(boxes[n], alone, rtol=1e-6, atol=1e-4)  # exp may round


def test_deltas_by_hand():
    """A prior of 10 x 20 pixels around (4.5, 9.5) learns a box of 20 x 20 around (9.5, 9.5)."""
    prior, gt = torch.tensor([0.0, 0, 9, 19]), torch.tensor([0.0, 0, 19, 19])
    expected = [10 * 5 / 10, 0, 5 * math.log(2), 0]
    assert CODERS["delta"].encode(gt, prior).tolist() == pytest.approx(expected)
    assert CODERS["delta"].decode(torch.zeros(4), prior).tolist() == [0, 0, 9, 19]


def test_log_sizes_are_capped_above_only():
    prior = torch.tensor([0.0, 0, 15, 15])
    deltas = torch.tensor([[0.0, 0, 1e4, 5 * math.log(1000 / 16)], [0, 0, -1e4, -5]])
    big, small = CODERS["delta"].decode(deltas, prior)
    assert big.tolist() == pytest.approx([-492, -492, 507, 507], abs=1e-2)  # 1000 pixels
    width, height = (small[2:] - small[:2] + 1).tolist()
    assert width == pytest.approx(0, abs=1e-5)
    assert height == pytest.approx(16 / math.e, abs=1e-5)


def test_no_gradient_above_the_cap():
    deltas = torch.tensor([0.0, 0, 1e4, 1e4], requires_grad=True)
    CODERS["delta"].decode(deltas, torch.tensor([0.0, 0, 15, 15])).square().sum().backward()
    assert (deltas.grad[2:] == 0).all()
    assert deltas.grad.isfinite().all()


def test_distances_by_hand():
    """A unit is an eighth of the anchor, which is one stride of 8 for an anchor of 64 pixels."""
    prior, gt = torch.tensor([-27.5, -27.5, 35.5, 35.5]), torch.tensor([0.0, -4, 20, 12])
    assert CODERS["distance"].encode(gt, prior).tolist() == [0.5, 1, 2, 1]
    assert CODERS["distance"].decode(torch.zeros(4), prior).tolist() == [4, 4, 4, 4]


@pytest.mark.parametrize("case", ["case00", "case01", "case06", "case08", "case09"])
def test_published_decoded_boxes(golden, case):
    arrays = read_arrays(golden, "assign_dynamic.npz")
    deltas, anchors, decoded = (
        arrays[f"{case}_{name}"] for name in ("box_regression", "anchors", "decoded")
    )
    boxes = CODERS["delta"].decode(deltas, anchors)
    torch.testing.assert_close(boxes, decoded, rtol=1e-6, atol=1e-4)


def test_distances_in_pixels_and_in_strides_of_a_point():
    """Uses a point at (12, 4) on a level of stride 8."""
    [point] = PointGenerator((8,))(((1, 2),), torch.device("cpu")).boxes[1:]
    gt = torch.tensor([4.0, 2, 28, 12])
    assert DistanceCoder(None).encode(gt, point).tolist() == [8, 2, 16, 8]
    assert DistanceCoder(1.0).encode(gt, point).tolist() == [1, 0.25, 2, 1]
    for coder in (DistanceCoder(None), DistanceCoder(1.0)):
        assert torch.equal(coder.decode(coder.encode(gt, point), point), gt)
