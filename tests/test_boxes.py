"""Tests box geometry against closed forms and values computed by hand."""

import pytest
import torch

from dynamic_atss import boxes as B

LEGACY = B.BoxConvention.LEGACY
A = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [2, 2, 4, 4]])
BB = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [0, 0, 10, 10]])


def random_boxes(count, seed):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 50
    return torch.cat((corner, corner + torch.rand(count, 2, generator=generator).double() * 40), 1)


def test_area():
    assert B.area(torch.tensor([[1.0, 2, 4, 8]])).tolist() == [18]
    assert LEGACY.area(torch.tensor([[1.0, 2, 4, 8]])).tolist() == [28]


def test_iou_by_hand():
    assert B.iou(A, BB).tolist() == pytest.approx([1, 50 / 150, 0, 4 / 100])
    expected = [1, 66 / (121 + 121 - 66), 0, 9 / 121]
    assert LEGACY.iou(A, BB).tolist() == pytest.approx(expected)


def test_legacy_iou_of_touching_pixels():
    """Uses boxes of whole pixels: [0, 0] and [0, 1] share one pixel of two."""
    one, two = torch.tensor([0.0, 0, 0, 0]), torch.tensor([0.0, 0, 0, 1])
    assert LEGACY.iou(one, two).item() == 0.5
    assert B.iou(one, two).item() == 0  # boxes without area: 0, not NaN


def test_pairwise_equals_aligned_for_each_pair():
    a, b = random_boxes(7, 0), random_boxes(5, 1)
    pairwise = LEGACY.iou(a[:, None], b[None])
    assert pairwise.shape == (7, 5)
    for i in range(7):
        for j in range(5):
            assert pairwise[i, j] == LEGACY.iou(a[i], b[j])


def test_iou_of_boxes_that_are_not_finite_is_zero():
    boxes = torch.tensor([[torch.nan] * 4, [torch.inf] * 4, [-torch.inf, 0, torch.inf, 1]])
    assert B.iou(boxes, torch.tensor([0.0, 0, 10, 10])).tolist() == [0, 0, 0]


def test_giou_by_hand():
    # Boxes side by side have a hull of 20 x 10, diagonal ones a hull of 30 x 30 and a union of 200.
    assert B.giou(A, BB).tolist() == pytest.approx(
        [1, 1 / 3, -(900 - 200) / 900, 4 / 100], abs=1e-6
    )
    apart = B.giou(torch.tensor([0.0, 0, 1, 1]), torch.tensor([1e4, 1e4, 1e4 + 1, 1e4 + 1]))
    assert apart.item() == pytest.approx(-1, abs=1e-4)


def test_giou_of_boxes_without_area_and_inverted_ones():
    points = torch.zeros(1, 4, requires_grad=True)
    value = B.giou(points, torch.zeros(1, 4))
    assert value.isfinite().all()
    value.sum().backward()
    assert points.grad.isfinite().all()
    inverted = torch.tensor([[5.0, 5, 3, 3]])
    flat = torch.tensor([[5.0, 5, 5, 5]])
    other = torch.tensor([[0.0, 0, 10, 10]])
    assert torch.equal(B.giou(inverted, other), B.giou(flat, other))


def test_giou_gradient():
    a, b = random_boxes(6, 2).requires_grad_(), random_boxes(6, 3)
    assert torch.autograd.gradcheck(B.giou, (a, b))


def test_clip_is_to_the_last_pixel_of_each_image():
    boxes = torch.tensor([[[-5.0, -5, 50, 50]], [[3, 4, 100, 9]]])
    sizes = torch.tensor([[20, 30], [40, 60]])[:, None]
    assert LEGACY.clip(boxes, sizes).tolist() == [[[0, 0, 29, 19]], [[3, 4, 59, 9]]]


def test_centers_and_sides():
    box = torch.tensor([[0.0, 10, 4, 30]])
    assert B.centers(box).tolist() == [[2, 20]]
    assert B.sides(torch.tensor([[1.0, 15]]), box).tolist() == [[1, 5, 3, 15]]
    assert B.sides(torch.tensor([[-1.0, 15]]), box).min() < 0


def test_centerness():
    box = torch.tensor([0.0, 0, 8, 4])
    points = torch.tensor([[4.0, 2], [2, 1], [0, 2], [9, 2], [4, -1], [-9, -9]])
    expected = [1, (2 / 6 * 1 / 3) ** 0.5, 0, 0, 0, 0]
    assert B.centerness(points, box).tolist() == pytest.approx(expected)
    assert B.centerness(torch.tensor([3.0, 3]), torch.tensor([3.0, 3, 3, 3])).item() == 0


def test_centerness_outside_of_an_infinite_box():
    """Checks that 0 times infinity does not give NaN. tests/fuzz found this case."""
    inf = float("inf")
    boxes = torch.tensor([[5.0, 0, 8, inf], [-inf, 5, inf, 8], [0, 0, -9, inf]])
    assert B.centerness(torch.tensor([3.0, 3]), boxes).tolist() == [0, 0, 0]
