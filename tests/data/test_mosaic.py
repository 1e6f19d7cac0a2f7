"""Mosaics: their boxes, their probability, and their dependence on seed and position only."""

import pickle

import numpy as np
import pytest
import torch
from helpers_data import box, open_coco, write_coco
from helpers_scenes import EMPTY, check_boxes, color, found, painted, random_scene

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.data.color import ColorJitter
from dynamic_atss.data.concat import ConcatDataset
from dynamic_atss.data.image import resize_with_pillow
from dynamic_atss.data.loader import build_train_loader
from dynamic_atss.data.mosaic import MosaicDataset, _cut, _cut_out, _quarters, mosaic
from dynamic_atss.data.transforms import Compose, HorizontalFlip, Resize
from dynamic_atss.types import GroundTruth

SIZES = {i: ((20, 30) if i % 3 else (30, 20)) for i in range(1, 10)}


def plain(height, width, index):
    """Makes an image of color(index) with a box of class `index` around it."""
    image = torch.tensor(color(index), dtype=torch.uint8).repeat(height, width, 1).permute(2, 0, 1)
    _, gt = painted(height, width, [[0, 0, width - 1, height - 1]])
    return image, GroundTruth(gt.boxes, gt.classes + index, gt.image_index)


@pytest.mark.parametrize("seed", range(12))
def test_four_quarters_fill_the_first_images_size(seed):
    parts = [plain(40, 60, 0), plain(30, 30, 1), plain(90, 20, 2), plain(7, 200, 3)]
    image, gt = mosaic(parts, np.random.default_rng(seed), min_visible=0.0)
    assert image.shape == (3, 40, 60) and gt.classes.tolist() == [0, 1, 2, 3]
    seen = [found(image, i) for i in range(4)]
    row, column = seen[0][3] + 1, seen[0][2] + 1
    assert 8 <= row <= 32 and 12 <= column <= 48
    assert seen == [
        [0, 0, column - 1, row - 1],
        [column, 0, 59, row - 1],
        [0, row, column - 1, 39],
        [column, row, 59, 39],
    ]
    check_boxes(image, gt)
    assert torch.equal(gt.boxes[:, :2], torch.tensor(seen)[:, :2].float())
    # A legacy box around an image ends one pixel before the image: `new / old` pixels of a quarter
    # that shows the end of the image. `seen` includes one of them.
    for (part, _), corners, gap in zip(parts, seen, torch.tensor(seen) - gt.boxes, strict=True):
        height, width = part.shape[1:]
        wide, high = corners[2] - corners[0] + 1, corners[3] - corners[1] + 1
        shown = min(width, round(height * wide / high)), min(height, round(width * high / wide))
        sides = zip((wide, high), shown, (width, height), gap[2:].tolist(), strict=True)
        for new, old, side, missing in sides:
            at_the_end = pytest.approx(max(new / old - 1, 0.0), abs=1e-3)
            assert missing == at_the_end or (missing == 0 and old < side)


def test_painted_boxes_are_found():
    """Three images have a box each, of different class and colour; the fourth has none."""
    boxes = [[20, 14, 50, 44], [5, 5, 60, 50], [30, 20, 90, 60]]
    scenes = [painted(64, 96, [[0, 0, 0, 0]] * i + [box]) for i, box in enumerate(boxes)]
    parts = [(image, last_box(gt)) for image, gt in scenes]
    for image, _ in parts:
        image[:, 0, 0] = 0  # remove the boxes of the earlier colours
    parts.append((torch.zeros(3, 50, 50, dtype=torch.uint8), EMPTY))
    moved = 0
    for seed in range(30):
        image, gt = mosaic(parts, np.random.default_rng(seed), min_visible=0.1)
        for index, corners in zip(gt.classes.tolist(), gt.boxes.tolist(), strict=True):
            seen = found(image, index)
            assert seen is not None
            assert (torch.tensor(seen) - torch.tensor(corners)).abs().max() < 2, (seed, index)
            moved += 1
    assert moved > 60


def last_box(gt):
    """Returns only the last box."""
    return GroundTruth(gt.boxes[-1:], gt.classes[-1:], gt.image_index[-1:])


@pytest.mark.parametrize("convention", BoxConvention)
@pytest.mark.parametrize("seed", range(20))
def test_random_scenes(seed, convention):
    rng = np.random.default_rng(seed)
    shapes = rng.integers(3, 50, (4, 2)).tolist()
    parts = [
        random_scene(seed + 50 * i, *shape, (seed + i) % 4, convention)
        for i, shape in enumerate(shapes)
    ]
    image, gt = mosaic(parts, np.random.default_rng(seed), 0.3)
    assert list(image.shape[1:]) == shapes[0]
    check_boxes(image, gt)


