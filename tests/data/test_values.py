"""Values that exporters write in another form are read if their meaning is clear."""

import json
import logging

import pytest
from helpers_data import box, open_coco, write_coco

from dynamic_atss.data.recognise import describe
from dynamic_atss.data.values import as_box, as_flag, as_integer, as_number
from dynamic_atss.errors import UserError

SIZES = {9: (20, 30), 4: (40, 24)}


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("1", 1), (" 1 ", 1), ("007", 7), ("1.0", 1), ("1.", 1), ("-3", -3), (2.0, 2), (-0.0, 0),
        (2.0**53, 2**53), (2.0**54, None), (1.5, None), ("1.5", None), ("1e3", None), ("", None),
        ("0x1", None), ("1_000", None), ("\u0661", None), ("9" * 30, None), (float("nan"), None),
        (float("inf"), None), (True, None), ([1], None), (None, None),
    ],
)  # fmt: skip
def test_integers(value, wanted):
    assert as_integer(value) == wanted


def test_numbers_flags_and_boxes():
    assert [as_number(v) for v in ("600", " 6.5", "1e3", ".5", "nan", "inf", "1,5", "", 5)] == [
        600, 6.5, 1000, 0.5, None, None, None, None, None,
    ]  # fmt: skip
    words = ("0", "False", "NO", "Unspecified", "", "1", "true", "Yes", "perhaps", 1)
    assert [as_flag(v) for v in words] == [0, 0, 0, 0, 0, 1, 1, 1, None, None]
    assert as_box(["1", 2, "3.5", "4"]) == [1, 2, 3.5, 4]
    assert as_box([1, 2, 3, 4]) is as_box(["a", 1, 2, 3]) is as_box("1 2 3 4") is None


@pytest.mark.parametrize("write", [str, float, lambda i: f"{i}.0", lambda i: f"0{i}"])
def test_ids_as_texts_and_floats(tmp_path, caplog, write):
    plain = [box(1, 9, [1, 2, 10, 5], 3), box(2, 4, [0, 0, 9, 9])]
    expected = open_coco(write_coco(tmp_path / "plain", SIZES, plain))
    entries = [
        {**e, "id": write(e["id"]), "image_id": write(e["image_id"]),
         "category_id": write(e["category_id"]), "area": str(e["bbox"][2]), "iscrowd": "0"}
        for e in plain
    ]  # fmt: skip
    path = write_coco(tmp_path / "other", SIZES, entries)
    content = json.loads(path.read_text())
    for entry in content["images"] + content["categories"]:
        entry["id"] = write(entry["id"])
    for entry in content["images"]:
        entry["width"] = str(entry["width"])
    path.write_text(json.dumps(content))
    caplog.clear()
    with caplog.at_level(logging.INFO):
        data = open_coco(path)
    assert data.image_ids == expected.image_ids and data.category_ids == expected.category_ids
    for i in (0, 1):
        assert data.ground_truth(i).boxes.equal(expected.ground_truth(i).boxes)
        assert data.ground_truth(i).classes.equal(expected.ground_truth(i).classes)
    assert data.read().areas.tolist() == [9, 10]
    (line,) = [r.getMessage() for r in caplog.records if "by their meaning" in r.getMessage()]
    assert f"category_id of 2 annotations, such as {write(3)!r} as 3" in line
    assert "width of 2 images, such as '30' as 30" in line or "such as '24' as 24" in line


def test_ids_that_are_texts_are_numbered(tmp_path, caplog):
    entries = [box(1, "b-7", [1, 2, 10, 5], "x"), box(2, "a", [0, 0, 9, 9], "y")]
    path = write_coco(tmp_path, SIZES, entries)
    content = json.loads(path.read_text())
    for part, ids in (("images", "ab"), ("categories", "xy")):
        for entry, text in zip(content[part], ids, strict=True):
            entry["id"] = {"b": "b-7"}.get(text, text)
    path.write_text(json.dumps(content))
    with caplog.at_level(logging.INFO):
        data = open_coco(path)
    assert data.image_ids == [1, 2] and data.path(1).name == "4.png"
    assert data.category_ids == [1, 2] and data.class_names == ["cat", "dog"]
    assert data.ground_truth(1).classes.tolist() == [0] and data[0].gt.classes.tolist() == [1]
    assert "ids of 'images' are texts, such as 'a': they become 1 to 2" in caplog.text
    content["annotations"][0]["image_id"] = "c"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"image_id of 1 of 2 annotations .* such as 'c'"):
        open_coco(path)
    content["images"][1]["id"] = 7
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="the id of image number 0 is 'a'"):
        open_coco(path)


