"""Flags of crowds and of objects to ignore, in the spellings of exporters."""

import logging

import pytest
from helpers_data import box, open_coco, voc_object, write_coco, write_voc

from dynamic_atss.data.flags import means_regions
from dynamic_atss.data.voc import VocDataset
from dynamic_atss.errors import UserError

SIZES = {9: (20, 30)}


@pytest.mark.parametrize(
    ("more", "name", "key"),
    [
        ({"Ignore": "true"}, "Ignore", "ignore"),
        ({"ignored": "yes"}, "ignored", "ignore"),
        ({"isCrowd": "1"}, "isCrowd", "iscrowd"),
        ({"ignore-flag": 1}, "ignore-flag", "ignore"),
        ({"attributes": {"ignore": True}}, "attributes.ignore", "ignore"),
        ({"attributes": {"occluded": True, "iscrowd": "Yes"}}, "attributes.iscrowd", "iscrowd"),
        ({"attributes": ["occluded", "ignore"]}, "attributes.ignore", "ignore"),
        ({"attributes": [{"name": "crowd", "value": "1"}, 7]}, "attributes.crowd", "iscrowd"),
        ({"difficult": 1}, "difficult", "ignore"),
        ({"is_difficult": 1}, "is_difficult", "ignore"),
        ({"gt_ignore": 1}, "gt_ignore", "ignore"),
        ({"dontCare": True}, "dontCare", "ignore"),
        ({"ignore": 1}, None, "ignore"),
    ],
)
def test_spellings(tmp_path, caplog, more, name, key):
    entries = [box(1, 9, [1, 2, 10, 5]), box(2, 9, [0, 0, 9, 9], **more)]
    with caplog.at_level(logging.INFO):
        data = open_coco(write_coco(tmp_path, SIZES, entries))
    assert data.read().crowd.tolist() == [False, True] and len(data.ground_truth(0)) == 1
    assert data.read().flagged == (key == "ignore")
    notes = [r.getMessage() for r in caplog.records if "is read as" in r.getMessage()]
    wanted = f"'{name}' of 1 annotations is read as {key}; 1 are set"
    assert [line.partition(".json: ")[2] for line in notes] == ([wanted] if name else [])


@pytest.mark.parametrize("more", [{"Ignore": "false"}, {"difficult": 0}, {"attributes": [1]}])
def test_flags_that_are_not_set(tmp_path, more):
    data = open_coco(write_coco(tmp_path, SIZES, [box(1, 9, [1, 2, 10, 5], **more)]))
    assert data.read().crowd.tolist() == [False]


def test_flags_that_are_neither_yes_nor_no(tmp_path):
    entries = [box(i, 9, [1, 2, 10, 5], attributes={"difficult": 3}) for i in (1, 2)]
    wanted = r"annotation id 1: attributes\.difficult 3 is neither 0 nor 1: .*\(1 more like it\)"
    with pytest.raises(UserError, match=wanted):
        open_coco(write_coco(tmp_path, SIZES, entries))


def test_names_of_regions():
    names = ("DontCare", "don't care", "dont_care", "ignored regions", "Ignore", "ignore-region")
    assert all(map(means_regions, names))
    assert not any(map(means_regions, ("care", "others", "ignored cat", "region")))


def test_a_devkit_with_only_difficult_objects(tmp_path):
    objects = voc_object("cat", "2 2 9 9", difficult="1") * 2
    folder = write_voc(tmp_path / "d", {"a": objects}, {"t": ["a"]})
    with pytest.raises(UserError, match=r"usable box: all its 2 boxes are marked as crowd, diff"):
        VocDataset(folder, "t", training=True)


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"crowded": 1}, "crowded"),
        ({"attributes": {"Ignore me": "yes"}}, "attributes.Ignore me"),
        ({"difficulty": 1.0}, "difficulty"),
        ({"crowded": 0}, None),
        ({"ignored_by": [1]}, None),
        ({"occluded": 1}, None),
    ],
)
def test_names_that_only_look_like_flags_give_a_warning(tmp_path, more, name):
    entries = [box(1, 9, [1, 2, 10, 5]), box(2, 9, [0, 0, 9, 9], **more)]
    content = open_coco(write_coco(tmp_path, SIZES, entries)).read()
    assert not content.crowd.any()
    wanted = [] if name is None else [f"'{name}' is set in 1 annotations"]
    assert [w.partition(" but not read")[0] for w in content.warnings] == wanted


@pytest.mark.parametrize(
    ("tags", "name"),
    [
        ("<Difficult>1</Difficult>", "Difficult"),
        ("<ignore>true</ignore>", "ignore"),
        ("<attribute><name>ignored</name><value>True</value></attribute>", "ignored"),
    ],
)
def test_other_flags_of_a_devkit(tmp_path, tags, name):
    marked = voc_object("cat", "2 2 9 9").replace("</object>", f"{tags}</object>")
    objects = {"a": voc_object("cat", "3 3 8 8") + marked}
    content = VocDataset(
        write_voc(tmp_path / "d", objects, {"t": ["a"]}), "t", training=True
    ).read()
    assert content.crowd.tolist() == [False, True]
    (note,) = content.notes
    assert f"'{name}' of 1 objects" in note and "difficult" in note