def test_lost_boxes_and_tiny_images():
    rng = np.random.default_rng(0)
    speck = painted(50, 50, [[10, 10, 11, 11]])
    bare = torch.zeros(3, 50, 50, dtype=torch.uint8), EMPTY
    for _ in range(20):
        assert len(mosaic([speck, bare, bare, bare], rng, min_visible=0.9)[1]) == 1
    for size in ((1, 1), (1, 80), (80, 1)):
        thin = torch.zeros(3, *size, dtype=torch.uint8), EMPTY
        assert mosaic([thin, speck, speck, speck], rng, 0.3) is thin
        assert mosaic([speck, thin, thin, thin], rng, 0.3)[0].shape == (3, 50, 50)


def make(tmp_path, prob=1.0, stop=10**9, transform=None):
    entries = [box(i, i, [1, 1, 12 + i, 14]) for i in SIZES]
    data = open_coco(write_coco(tmp_path, SIZES, entries), transform=transform, seed=2)
    return MosaicDataset(data, prob, stop=stop, min_visible=0.1)


def test_samples_of_the_data_set(tmp_path):
    data = make(tmp_path)
    assert len(data) == 9 and data.class_names == ["cat", "dog"]
    for index, (height, width) in enumerate(data.sizes.tolist()):
        sample = data[index, 100 + index]
        assert sample.image.shape == (3, height, width)  # the aspect-ratio group stays
        assert sample.original_size == (height, width)
        assert sample.image_id == data.image_ids[index]
        assert not torch.equal(sample.image, data.load(index)[0])


def test_off_at_the_end_and_by_probability(tmp_path):
    data = make(tmp_path, stop=5)
    same = [torch.equal(data[0, p].image, data.load(0)[0]) for p in range(10)]
    assert same == [False] * 5 + [True] * 5
    data = make(tmp_path / "half", prob=0.5)
    same = sum(torch.equal(data[0, p].image, data.load(0)[0]) for p in range(100))
    assert 30 < same < 70


def partners(data, positions=400):
    """Counts how often each image is drawn as one of the three others."""
    drawn = [data._draw(np.random.default_rng(p)) for p in range(positions)]
    return np.bincount(np.concatenate(drawn), minlength=len(data))


def test_partners_are_drawn_in_proportion_to_the_factors(tmp_path):
    plain = make(tmp_path)
    factors = np.array([1, 1, 1, 6, 1, 1, 1, 3, 1])
    data = MosaicDataset(plain.dataset, 1.0, stop=9, min_visible=0.1, factors=factors)
    expected = 1200 * factors / factors.sum()
    assert (np.abs(partners(data) - expected) < 4 * np.sqrt(expected)).all()
    assert (np.abs(partners(plain) - 1200 / 9) < 4 * np.sqrt(1200 / 9)).all()


def test_exact_resize_is_pillows():
    parts = [random_scene(5, 60, 60, 1)] * 4
    ours, pillows = (
        mosaic(parts, np.random.default_rng(1), 0.0, exact=exact) for exact in (False, True)
    )
    assert torch.equal(ours[1].boxes, pillows[1].boxes)
    assert (ours[0].int() - pillows[0].int()).abs().max() <= 1
    rng = np.random.default_rng(1)
    quarter = _quarters(60, 60, _cut(60, rng), _cut(60, rng))[0]
    window, _ = _cut_out(parts[0], quarter, rng, 0.0)
    exact = resize_with_pillow(window, quarter.height, quarter.width)
    assert torch.equal(quarter.of(pillows[0]), exact)


def test_one_image_and_several_sets(tmp_path):
    entries = [box(1, 1, [1, 1, 20, 14])]
    single = open_coco(write_coco(tmp_path / "one", {1: (20, 30)}, entries))
    assert len(MosaicDataset(single, 1.0, stop=9, min_visible=0.1)[0, 0].gt) >= 1
    parts = [single, make(tmp_path / "many").dataset]
    data = MosaicDataset(ConcatDataset(parts), 1.0, stop=99, min_visible=0.1)
    assert len(data) == 10
    for index in range(10):
        check_boxes(data[index, index].image, data[index, index].gt)


def contents(loader):
    return [(b.image_ids, b.images.clone(), b.gt.boxes.clone()) for b in loader]


def test_resumed_batches_do_not_depend_on_the_number_of_workers(tmp_path):
    colors = ColorJitter(0.4, 0.4, 0.4, 0.1)
    transform = Compose([colors, Resize((16, 24, 32), 60), HorizontalFlip(0.5)])
    data = make(tmp_path, prob=0.7, stop=24, transform=transform)
    options = {"ims_per_batch": 4, "seed": 1, "size_divisibility": 8}
    batches = contents(build_train_loader(data, start=0, stop=8, **options))
    for resumed_data in (data, pickle.loads(pickle.dumps(data))):
        loader = build_train_loader(resumed_data, start=3, stop=8, num_workers=2, **options)
        resumed = contents(loader)
        assert len(resumed) == 5
        for first, second in zip(batches[3:], resumed, strict=True):
            assert first[0] == second[0]
            assert torch.equal(first[1], second[1]) and torch.equal(first[2], second[2])
