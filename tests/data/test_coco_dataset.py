"""CocoDataset: boxes that are kept, dropped or clipped, and one-line errors for mistakes."""

import json
import logging

import cv2
import numpy as np
import pytest
import torch
from helpers_data import CATEGORIES, box, open_coco, write_coco
from PIL import Image

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.data.coco import CocoDataset
from dynamic_atss.errors import UserError

SIZES = {9: (20, 30), 4: (40, 24)}


def boxes_of(dataset, index=0):
    return dataset.ground_truth(index).boxes.tolist()


def test_boxes_classes_and_ids(tmp_path):
    entries = [box(50, 9, [2, 3, 10, 5], 3), box(7, 4, [0, 0, 24, 40]), box(8, 9, [1, 1, 2, 2])]
    data = open_coco(write_coco(tmp_path, SIZES, entries))
    assert data.image_ids == [4, 9]
    assert data.category_ids == [7, 3] and data.class_names == ["cat", "dog"]
    assert data.sizes.tolist() == [[40, 24], [20, 30]]
    sample = data[1]
    assert sample.image_id == 9 and sample.original_size == (20, 30)
    assert sample.image.shape == (3, 20, 30) and sample.image.dtype == torch.uint8
    assert sample.gt.boxes.tolist() == [[2, 3, 11, 7], [1, 1, 2, 2]]
    assert sample.gt.classes.tolist() == [1, 0]
    assert boxes_of(data, 0) == [[0, 0, 23, 39]]


def test_bad_boxes_are_dropped_clipped_and_counted(tmp_path, caplog):
    nan, inf = float("nan"), float("inf")
    entries = [
        box(1, 9, [-5, 2, 10, 100]),  # clipped to [0, 2, 4, 19]
        box(2, 9, [nan, 0, 5, 5]),
        box(3, 9, [0, 0, inf, 5]),
        box(4, 9, [5, 5, -3, 4]),
        box(5, 9, [5, 5, 0, 4]),
        box(6, 9, [5, 5, 1, 4]),  # one pixel wide
        box(7, 9, [100, 5, 10, 10]),  # outside
        box(8, 9, [1, 1, 9, 9], iscrowd=1),
        box(9, 9, [1, 2, 3, 4], iscrowd=0),
        box(2**70, 9, [10**400, 0, 5, 5], iscrowd=None),
        box(11, 9, [0, 0, 5, -(10**400)], iscrowd=False),
    ]
    with caplog.at_level(logging.INFO):
        data = open_coco(write_coco(tmp_path, SIZES, entries))
    assert boxes_of(data) == [[0, 2, 4, 19], [1, 2, 3, 5]]
    expected = {"crowd": 1, "invalid": 6, "tiny": 1, "outside": 1, "clipped": 1}
    assert data.statistics == {**expected, "images_without_boxes": 1}
    (line,) = [r.getMessage() for r in caplog.records if "images, " in r.getMessage()]
    assert "6 invalid" in line and "Clipped 1" in line


@pytest.mark.parametrize(
    "entry", [box(1, 4, [1, 1, 9, 9], iscrowd=1), box(1, 4, [1, 1, 1, 9]), None]
)
def test_images_without_boxes_are_dropped_only_in_training(tmp_path, entry):
    entries = [box(2, 9, [0, 0, 5, 5])] + ([entry] if entry else [])
    path = write_coco(tmp_path, SIZES, entries)
    assert open_coco(path).image_ids == [9]
    for data in (open_coco(path, training=False), open_coco(path, keep_empty=True)):
        assert data.image_ids == [4, 9]
        gt = data[0].gt
        assert gt.boxes.shape == (0, 4) and gt.classes.shape == gt.image_index.shape == (0,)
        assert boxes_of(data, 1) == [[0, 0, 4, 4]]


def test_missing_sizes_are_read_from_the_files(tmp_path):
    path = write_coco(tmp_path, SIZES, [box(1, 9, [0, 0, 50, 50])])
    content = json.loads(path.read_text())
    for entry in content["images"]:
        del entry["width"]
    path.write_text(json.dumps(content))
    data = open_coco(path)
    assert data.sizes.tolist() == [[20, 30]] and boxes_of(data) == [[0, 0, 29, 19]]


