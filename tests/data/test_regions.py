"""Crowds, difficult and ignored boxes: dropped, or regions that move with their pixels."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers_data import CATEGORIES, box, open_coco, voc_object, write_coco, write_voc
from helpers_scenes import EMPTY, found, painted, random_scene

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.data import loader
from dynamic_atss.data.color import ColorJitter
from dynamic_atss.data.concat import ConcatDataset
from dynamic_atss.data.crop import RandomCrop, Window, cut_boxes
from dynamic_atss.data.dataset import Sample
from dynamic_atss.data.jitter import LargeScaleJitter, Pad
from dynamic_atss.data.loader import _WorkerBatch, build_train_loader, collate
from dynamic_atss.data.mosaic import MosaicDataset, mosaic
from dynamic_atss.data.transforms import Compose, HorizontalFlip, Resize, VerticalFlip
from dynamic_atss.data.voc import VocDataset
from dynamic_atss.errors import UserError
from dynamic_atss.types import GroundTruth, joined, to_device

SIZES = {9: (20, 30), 4: (40, 24), 5: (20, 30)}
ENTRIES = [
    box(1, 9, [1, 1, 9, 9], iscrowd=1),
    box(2, 9, [2, 3, 10, 5], 3),
    box(3, 9, [4, 5, 8, 6], iscrowd=0, ignore=1),
    box(4, 9, [0, 0, 5, 5], iscrowd=1, ignore=1),
    box(5, 4, [1, 1, 9, 9], ignore=True),  # the only box of its image
    box(6, 5, [3, 3, 7, 9], ignore=0),
    box(7, 9, [-5, -5, 9, 9], 3, ignore=None),
    box(8, 9, [5, 5, 0, 9], 3, ignore=1),  # without extent
]
CROWDS, OBJECTS = [[1, 1, 9, 9], [4, 5, 11, 10], [0, 0, 4, 4]], [[2, 3, 11, 7], [0, 0, 3, 3]]
SCENE = [[3, 2, 19, 18], [34, 6, 60, 40], [3, 26, 30, 45], [36, 44, 58, 58]]
FLAGS = torch.tensor([False, False, True, True])


def flagged(scene=None):
    """Makes a painted image whose last two boxes are regions."""
    image, gt = scene or painted(64, 64, SCENE)
    return image, replace(gt, ignore=FLAGS[-len(gt) :])


@pytest.fixture
def path(tmp_path):
    return write_coco(tmp_path, SIZES, ENTRIES)


def test_dropped_by_default(path, caplog):
    with caplog.at_level(logging.INFO):
        data = open_coco(path)
    assert data.image_ids == [5, 9] and data.statistics["crowd"] == 5
    gt = data.ground_truth(1)
    assert gt.boxes.tolist() == OBJECTS and gt.ignore is None and gt.object_count == 2
    assert len(caplog.records) == 1
    assert 'Dropped 5 crowd, difficult or ignored boxes (3 by "ignore": 1' in caplog.text
    without = [e for e in ENTRIES if not (e.get("ignore") or e.get("iscrowd"))]
    plain = open_coco(write_coco(path.parent / "plain", SIZES, without))
    for mine, other in ((data[i].gt, plain[i].gt) for i in (0, 1)):
        assert torch.equal(mine.boxes, other.boxes) and torch.equal(mine.classes, other.classes)


def test_kept_as_regions_after_the_objects(path, caplog):
    with caplog.at_level(logging.INFO):
        data = open_coco(path, keep_crowds=True)
    assert data.image_ids == [5, 9]  # image 4 has no object
    gt = data.ground_truth(1)
    assert gt.boxes.tolist() == OBJECTS + CROWDS
    assert gt.ignore.tolist() == [False] * 2 + [True] * 3
    assert gt.objects.boxes.tolist() == OBJECTS and gt.regions.boxes.tolist() == CROWDS
    assert "2 images, 3 boxes" in caplog.text
    assert "Ignores the regions of 5 crowd, difficult or ignored boxes (3 by" in caplog.text
    image, classes = data.classes_by_image()
    assert image.tolist() == [0, 1, 1] and classes.tolist() == [0, 1, 1]
    data.reorder_classes(["dog", "cat"])
    assert data.ground_truth(1).classes.tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("options", [{"training": False}, {"keep_empty": True}])
def test_an_image_with_only_regions_stays_if_empty_images_do(path, options):
    data = open_coco(path, keep_crowds=True, **options)
    assert data.image_ids == [4, 5, 9]
    gt = data[0].gt
    assert len(gt.objects) == 0 and gt.regions.boxes.tolist() == [[1, 1, 9, 9]]
    assert data.classes_by_image()[0].tolist() == [1, 2, 2]


@pytest.mark.parametrize("value", ["one", [], 2, 0.5, {}])
def test_invalid_flags(path, value):
    content = json.loads(path.read_text())
    content["annotations"][5]["ignore"] = value
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"annotation id 6: ignore .* is neither 0 nor 1: correct"):
        open_coco(path)


@pytest.mark.parametrize("name", ["Ignore", "ignored", "is_ignore", "ignore_flag", "is_crowd"])
@pytest.mark.parametrize("value", [1, True, 1.0])
def test_spellings_of_the_flags(path, name, value):
    content = json.loads(path.read_text())
    plain = [
        {**e, name: value} if e.pop("ignore", 0) or e.pop("iscrowd", 0) else e
        for e in content["annotations"]
    ]
    expected = open_coco(path).read()
    path.write_text(json.dumps({**content, "annotations": plain}))
    found = open_coco(path).read()
    assert found.crowd.sum() == 5 and np.array_equal(found.crowd, expected.crowd)


def test_difficult_objects_of_voc(tmp_path):
    objects = voc_object("dog", "1 1 9 9", difficult="1") + voc_object("cat", "2 2 9 9")
    folder = write_voc(tmp_path, {"a": objects}, {"t": ["a"]})
    gt = VocDataset(folder, "t", training=True, keep_crowds=True).ground_truth(0)
    assert gt.boxes.tolist() == [[1, 1, 8, 8], [0, 0, 8, 8]] and gt.ignore.tolist() == [False, True]
    assert VocDataset(folder, "t", training=True).ground_truth(0).boxes.tolist() == [[1, 1, 8, 8]]


TRANSFORMS = {
    "resize": Resize((48, 64, 96), 200),
    "horizontal flip": HorizontalFlip(1.0),
    "vertical flip": VerticalFlip(1.0),
    "crop": RandomCrop(1.0, (0.5, 1.0), 0.3),
    "jitter": Compose([LargeScaleJitter((64, 64), (0.7, 2.0), 0.3), Pad((64, 64), (0, 0, 0))]),
    "all": Compose(
        [
            RandomCrop(0.5, (0.6, 1.0), 0.3),
            LargeScaleJitter((64, 64), (0.7, 1.5), 0.3),
            ColorJitter(0.1, 0.1, 0.1, 0.0),
            Pad((64, 64), (0, 0, 0)),
            HorizontalFlip(0.5),
            VerticalFlip(0.5),
        ]
    ),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_regions_move_with_their_pixels(name):
    seen = 0
    for seed in range(40):
        image, gt = TRANSFORMS[name](*flagged(), np.random.default_rng(seed))
        # Class i has color i. The classes 2 and 3 are the regions.
        assert gt.ignore.tolist() == (gt.classes >= 2).tolist()
        for index, corners in zip(gt.classes.tolist(), gt.boxes.tolist(), strict=True):
            place = found(image, index)
            assert place is None or (torch.tensor(place) - torch.tensor(corners)).abs().max() < 3
            seen += index >= 2 and place is not None
    assert seen > 40


@pytest.mark.parametrize("seed", range(10))
def test_flags_change_nothing_for_objects(seed):
    """Boxes, pixels and random numbers are the same as without flags."""
    image, gt = random_scene(seed, 50, 60, 5)
    marked = replace(gt, ignore=torch.tensor([False] * 5))
    steps = Compose([RandomCrop(1.0, (0.4, 1.0), 0.4), LargeScaleJitter((48, 64), (0.3, 2), 0.4)])
    (pixels, plain), (same, flags) = (
        steps(image, g, np.random.default_rng(seed)) for g in (gt, marked)
    )
    assert torch.equal(pixels, same) and torch.equal(plain.boxes, flags.boxes)
    assert plain.ignore is None and not flags.ignore.any()


def test_any_visible_part_of_a_region_stays_a_region():
    boxes = torch.tensor([[0.0, 0, 19, 19]] * 2)
    zeros = torch.zeros(2, dtype=torch.int64)
    gt = GroundTruth(boxes, zeros, zeros, torch.tensor([False, True]))
    kept = cut_boxes(gt, Window(16, 16, 20, 20), 0.3)
    assert kept.boxes.tolist() == [[0, 0, 3, 3]] and kept.ignore.tolist() == [True]
    assert len(cut_boxes(gt, Window(20, 20, 20, 20), 0.0)) == 0


def test_a_crop_contains_an_object_not_only_a_region():
    image, gt = painted(60, 60, [[2, 2, 9, 9], [30, 30, 57, 57]])
    gt = replace(gt, ignore=torch.tensor([False, True]))
    for transform in (RandomCrop(1.0, (0.5, 0.6), 0.9), LargeScaleJitter((30, 30), (2, 2), 0.9)):
        for seed in range(20):
            assert len(transform(image, gt, np.random.default_rng(seed))[1].objects) == 1


def lose(image, gt, rng):
    return image, GroundTruth(gt.boxes, gt.classes, gt.image_index)


def test_a_transform_that_loses_the_convention_is_an_error():
    image, gt = painted(64, 64, SCENE)
    exact = replace(gt, convention=BoxConvention.EXACT)
    with pytest.raises(UserError, match="function lost the convention of the boxes: return"):
        Compose([lose])(image, exact, np.random.default_rng(0))


def test_boxes_of_two_conventions_are_not_joined():
    _, gt = painted(64, 64, SCENE)
    with pytest.raises(ValueError, match="two conventions"):
        joined([gt, replace(gt, convention=BoxConvention.EXACT)])


def test_a_transform_that_loses_the_flags_is_an_error():
    with pytest.raises(UserError, match="function lost the regions to ignore: return") as error:
        Compose([lose])(*flagged(), np.random.default_rng(0))
    assert "\n" not in str(error.value)
    assert len(Compose([lose])(*painted(64, 64, SCENE), np.random.default_rng(0))[1]) == 4


def test_mosaic():
    seen = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        bare = torch.zeros(3, 50, 50, dtype=torch.uint8), EMPTY
        image, gt = mosaic([flagged(), bare, bare, bare], rng, 0.3)
        assert gt.ignore.tolist() == (gt.classes >= 2).tolist()
        assert gt.ignore.tolist() == sorted(gt.ignore.tolist())
        for index, corners in zip(gt.classes.tolist(), gt.boxes.tolist(), strict=True):
            place = found(image, index)
            assert place is None or (torch.tensor(place) - torch.tensor(corners)).abs().max() < 3
            seen += index >= 2 and place is not None
    assert seen > 20


def test_a_mosaic_must_contain_an_object():
    """The object of the first image is lost in its quarter, so the first image is returned."""
    image, gt = painted(40, 40, [[10, 10, 12, 12], [0, 0, 39, 39]])
    first = image, replace(gt, ignore=torch.tensor([False, True]))
    crowd = image, replace(gt, ignore=torch.tensor([True, True]))
    for seed in range(10):
        result = mosaic([first, crowd, crowd, crowd], np.random.default_rng(seed), 1.0)
        assert len(result[1].objects) == 1


def sample(objects, regions, ignore=True):
    boxes = torch.arange(4.0 * (objects + regions)).view(-1, 4)
    classes = torch.arange(objects + regions)
    flags = torch.arange(objects + regions) >= objects if ignore else None
    gt = GroundTruth(boxes, classes, classes * 0, flags)
    return Sample(torch.zeros(3, 8, 8, dtype=torch.uint8), gt, 0, (8, 8))


def test_batches_have_the_objects_of_all_images_first(monkeypatch):
    samples = [sample(2, 1), sample(0, 2), sample(0, 0), sample(1, 0, ignore=False), sample(1, 1)]
    gt = collate(samples, 0).gt
    assert gt.image_index.tolist() == [0, 0, 3, 4, 0, 1, 1, 4] and gt.object_count == 4
    assert gt.ignore.tolist() == [False] * 4 + [True] * 4
    assert gt.classes.tolist() == [0, 1, 0, 0, 2, 0, 1, 1]
    for n, part in enumerate(samples):
        assert torch.equal(gt.boxes[gt.image_index == n], part.gt.boxes)
    monkeypatch.setattr(loader, "pinned_bytes", lambda n: torch.empty(n, dtype=torch.uint8))
    pinned = _WorkerBatch(collate(samples, 0)).pin_memory().batch.gt
    assert torch.equal(pinned.ignore, gt.ignore) and torch.equal(pinned.boxes, gt.boxes)
    assert collate([sample(2, 0, False), sample(0, 0, False)], 0).gt.ignore is None


def test_objects_and_regions_are_known_without_reading_the_device():
    gt = collate([sample(2, 1), sample(0, 2)], 0).gt
    moved = to_device(gt, "meta")  # a device without values
    assert moved.ignore.device.type == "meta"
    assert (len(moved.objects), len(moved.regions)) == (2, 3)
    assert torch.equal(moved.objects.extent, gt.extent[:2])
    assert torch.equal(moved.regions.extent, gt.extent[2:])


def test_an_index_also_selects_the_flags():
    gt = sample(2, 2).gt
    chosen = gt[torch.tensor([True, False, False, True])]
    assert chosen.classes.tolist() == [0, 3] and chosen.ignore.tolist() == [False, True]
    with pytest.raises(ValueError, match="4 ignore flags of 2 boxes"):
        replace(gt, boxes=gt.boxes[:2])
    assert len(joined([gt, EMPTY])) == 4


def test_several_sets_and_workers(path, tmp_path):
    """Mosaics of joined sets do not depend on the number of workers."""
    options = {"keep_crowds": True, "transform": Compose([Resize((16, 24), 60)]), "seed": 3}
    other = write_coco(tmp_path / "other", SIZES, ENTRIES, {"categories": CATEGORIES[::-1]})
    parts = ConcatDataset([open_coco(path, **options), open_coco(other, **options)])
    assert [len(parts.ground_truth(i).regions) for i in range(4)] == [0, 3, 0, 3]
    assert parts.classes_by_image()[0].tolist() == [0, 1, 1, 2, 3, 3]
    data = MosaicDataset(parts, 0.5, stop=99, min_visible=0.1)
    loaders = (
        build_train_loader(data, ims_per_batch=2, stop=6, num_workers=workers, seed=1)
        for workers in (0, 2)
    )
    regions = 0
    for first, second in zip(*loaders, strict=True):
        assert torch.equal(first.gt.boxes, second.gt.boxes)
        assert torch.equal(first.gt.ignore, second.gt.ignore)
        regions += len(first.gt.regions)
    assert regions > 5
