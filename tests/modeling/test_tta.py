"""Tests the passes of test-time augmentation with detectors of known results."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.modeling.tta import (
    AugmentedDetector,
    ScaleOptions,
    flipped,
    join,
    merge_by_nms,
    merge_by_vote,
    mirrored,
    within,
)
from dynamic_atss.types import Batch, Detections, GroundTruth

NO_GT = GroundTruth(
    torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
)


def make_batch(*sizes, scaled=()):
    """Makes random images of these (height, width), padded with 0."""
    height, width = (max(side) for side in zip(*sizes, strict=True))
    images = torch.zeros(len(sizes), 3, height, width, dtype=torch.uint8)
    for image, (h, w) in zip(images, sizes, strict=True):
        image[:, :h, :w] = torch.randint(1, 256, (3, h, w))
    ids = tuple(range(len(sizes)))
    return Batch(images, torch.tensor(sizes), NO_GT, ids, sizes, scaled=tuple(scaled))


def found(*rows):
    """Makes detections from rows of x1 y1 x2 y2 score class."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].long())


class Brightest(nn.Module):
    """Finds the rectangle of pixels of value 255. The score depends on the number of the call."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, batch, *, nms=True):
        self.calls.append((tuple(batch.images.shape), nms))
        return [self.look(image[0]) for image in batch.images]

    def look(self, image):
        ys, xs = (image == 255).nonzero(as_tuple=True)
        if not len(xs):
            return found()
        score = 0.9 - 0.1 * len(self.calls)
        return found([xs.min(), ys.min(), xs.max(), ys.max(), score, 0])


def with_rectangle(batch, x1, y1, x2, y2, image=0):
    batch.images.clamp_(max=254)
    batch.images[image, :, y1 : y2 + 1, x1 : x2 + 1] = 255
    return batch


def test_mirrored_within_each_image():
    batch = make_batch((5, 7), (8, 4), (1, 1))
    images = mirrored(batch).images
    for image, source, (h, w) in zip(images, batch.images, batch.sizes.tolist(), strict=True):
        assert torch.equal(image[:, :h, :w], source[:, :h, :w].flip(2))
        assert image.sum() == source.sum()  # the padding is still 0 at the right and the bottom
    assert torch.equal(mirrored(mirrored(batch)).images, batch.images)


def test_passes_find_the_same_box():
    """Two sizes, each also mirrored, give the same rectangle four times in the first size."""
    large = with_rectangle(make_batch((40, 60), (30, 20)), 8, 12, 23, 31)
    batch = with_rectangle(make_batch((20, 30), (15, 10), scaled=[large]), 4, 6, 11, 15)
    model = Brightest()
    detector = AugmentedDetector(
        model, [ScaleOptions(flip=True), ScaleOptions(flip=True)], lambda d: d, nms=False
    )
    first, second = detector(batch)
    wanted = torch.tensor([[4.0, 6, 11, 15]] * 2 + [[4, 6, 11.5, 15.5]] * 2)
    assert torch.equal(first.boxes, wanted)
    assert first.scores.tolist() == pytest.approx([0.8, 0.7, 0.6, 0.5])
    assert len(second) == 0
    small, big = ((2, 3, 20, 30), False), ((2, 3, 40, 60), False)
    assert model.calls == [small, small, big, big]  # both images in one forward pass


@pytest.mark.parametrize("flip", [False, True])
def test_ratios_are_per_axis(flip):
    scaled = with_rectangle(make_batch((21, 40)), 10, 7, 19, 13)
    batch = make_batch((10, 30), scaled=[scaled])
    batch.images.clamp_(max=254)
    scales = [ScaleOptions(), ScaleOptions(flip=flip)]
    (joined,) = AugmentedDetector(Brightest(), scales, lambda d: d, nms=True)(batch)
    box = torch.tensor([10 * 30 / 40, 7 * 10 / 21, 19 * 30 / 40, 13 * 10 / 21])
    torch.testing.assert_close(joined.boxes, box.expand(1 + flip, 4))


def test_each_convention_mirrors_about_its_own_edge():
    box, width = found([1, 2, 4, 5, 0.5, 0]), torch.tensor(10)
    assert flipped(box, width).boxes.tolist() == [[5, 2, 8, 5]]
    exact = replace(box, convention=BoxConvention.EXACT)
    assert flipped(exact, width).boxes.tolist() == [[6, 2, 9, 5]]


def test_size_ranges_are_open():
    boxes = found([0, 0, 9, 9, 0.9, 0], [0, 0, 9, 10, 0.8, 0], [0, 0, 19, 19, 0.7, 0])
    assert within(boxes, (10, 20)).scores.tolist() == pytest.approx([0.8])
    assert within(boxes, (0, 10000)).scores.tolist() == boxes.scores.tolist()


def test_ranges_are_of_the_view_s_own_pixels():
    scaled = with_rectangle(make_batch((40, 60)), 0, 0, 19, 19)
    batch = with_rectangle(make_batch((20, 30), scaled=[scaled]), 0, 0, 9, 9)
    scales = [ScaleOptions(), ScaleOptions(flip=True, size_range=(15, 30))]
    (joined,) = AugmentedDetector(Brightest(), scales, lambda d: d, nms=True)(batch)
    assert len(joined) == 3
    scales = [ScaleOptions(), ScaleOptions(flip=True, size_range=(5, 15))]
    (joined,) = AugmentedDetector(Brightest(), scales, lambda d: d, nms=True)(batch)
    assert len(joined) == 1


def test_not_finite_ones_are_left_out():
    nan, inf = float("nan"), float("inf")
    fine = [0, 0, 9, 9, 0.5, 1]
    rows = [[nan, 0, 9, 9, 0.9, 0], [0, 0, inf, 9, 0.9, 0], [0, 0, 9, 9, nan, 0], fine]
    joined = join([found(*rows[:2]), found(), found(*rows[2:])])
    assert torch.equal(joined.boxes, found(fine).boxes) and joined.classes.tolist() == [1]
    for merge in (merge_by_nms, merge_by_vote):
        assert len(merge(joined, threshold=0.6, limit=5)) == 1


@pytest.mark.parametrize("merge", [merge_by_nms, merge_by_vote])
def test_nothing_found_at_all(merge):
    batch = make_batch((20, 30))
    batch.images.clamp_(max=254)
    detector = AugmentedDetector(
        Brightest(), [ScaleOptions(flip=True)], lambda d: merge(d, threshold=0.6, limit=5), nms=True
    )
    assert [len(d) for d in detector(batch)] == [0]


@pytest.mark.parametrize("merge", [merge_by_nms, merge_by_vote])
def test_the_best_are_kept(merge):
    boxes = found(*([20 * i, 0, 20 * i + 9, 9, 0.1 + 0.1 * i, i % 2] for i in range(8)))
    kept = merge(boxes, threshold=0.6, limit=3)
    assert kept.scores.tolist() == pytest.approx([0.8, 0.7, 0.6])
    assert kept.boxes[:, 0].tolist() == [140, 120, 100] and kept.classes.tolist() == [1, 0, 1]


def test_scales_and_sizes_must_match():
    with pytest.raises(ValueError, match="zip"):
        AugmentedDetector(Brightest(), [ScaleOptions(), ScaleOptions()], lambda d: d, nms=True)(
            make_batch((4, 4))
        )
