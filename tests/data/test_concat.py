"""Joined training sets."""

import numpy as np
import pytest
import torch
from helpers_data import CATEGORIES, box, open_coco, voc_object, write_coco, write_voc

from dynamic_atss.data.concat import ConcatDataset
from dynamic_atss.data.loader import build_train_loader
from dynamic_atss.data.transforms import Compose, HorizontalFlip, Resize
from dynamic_atss.data.voc import VocDataset
from dynamic_atss.errors import UserError

FIRST = {3: (20, 30), 4: (40, 24)}
SECOND = {4: (16, 16), 8: (20, 30), 9: (10, 12)}
OPTIONS = {"seed": 3, "transform": Compose([Resize((16, 24), 60), HorizontalFlip(0.5)])}


def parts(tmp_path):
    """Makes two sets that share the image id 4 and order the classes differently."""
    first = [box(1, 3, [1, 2, 9, 9], 7), box(2, 4, [0, 0, 5, 6], 3), box(3, 4, [1, 1, 1, 9], 3)]
    second = [box(i, image, [2, 2, 6, 6], 7 if image == 8 else 3) for i, image in enumerate(SECOND)]
    changes = {"categories": CATEGORIES[::-1]}
    return [
        open_coco(write_coco(tmp_path / "1", FIRST, first), **OPTIONS),
        open_coco(write_coco(tmp_path / "2", SECOND, second, changes), **OPTIONS),
    ]


def test_images_follow_in_the_order_of_the_sets(tmp_path):
    alone = parts(tmp_path)
    data = ConcatDataset(parts(tmp_path))
    assert len(data) == 5 and data.image_ids == [0, 1, 2, 3, 4]
    assert [tuple(size) for size in data.sizes] == [*FIRST.values(), *SECOND.values()]
    assert data.class_names == ["cat", "dog"] and data.category_ids == [7, 3]
    assert data.statistics["tiny"] == 1
    assert str(alone[0].annotations) in data.annotations and " + " in data.annotations
    places = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]
    for index, (part, part_index) in enumerate(places):
        joined, single = data[index, 71], alone[part][part_index, 71]
        assert torch.equal(joined.image, single.image)
        assert torch.equal(joined.gt.boxes, single.gt.boxes)
        assert joined.image_id == index and joined.original_size == single.original_size
        assert data.path(index) == alone[part].path(part_index)
        assert torch.equal(data.load(index)[0], alone[part].load(part_index)[0])
        assert tuple(data.sizes[index]) == tuple(alone[part].sizes[part_index])
    assert data[2].gt.boxes.shape == (1, 4)


def test_classes_follow_the_first_set(tmp_path):
    data = ConcatDataset(parts(tmp_path))
    names = [[data.class_names[c] for c in data.ground_truth(i).classes] for i in range(5)]
    assert names == [["cat"], ["dog"], ["dog"], ["cat"], ["dog"]]
    image, classes = data.classes_by_image()
    assert image.tolist() == [0, 1, 2, 3, 4] and classes.tolist() == [0, 1, 1, 0, 1]


def test_other_classes(tmp_path):
    first, _ = parts(tmp_path)
    more = {"categories": [*CATEGORIES, {"id": 9, "name": "ant"}]}
    path = write_coco(tmp_path / "3", SECOND, [box(1, 4, [2, 2, 6, 6])], more)
    for pair, lacks, has in (([0, 1], 0, 1), ([1, 0], 0, 1)):
        sets = [first, open_coco(path)]
        with pytest.raises(UserError) as error:
            ConcatDataset([sets[i] for i in pair])
        start = f"{sets[lacks].annotations}: lacks class 'ant' of {sets[has].annotations}"
        assert str(error.value).startswith(start) and "\n" not in str(error.value)


def test_voc_and_coco_join(tmp_path):
    objects = voc_object("dog", "1 1 9 9") + voc_object("cat", "2 2 9 9")
    voc = VocDataset(
        write_voc(tmp_path / "d", {"a": objects}, {"t": ["a"]}), "t", training=True, **OPTIONS
    )
    data = ConcatDataset([*parts(tmp_path), voc])
    assert data.ground_truth(5).classes.tolist() == [1, 0]
    with pytest.raises(IndexError):
        data.ground_truth(6)


def test_batches_do_not_depend_on_the_number_of_workers(tmp_path):
    data = ConcatDataset(parts(tmp_path))
    factors = np.array([1, 2.5, 1, 1, 3])
    options = {"ims_per_batch": 2, "seed": 1, "repeat_factors": factors}
    batches = list(build_train_loader(data, start=0, stop=8, **options))
    resumed = list(build_train_loader(data, start=5, stop=8, num_workers=2, **options))
    assert len(batches) == 8 and len(resumed) == 3
    for first, second in zip(batches[5:], resumed, strict=True):
        assert first.image_ids == second.image_ids and torch.equal(first.images, second.images)
        assert torch.equal(first.gt.classes, second.gt.classes)