@pytest.mark.parametrize("sides", [(0, 0), (-1, -1), (20, 0), (-1.0, 30)])
def test_sizes_of_0_or_minus_1_are_read_from_the_files(tmp_path, caplog, sides):
    path = write_coco(tmp_path, SIZES, [box(1, 9, [1, 1, 9, 9])])
    content = json.loads(path.read_text())
    content["images"][0].update(height=sides[0], width=sides[1])
    path.write_text(json.dumps(content))
    with caplog.at_level(logging.INFO):
        data = open_coco(path, training=False)
    index = data.image_ids.index(content["images"][0]["id"])
    assert tuple(data.sizes[index]) == SIZES[data.image_ids[index]]
    assert "width or height of 1 images is 0 or -1" in caplog.text
    assert "1 of 2 images have no size" in caplog.text


def test_test_sets_have_no_annotations(tmp_path):
    path = write_coco(tmp_path, SIZES, [])
    content = json.loads(path.read_text())
    del content["annotations"]
    path.write_text(json.dumps(content))
    assert len(open_coco(path, training=False)) == 2
    with pytest.raises(UserError, match="no 'annotations'"):
        open_coco(path)


def test_subfolders(tmp_path):
    path = write_coco(tmp_path, {1: (8, 8)}, [box(1, 1, [0, 0, 4, 4])])
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = "images/1.png"
    path.write_text(json.dumps(content))
    assert CocoDataset(path, tmp_path, training=True)[0].image.shape == (3, 8, 8)


GOOD = box(1, 9, [0, 0, 5, 5])
IMAGE = {"id": 9, "file_name": "9.png", "height": 20, "width": 30}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": [box(5, 9, [0, 0, 5, 5], 99)]}, "annotation id 5: category_id 99"),
        ({"annotations": [box(5, 77, [0, 0, 5, 5])]}, "annotation id 5: image_id 77"),
        ({"annotations": [GOOD, GOOD]}, "annotation id 1 occurs 2 times"),
        ({"annotations": [GOOD] * 8}, "annotation id 1 occurs 8 times: give"),
        ({"annotations": [box(6, 9, [0, 0, 5])]}, "annotation id 6: bbox"),
        ({"annotations": [box(6, 9, [0, 0, 5, None])]}, "annotation id 6: bbox"),
        ({"annotations": [box(6, 9, [0, 0, 5, "5 px"])]}, "annotation id 6: bbox"),
        ({"annotations": [box(6, 9, [0, 0, 5, "nan"])]}, "annotation id 6: bbox"),
        ({"annotations": [box(i, 9, []) for i in (6, 7, 8)]}, "id 6: bbox [] is not four numbers"),
        ({"annotations": [box(i, 9, []) for i in (6, 7, 8)]}, "(2 more like it)"),
        (
            {"annotations": [box(i, 9, GOOD["bbox"], "dog") for i in (6, 7)]},
            "category_id 'dog' is the name of categories id 3: write that id (1 more like it)",
        ),
        (
            {"annotations": [box(6, "9.png", GOOD["bbox"])]},
            "image_id '9.png' is the file_name of images id 9",
        ),
        (
            {"annotations": [box(6, 9, GOOD["bbox"], 7.5)]},
            "category_id 7.5 is not among the ids of 'categories' (7, 3)",
        ),
        ({"annotations": [box(6, 9, GOOD["bbox"], True)]}, "category_id True is not among"),
        (
            {"annotations": [box(6, 9, GOOD["bbox"], 0)]},
            "7, 3; the annotations seem to count",
        ),
        ({"annotations": [box("a", 9, GOOD["bbox"])] * 2}, "annotation id 'a' occurs 2 times"),
        ({"annotations": [{"image_id": 9, "category_id": 7}]}, "annotation number 0: bbox"),
        ({"annotations": {}}, "'annotations' is not a list"),
        ({"annotations": [3]}, "entry 0 of 'annotations'"),
        ({"annotations": []}, "none of its 2 images has a usable box"),
        ({"images": [IMAGE, IMAGE]}, "image id 9 occurs 2 times"),
        ({"images": [{"id": 9}]}, "image id 9 has no file_name"),
        ({"images": [{"id": 9, "file_name": 9}]}, "image id 9: file_name 9 is not a text"),
        ({"images": [{**IMAGE, "id": 2**70}]}, f"image number 0 is {2**70}: make it an integer of"),
        ({"images": [{**IMAGE, "width": 10**400}]}, "image id 9: width 1000"),
        ({"categories": [{"id": 2**70}]}, f"category number 0 is {2**70}: make it an integer of"),
        ({"annotations": [box(6, 2**70, [0, 0, 5, 5])]}, "annotation id 6: image_id 1180"),
        ({"annotations": [box(6, 9, [0, 0, 5, 5], iscrowd="?")]}, "id 6: iscrowd '?' is neither"),
        ({"annotations": [box(6, 9, [0, 0, 5, 5], iscrowd=[])]}, "id 6: iscrowd [] is neither"),
        ({"annotations": [box(6, 9, [0, 0, 5, 5], ignore=2)]}, "id 6: ignore 2 is neither"),
        ({"images": [{**IMAGE, "id": "nine"}, IMAGE]}, "image number 0 is 'nine'"),
        ({"images": [{**IMAGE, "id": 9.5}]}, "image number 0 is 9.5"),
        ({"images": [IMAGE, {**IMAGE, "id": "9"}]}, "image id 9 occurs 2 times"),
        ({"images": [{**IMAGE, "height": -4}]}, "image id 9: height -4"),
        ({"images": [{**IMAGE, "file_name": "gone.png"}]}, "gone.png: no such image"),
        ({"categories": [*CATEGORIES, CATEGORIES[0]]}, "category id 7 occurs 2 times"),
    ],
)
def test_mistakes_in_the_annotations(tmp_path, changes, message):
    path = write_coco(tmp_path, SIZES, [GOOD], changes)
    with pytest.raises(UserError) as error:
        open_coco(path)
    text = str(error.value)
    assert message in text and str(tmp_path) in text and "\n" not in text
    assert len(text) < len(str(tmp_path)) + 250


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [],\n "categories" []}', "line 2, column 15"),
        ("[1, 2]", "the top level is a list"),
        ("{}", "no 'images'"),
        (b'{"\xff": 1}', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"images": ' + "9" * 5000 + "}", "not JSON"),
        ("", "line 1, column 1"),
    ],
)
def test_broken_files(tmp_path, text, message):
    path = tmp_path / "a.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message):
        open_coco(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match=r"b\.json: no such JSON file"):
        open_coco(tmp_path / "b.json")
    path = write_coco(tmp_path, SIZES, [GOOD])
    with pytest.raises(UserError, match="nowhere: no such image folder"):
        CocoDataset(path, tmp_path / "nowhere", training=True)


