"""The cleaned copy of a data set: changes, unchanged entries, and counts."""

import json

import pytest
from helpers_data import box, voc_object, write_coco, write_voc

from dynamic_atss.data.catalog import FORMATS
from dynamic_atss.data.check.check_all import check_everything, fix
from dynamic_atss.data.check.opening import open_leniently
from dynamic_atss.errors import UserError

SIZES = dict.fromkeys((1, 2, 3), (40, 60))


def opened(spec):
    found = open_leniently(spec, FORMATS, root=".")
    check_everything([found], [], 100, None)
    return found


def repaired(folder, annotations, changes=None, edit=lambda folder: None):
    """Returns (cleaned copy, changes)."""
    path = write_coco(folder, SIZES, annotations, changes)
    edit(folder / "images")
    before = path.read_bytes()
    changed = fix(opened(f"coco:{path}:{folder / 'images'}"), folder / "new.json")
    assert path.read_bytes() == before
    return json.loads((folder / "new.json").read_text()), changed


def good(id, image, **fields):
    return box(id, image, [5, 5, 20, 20], area=300, **fields)


def test_correct_entries_stay(tmp_path):
    annotations = [good(1, 1, segmentation=[[5, 5, 20, 20, 5, 20]], iscrowd=0), good(2, 3)]
    content, changed = repaired(tmp_path, annotations, {"info": {"year": 2026}})
    assert changed == [] and content == json.loads((tmp_path / "a.json").read_text())


def numbers(changed: list[str], *words: str) -> list[int]:
    """Returns the count in the line with each of the words. There must be no other lines."""
    found = [[line for line in changed if word in line] for word in words]
    assert [len(lines) for lines in found] == [1] * len(changed), changed
    return [int(line.rpartition(" ")[2]) for (line,) in found]