def test_annotation_ids_may_be_any_text(tmp_path):
    entries = [box("a7-f", 9, [1, 2, 10, 5]), box(None, 9, [1, 2, 9, 5])]
    assert len(open_coco(write_coco(tmp_path, SIZES, entries)).ground_truth(0)) == 2


def test_standard_files_give_no_note(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        open_coco(write_coco(tmp_path, SIZES, [box(1, 9, [1, 2, 3.5, 5], area=5.5, iscrowd=0)]))
    assert "by their meaning" not in caplog.text


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ([], "a list of 0 entries"),
        ([{"image_id": 1, "category_id": 1, "bbox": [], "score": 1}], "COCO results"),
        ([{"file_name": "a", "annotations": []}], "images that include their annotations"),
        ({"version": 1, "shapes": [], "imagePath": "a"}, "labelme's format"),
        ({"a.jpg5": {"filename": "a.jpg", "regions": []}}, "the VGG Image Annotator's format"),
        ({"x": 1, "y": 2}, "an object with 'x', 'y'"),
        ("text", "a str"),
    ],
)
def test_other_formats_are_named(tmp_path, content, kind):
    assert kind in describe(content)


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [("images", "image_id", 1), ("images", "image_id", "9.png"), ("categories", "category_id", 2)],
)
def test_references_to_texts_are_texts(tmp_path, part, key, value):
    """An integer must not match one of the numbers that replace the texts."""
    path = write_coco(tmp_path, SIZES, [box(1, 9, [1, 2, 10, 5]), box(2, 9, [0, 0, 9, 9])])
    content = json.loads(path.read_text())
    for number, entry in enumerate(content[part]):
        entry["id"] = f"t_{number}"
    content["annotations"][0][key] = "t_1"
    content["annotations"][1][key] = value
    path.write_text(json.dumps(content))
    wanted = f"the {key} of 1 of 2 annotations .* such as {value!r}: write"
    with pytest.raises(UserError, match=wanted) as error:
        open_coco(path)
    assert f"ids of '{part}' are texts ('t_0', 't_1'" in str(error.value)


def test_corners_by_their_bbox_mode(tmp_path, caplog):
    """detectron2's dictionaries have this key."""
    entries = [
        box(1, 9, ["2", 3, 12, 8], bbox_mode=0),
        box(2, 9, [2, 3, 10, 5], bbox_mode="BoxMode.XYWH_ABS"),
        box(3, 9, [2, 3, 10, 5]),
    ]
    path = write_coco(tmp_path, SIZES, entries)
    with caplog.at_level(logging.INFO):
        assert open_coco(path).read().xywh.tolist() == [[2, 3, 10, 5]] * 3
    assert "1 annotations are read by their bbox_mode XYXY_ABS" in caplog.text


@pytest.mark.parametrize("mode", [2, 3, 4, 9, "XYXY_REL", None, True])
def test_other_modes_are_refused(tmp_path, mode):
    path = write_coco(tmp_path, SIZES, [box(1, 9, [0.1, 0.1, 0.5, 0.5], bbox_mode=mode)])
    with pytest.raises(UserError, match=r"annotation id 1: bbox_mode .* is not supported"):
        open_coco(path)


def test_other_spellings_of_file_name(tmp_path, caplog):
    path = write_coco(tmp_path, SIZES, [box(1, 9, [1, 2, 10, 5])])
    path.write_text(path.read_text().replace("file_name", "filename"))
    with caplog.at_level(logging.INFO):
        assert open_coco(path).path(0).name == "9.png"
    assert "'filename' of 2 images is read as file_name" in caplog.text


def test_a_file_without_images(tmp_path):
    path = write_coco(tmp_path, SIZES, [], {"images": []})
    for training in (True, False):
        with pytest.raises(UserError, match="'images' is an empty list"):
            open_coco(path, training=training)