def test_size_in_the_annotations_differs_from_the_file(tmp_path):
    path = write_coco(tmp_path, SIZES, [GOOD], {"images": [{**IMAGE, "width": 31}]})
    with pytest.raises(UserError, match=r"9\.png: 30 x 20 pixels.*image id 9 of .* says 31 x 20"):
        open_coco(path)[0]


def test_exif_orientation_is_ignored(tmp_path):
    path = write_coco(tmp_path, SIZES, [GOOD])
    pixels = cv2.imread(str(tmp_path / "images/9.png"))[:, :, ::-1].copy()
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    image.save(tmp_path / "images/9.jpg", exif=exif, quality=100, subsampling=0)
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = "9.jpg"
    path.write_text(json.dumps(content))
    loaded = open_coco(path)[0].image.permute(1, 2, 0).numpy()
    assert np.abs(loaded.astype(int) - pixels).mean() < 3


def test_random_numbers_of_a_transform_depend_only_on_the_position(tmp_path):
    drawn = []
    path = write_coco(tmp_path, SIZES, [GOOD])

    def transform(image, gt, rng):
        drawn.append(rng.random())
        return image, gt

    data = open_coco(path, transform=transform, seed=3)
    for key in ((0, 5), (0, 6), (0, 5), 0):
        data[key]
    assert drawn[0] == drawn[2] == np.random.default_rng((3, 5)).random()
    assert len(set(drawn)) == 3


def test_real_annotations(shared):
    folder = shared / "data/coco_mini"
    path = folder / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    data = CocoDataset(path, folder / "train2017", training=True)
    assert data.class_names == [c["name"] for c in content["categories"]]
    for index in range(0, len(data), 9):
        gt = data.ground_truth(index)
        entries = [
            a
            for a in content["annotations"]
            if a["image_id"] == data.image_ids[index]
            if not a["iscrowd"] and min(a["bbox"][2:]) > 1
        ]
        ids = [data.category_ids[c] for c in gt.classes.tolist()]
        assert ids == [a["category_id"] for a in entries]
        x, y, w, h = torch.tensor([a["bbox"] for a in entries]).unbind(1)
        expected = torch.stack([x, y, x + w - 1, y + h - 1], dim=1)
        assert torch.allclose(gt.boxes, expected, atol=1.01)  # clipping moves by 1 px at most
    assert data.statistics["crowd"] == sum(a["iscrowd"] for a in content["annotations"])


def test_bccd_has_two_boxes_without_extent(shared):
    folder = shared / "data/bccd"
    dropped = 0
    for split in ("trainval", "test"):
        data = CocoDataset(
            folder / f"coco/instances_{split}.json", folder / "JPEGImages", training=True
        )
        dropped += data.statistics["invalid"] + data.statistics["tiny"]
    assert dropped == 2