def test_images_that_cannot_be_read_are_removed_with_their_boxes(tmp_path):
    def edit(images):
        content = (images / "1.png").read_bytes()
        (images / "1.png").write_bytes(content[: len(content) // 2])
        (images / "2.png").unlink()

    content, changed = repaired(tmp_path, [good(i, i) for i in (1, 2, 3)], edit=edit)
    assert numbers(changed, "cannot be read") == [2]
    assert [e["id"] for e in content["images"]] == [3] == [e["id"] for e in content["annotations"]]


def test_boxes(tmp_path):
    annotations = [
        box(1, 1, [5, 5, 0, 20]),
        box(2, 1, [70, 5, 9, 9]),
        box(3, 1, [50, 5, 30, 10], area=-1),
        good(4, 2),
        good(5, 2),
        *(good(10 + i, 3, score=i) | {"bbox": [i, 5, 20, 20]} for i in range(40)),
    ]
    content, changed = repaired(tmp_path, annotations)
    kinds = ("wrote areas", "at the border", "copies of boxes", "without extent")
    assert numbers(changed, *kinds) == [1, 1, 1, 2]
    by_id = {e["id"]: e for e in content["annotations"]}
    assert set(by_id) == {3, 4, *range(10, 50)}
    assert by_id[3]["bbox"] == [50, 5, 10, 10] and by_id[3]["area"] == 100
    assert by_id[49]["score"] == 39 and by_id[49]["area"] == 300


def test_corners_are_converted(tmp_path):
    annotations = [box(i, 1, [20 + i, 10, 40 + i, 35]) for i in range(10)]
    content, changed = repaired(tmp_path, annotations)
    assert "converted boxes to (x, y, w, h): 10" in changed
    assert [e["bbox"] for e in content["annotations"]] == [[20 + i, 10, 20, 25] for i in range(10)]


def test_sizes_and_files_listed_twice(tmp_path):
    images = [
        {"id": 1, "file_name": "1.png", "height": 40, "width": 50},  # its boxes are inside 40 x 60
        {"id": 2, "file_name": "2.png", "height": 80, "width": 120},  # its box is not
        {"id": 3, "file_name": "3.png"},
        {"id": 4, "file_name": "3.png", "height": 40, "width": 60},
    ]
    annotations = [good(1, 1), box(2, 2, [60, 40, 50, 30]), good(3, 3), good(4, 4), good(5, 4)]
    annotations[4]["bbox"] = [1, 1, 9, 9]
    content, changed = repaired(tmp_path, annotations, {"images": images})
    kinds = ("copies of boxes", "listed twice", "of another size", "added sizes", "corrected")
    assert numbers(changed, *kinds) == [1, 1, 1, 1, 1]
    assert [(e["id"], e["height"], e["width"]) for e in content["images"]] == [
        (1, 40, 60),
        (3, 40, 60),
    ]
    assert [(e["id"], e["image_id"]) for e in content["annotations"]] == [(1, 1), (3, 3), (5, 3)]


def test_the_copy_of_a_voc_devkit(tmp_path):
    objects = voc_object("cat", "2 3 11 12") + voc_object("dog", "1 1 30 20", difficult="1")
    write_voc(tmp_path, {"x": objects, "y": voc_object("cat", "5 5 9 9")}, {"all": ["y", "x"]})
    assert fix(opened(f"voc:{tmp_path}:all"), tmp_path / "new.json") == []
    copy = f"coco:{tmp_path / 'new.json'}:{tmp_path / 'JPEGImages'}"
    voc, coco = opened(f"voc:{tmp_path}:all").surveyed.content, opened(copy).surveyed.content
    assert coco.class_names == ["cat", "dog"] and coco.names.tolist() == ["y.jpg", "x.jpg"]
    assert (voc.xywh == coco.xywh).all() and (voc.crowd == coco.crowd).all()


def test_nothing_is_overwritten(tmp_path):
    path = write_coco(tmp_path, SIZES, [good(1, 1)])
    with pytest.raises(UserError, match=r"a\.json: exists already"):
        fix(opened(f"coco:{path}:{tmp_path / 'images'}"), path)


def test_names_of_other_machines_are_corrected(tmp_path):
    images = [
        {"id": 1, "file_name": "images\\1.png", "height": 40, "width": 60},
        {"id": 2, "file_name": "%32.png", "height": 40, "width": 60},
    ]
    content, changed = repaired(tmp_path, [good(1, 1), good(2, 2)], {"images": images})
    assert changed == ["corrected names of files: 2"]
    assert [e["file_name"] for e in content["images"]] == ["1.png", "2.png"]
    assert len(content["annotations"]) == 2


@pytest.mark.parametrize("lost", ["images", "annotations"])
def test_an_empty_copy_is_not_written(tmp_path, lost):
    path = write_coco(tmp_path, SIZES, [box(1, 1, [30, 30, -5, -5])])
    if lost == "images":
        for file in (tmp_path / "images").iterdir():
            file.unlink()
    with pytest.raises(UserError, match=f"new.json: not written, as none of the {lost} would be"):
        fix(opened(f"coco:{path}:{tmp_path / 'images'}"), tmp_path / "new.json")
    assert not (tmp_path / "new.json").exists()


def test_ids_that_are_texts_become_numbers(tmp_path):
    images = [{"id": f"name{i}", "file_name": f"{i}.png"} for i in (3, 1)]
    annotations = [good(1, "name1"), good("2", "name3")]
    content, changed = repaired(tmp_path, annotations, {"images": images})
    assert [(e["id"], e["file_name"]) for e in content["images"]] == [(1, "3.png"), (2, "1.png")]
    assert [(e["id"], e["image_id"]) for e in content["annotations"]] == [(1, 2), (2, 1)]
    assert "the ids of 'images' are texts" in changed[0]
    assert "id of 1 annotations, such as '2' as 2" in changed[1]


def test_the_order_of_the_annotations_stays(tmp_path):
    annotations = [good(4, 3), good(1, 1), good(3, 2), good(2, 1) | {"bbox": [1, 1, 9, 9]}]
    content, changed = repaired(tmp_path, annotations)
    assert [e["id"] for e in content["annotations"]] == [4, 1, 3, 2] and changed == []


def test_two_spellings_of_a_file_are_joined(tmp_path):
    images = [
        {"id": 1, "file_name": "1.png", "height": 40, "width": 60},
        {"id": 2, "file_name": "./1.png", "height": 40, "width": 60},
    ]
    annotations = [good(1, 1), good(2, 2) | {"bbox": [1, 1, 9, 9]}]
    content, changed = repaired(tmp_path, annotations, {"images": images})
    assert numbers(changed, "listed twice") == [1]
    assert [e["file_name"] for e in content["images"]] == ["1.png"]
    assert [e["image_id"] for e in content["annotations"]] == [1, 1]


def test_ids_below_zero(tmp_path):
    def negative(content):
        for key in ("images", "categories"):
            for entry in content[key]:
                entry["id"] *= -1
        for entry in content["annotations"]:
            entry.update(image_id=-entry["image_id"], category_id=-entry["category_id"])

    path = write_coco(tmp_path, SIZES, [good(1, 1), good(2, 3)])
    content = json.loads(path.read_text())
    negative(content)
    path.write_text(json.dumps(content))
    assert fix(opened(f"coco:{path}:{tmp_path / 'images'}"), tmp_path / "new.json") == []
    assert json.loads((tmp_path / "new.json").read_text()) == content


@pytest.mark.parametrize("area", [-1, 0, True, "many", [1], 10**400, float("nan")])
def test_areas_that_are_not_positive_are_replaced(tmp_path, area):
    content, changed = repaired(tmp_path, [good(1, 1) | {"area": area}, good(2, 2)])
    assert numbers(changed, "wrote areas") == [1]
    assert [entry["area"] for entry in content["annotations"]] == [400, 300]


@pytest.mark.parametrize("side", [0.25, 1])
def test_boxes_that_a_training_drops_for_their_size_are_removed(tmp_path, side):
    content, changed = repaired(tmp_path, [box(1, 1, [5, 5, 9, side]), good(2, 2)])
    assert numbers(changed, "of one pixel") == [1]
    assert [entry["id"] for entry in content["annotations"]] == [2]