def test_boxes_of_the_exact_convention(tmp_path):
    """The DSLA release has x2 = x + w, clipped to W and H."""
    entries = [
        box(1, 9, [2, 3, 10, 5]),
        box(2, 9, [-5, 2, 10, 100]),
        box(3, 9, [5, 5, 1, 4]),  # one pixel wide: it has an extent
        box(4, 9, [5, 5, 0.5, 4]),
        box(5, 9, [30, 5, 10, 10]),
    ]
    data = open_coco(write_coco(tmp_path, SIZES, entries), convention=BoxConvention.EXACT)
    assert boxes_of(data) == [[2, 3, 12, 8], [0, 2, 5, 20], [5, 5, 6, 9]]
    assert data.statistics["tiny"] == data.statistics["outside"] == data.statistics["clipped"] == 1


def test_lvis_names_images_by_their_urls(tmp_path):
    address = "http://images.cocodataset.org/train2017/000000000009.png"
    more = {"neg_category_ids": [3], "not_exhaustive_category_ids": [], "flickr_url": "x"}
    images = [{"id": 9, "coco_url": address, "height": 20, "width": 30, **more}]
    categories = [{"id": 7, "name": "cat", "synset": "cat.n.01", "frequency": "r"}]
    changes = {"images": images, "categories": categories}
    path = write_coco(tmp_path, {}, [box(1, 9, [1, 1, 5, 5], area=20.0)], changes)
    (tmp_path / "images/train2017").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "images/train2017/000000000009.png"), np.zeros((20, 30, 3), "u1"))
    data = open_coco(path)
    assert data[0].image.shape == (3, 20, 30) and boxes_of(data) == [[1, 1, 5, 5]]
    images[0]["coco_url"] = 9
    path = write_coco(tmp_path, {}, [], changes)
    with pytest.raises(UserError, match="image id 9: coco_url 9 is not a text"):
        open_coco(path)


def test_cityscapes_has_a_folder_for_each_city(tmp_path):
    names = ["aachen/aachen_000000_leftImg8bit.png", "bochum/bochum_000000_leftImg8bit.png"]
    images = [{"id": i, "file_name": n, "height": 4, "width": 8} for i, n in enumerate(names)]
    entries = [box(i, i, [1, 1, 3, 2], iscrowd=0, inst_id=26000 + i) for i in (0, 1)]
    path = write_coco(tmp_path, {}, entries, {"images": images})
    for name in names:
        (tmp_path / "images" / name).parent.mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "images" / name), np.zeros((4, 8, 3), np.uint8))
    data = open_coco(path)
    assert [data[i].image.shape for i in (0, 1)] == [(3, 4, 8)] * 2
    (tmp_path / "images" / names[1]).unlink()
    with pytest.raises(UserError, match=rf"{names[1]}: no such image \(1 of the 2"):
        open_coco(path)


@pytest.mark.parametrize("area", [-1, 0, float("nan"), float("inf"), -(10**400), "x", True])
def test_areas_that_are_not_positive_come_from_the_box(tmp_path, area, caplog):
    entries = [box(1, 9, [1, 1, 9, 9], area=40), box(2, 9, [1, 1, 10, 8], area=area)]
    with caplog.at_level(logging.WARNING):
        data = open_coco(write_coco(tmp_path, SIZES, entries))
    assert data.read().areas.tolist() == [40, 80]
    (record,) = [r for r in caplog.records if "positive numbers" in r.getMessage()]
    assert "1 of 2 areas are not positive numbers (annotation id 2: " in record.getMessage()


@pytest.mark.parametrize("fields", [{}, {"area": None}])
def test_missing_areas_come_from_the_box(tmp_path, fields, caplog):
    entries = [box(1, 9, [1, 1, 9, 9], area=40), box(2, 9, [1, 1, 10, 8], **fields)]
    with caplog.at_level(logging.INFO):
        data = open_coco(write_coco(tmp_path, SIZES, entries))
    assert data.read().areas.tolist() == [40, 80]
    (record,) = [r for r in caplog.records if "width times" in r.getMessage()]
    assert "area of 1 boxes" in record.getMessage()


def test_a_category_of_regions_gives_a_warning(tmp_path, caplog):
    categories = [{"id": 7, "name": "cat"}, {"id": 3, "name": "Ignored Regions"}]
    with caplog.at_level(logging.WARNING):
        open_coco(write_coco(tmp_path, SIZES, [GOOD], {"categories": categories}))
    (record,) = [r for r in caplog.records if "learnt and" in r.getMessage()]
    assert "category 'Ignored Regions' is learnt and scored" in record.getMessage()
