"""Findings of a survey on the boxes of one data set, and of several."""

import json

import numpy as np
import pytest
from helpers_data import box, open_coco, voc_object, write_coco, write_voc

from dynamic_atss.data.coco import CocoDataset
from dynamic_atss.data.survey import (
    Finding,
    SurveyInput,
    box_findings,
    crowded_images,
    together_findings,
)
from dynamic_atss.data.survey.across_sets import used_classes
from dynamic_atss.data.voc import VocDataset
from dynamic_atss.evaluation.coco import evaluate_coco
from dynamic_atss.evaluation.ground_truth import TruthTable

SIZE = (60, 100)  # height, width


def surveyed(folder, annotations, sizes=None, changes=None):
    folder.mkdir(exist_ok=True)
    path = write_coco(folder, sizes or {1: SIZE, 2: SIZE}, annotations, changes)
    return SurveyInput.of(open_coco(path, training=False))


def corners(n=40):
    """Makes corners (n, 4) x1 y1 x2 y2 in an image of 100 x 60."""
    rng = np.random.default_rng(0)
    low = rng.uniform(0, (80, 45), (n, 2))
    return np.concatenate([low, low + rng.uniform(8, 14, (n, 2))], 1).round(1)


def only(found, code):
    """Returns the only finding with this code."""
    matching = [finding for finding in found if finding.code == code]
    assert len(matching) == 1, [finding.line for finding in found]
    return matching[0]


WRITTEN = {
    "corners (x1, y1, x2, y2)": lambda c: c,
    "centre and size (cx, cy, w, h)": lambda c: np.c_[
        (c[:, :2] + c[:, 2:]) / 2, c[:, 2:] - c[:, :2]
    ],
    "y before x (y, x, h, w), or those of the picture turned by 90 degrees": lambda c: np.c_[
        c[:, 1], c[:, 0], (c[:, 2:] - c[:, :2])[:, ::-1]
    ],
    "corners with y before x (y1, x1, y2, x2)": lambda c: c[:, [1, 0, 3, 2]],
}


@pytest.mark.parametrize("name", WRITTEN)
def test_boxes_in_another_form_are_named(tmp_path, name):
    written = WRITTEN[name](corners()).tolist()
    found = box_findings(surveyed(tmp_path, [box(i, 1, b) for i, b in enumerate(written)]))
    finding = only(found, "clipped")
    assert finding.level == "fix" and f"They look like {name}," in finding.line
    assert f"{finding.count} of 40 boxes" in finding.line and "'1.png' (100 x 60)" in finding.line
    assert "\n" not in finding.line


def test_correct_boxes_give_no_finding(tmp_path):
    c = corners()
    xywh = np.c_[c[:, :2], c[:, 2:] - c[:, :2]].tolist()
    xywh[0] = [95, 50, 12, 12]  # one in forty is clipped
    assert box_findings(surveyed(tmp_path, [box(i, 1, b) for i, b in enumerate(xywh)])) == []


def test_many_clipped_boxes_without_a_cause_are_a_warning(tmp_path):
    boxes = [box(i, 1, [10 + i, 5, 20, 20]) for i in range(8)]
    boxes += [box(8, 1, [-30, 5, 60, 20]), box(9, 1, [50, -20, 30, 100])]
    finding = only(box_findings(surveyed(tmp_path, boxes)), "clipped")
    assert finding.level == "warning" and "2 of 10 boxes (20%)" in finding.line
    assert "(-30, 5, 60, 20)" in finding.line


def test_boxes_in_fractions(tmp_path):
    boxes = [box(i, 1, [0.1 * i, 0.2, 0.3, 0.2]) for i in range(5)]
    assert only(box_findings(surveyed(tmp_path, boxes)), "fractions").count == 5


def test_areas_that_are_not_positive(tmp_path):
    boxes = [box(1, 1, [5, 5, 20, 20], area=-1), box(2, 1, [5, 5, 30, 20], area=0)]
    data = surveyed(tmp_path, [*boxes, box(3, 1, [5, 5, 9, 9], area=50), box(4, 1, [1, 1, 9, 9])])
    line = only(box_findings(data), "area").line
    assert "2 of 4 boxes with an area that is not a positive number" in line
    assert "such as annotation id 1: -1" in line


@pytest.mark.parametrize(
    ("fields", "mark"),
    [
        ({"attributes": {"rotation": 30.5, "occluded": False}}, "rotation 30.5"),
        ({"angle": "-15"}, "angle -15"),
        ({"rbbox": [5, 5, 20, 20, 0.3]}, "rbbox [5, 5, 20, 20, 0.3]"),
        ({"attributes": {"rotation": 0.0}}, ""),
        ({"attributes": {"rotation": 360}, "theta": 0}, ""),
        ({"attributes": ["rotation"], "angle": None, "obb": []}, ""),
    ],
)
def test_rotations_are_counted(tmp_path, fields, mark):
    boxes = [box(3, 1, [5, 5, 20, 20], **fields), box(4, 2, [5, 5, 20, 20])]
    found = box_findings(surveyed(tmp_path, boxes))
    if mark:
        line = only(found, "rotated").line
        assert f"1 of 2 boxes marked as rotated, such as annotation id 3 ({mark})" in line
    else:
        assert found == []


@pytest.mark.parametrize(
    ("objects", "count"),
    [
        (
            "<attributes><attribute><name>rotation</name><value>12.5</value></attribute></attributes>",
            1,
        ),
        ("<robndbox><cx>9</cx><cy>9</cy><w>5</w><h>5</h><angle>0.2</angle></robndbox>", 1),
        ("<angle>0</angle><pose>Left</pose>", 0),
    ],
)
def test_rotations_in_voc_files(tmp_path, objects, count):
    upright = voc_object("a", "3 3 20 15")
    turned = upright.replace("<bndbox>", objects + "<bndbox>")
    folder = write_voc(tmp_path, {"x": upright + turned}, {"train": ["x"]})
    data = SurveyInput.of(VocDataset(folder, "train", training=False))
    assert data.content.rotated[0] == count
    if count:
        assert "object 2 of x.xml" in only(box_findings(data), "rotated").line


def test_images_with_more_objects_than_a_test_keeps(tmp_path):
    boxes = [box(i, 1, [i % 50, 5, 9, 9]) for i in range(7)]
    boxes += [box(10 + i, 2, [i, 5, 9, 9], iscrowd=1) for i in range(9)]
    data = surveyed(tmp_path, boxes)
    (finding,) = crowded_images(data, 6)
    assert "1 of 2 images" in finding.line and "up to 7 ('1.png')" in finding.line
    assert finding.advice == "set TEST.DETECTIONS_PER_IMG 50"
    assert not list(crowded_images(data, 7))  # crowds do not count


def test_classes_without_objects(tmp_path):
    cats, dogs = [box(1, 1, [5, 5, 20, 20], 7)], [box(1, 1, [5, 5, 20, 20], 3)]
    first, second = surveyed(tmp_path / "a", cats), surveyed(tmp_path / "b", dogs)
    finding = only(together_findings([first], []), "unused_class")
    assert "1 of 2 classes without any object ('dog')" in finding.line
    assert together_findings([first, second], []) == []  # joined sets have both
    (finding,) = together_findings([first], [second])  # one finding for the same classes
    assert f"('dog'). {tmp_path / 'b/a.json'} has 1 object of 1 of them, which" in finding.line


def test_classes_that_only_the_test_set_knows(tmp_path):
    birds = [{"id": 7, "name": "cat"}, {"id": 9, "name": "bird"}]
    boxes = [box(1, 1, [5, 5, 20, 20], 9), box(2, 1, [5, 5, 20, 20], 9)]
    test = surveyed(tmp_path / "b", boxes, changes={"categories": birds})
    train = surveyed(tmp_path / "a", [box(1, 1, [5, 5, 20, 20], 7), box(2, 1, [5, 5, 9, 9], 3)])
    finding = only(together_findings([train], [test]), "untrained_class")
    assert "1 class with 2 objects that the training set does not have ('bird')" in finding.line


def test_the_project_name_of_roboflow(tmp_path):
    names = [{"id": 0, "name": "project"}, {"id": 7, "name": "cat"}]
    data = surveyed(tmp_path, [box(1, 1, [5, 5, 20, 20])], changes={"categories": names})
    assert "Roboflow" in only(together_findings([data], []), "unused_class").advice


def test_files_that_are_listed_or_used_twice(tmp_path):
    images = [
        {"id": 1, "file_name": "1.png"},
        {"id": 2, "file_name": "2.png"},
        {"id": 3, "file_name": "./1.png"},
    ]
    boxes = [box(1, 1, [5, 5, 9, 9]), box(2, 2, [5, 5, 9, 9], 3)]
    train = surveyed(tmp_path, boxes, changes={"images": images})
    (tmp_path / "b.json").write_text(
        json.dumps(
            {
                **json.loads((tmp_path / "a.json").read_text()),
                "images": images[1:2],
                "annotations": [],
            }
        )
    )
    test = SurveyInput.of(open_coco(tmp_path / "b.json", training=False))
    found = together_findings([train], [test])
    assert "1 of 3 files listed twice or more" in only(found, "listed_twice").line
    shared = only(found, "shared_files")
    assert f"a.json and {tmp_path / 'b.json'}: 1 of 1 test images" in shared.line
    assert "2.png" in shared.line
    assert only(together_findings([train], [train]), "shared_files").count == 3


def test_half_of_the_boxes_beyond_their_image_must_be_fixed(tmp_path):
    inside, beyond = [30, 5, 20, 20], [-30, 5, 60, 20]
    boxes = [box(i, 1, inside if i % 2 else beyond) for i in range(10)]
    finding = only(box_findings(surveyed(tmp_path, boxes)), "clipped")
    assert finding.level == "fix" and "Check that they are" in finding.line


def test_files_in_two_training_sets(tmp_path):
    data = surveyed(tmp_path, [box(1, 1, [5, 5, 20, 20]), box(2, 2, [5, 5, 20, 20], 3)])
    content = json.loads((tmp_path / "a.json").read_text())
    content["images"] = content["images"][1:]
    content["annotations"] = content["annotations"][1:]
    content["images"][0]["file_name"] = "./2.png"
    other = tmp_path / "a2.json"
    other.write_text(json.dumps(content))
    two = SurveyInput.of(CocoDataset(other, tmp_path / "images", training=True))
    finding = only(together_findings([data, two], []), "trained_twice")
    assert finding.level == "warning" and "1 of 1 images of the second set" in finding.line
    assert not [f for f in together_findings([data], [two]) if f.code == "trained_twice"]


def test_class_names(tmp_path):
    names = ("cat", "cat", "None", "cat")
    categories = [{"id": 7 + i, "name": name} for i, name in enumerate(names)]
    boxes = [box(i, 1, [5, 5, 20, 20], 7 + i) for i in (0, 0, 2, 3)]
    boxes = [entry | {"id": i} for i, entry in enumerate(boxes)]
    data = surveyed(tmp_path, boxes, changes={"categories": categories})
    found = box_findings(data)
    assert "3 classes are called 'cat'" in only(found, "same_names").line
    assert "category id 9 is called 'None'" in only(found, "no_name").line
    assert used_classes(data)["cat"] == 3


@pytest.mark.parametrize(
    "advice, text",
    [
        ("take them out", "Take them out."),
        ("tools/x.py lists all", "tools/x.py lists all."),
        ("--fix does", "--fix does."),
        ("width, then height", "Width, then height."),
    ],
)
def test_a_line_is_sentences(advice, text):
    assert Finding("note", "x", "a.json", 1, "2 boxes", advice).line == f"a.json: 2 boxes. {text}"


@pytest.mark.parametrize(
    ("names", "similar"),
    [(("Cat", "cat "), True), (("dead_tree", "dead tree"), True), (("cat", "cats"), False)],
)
def test_class_names_that_differ_only_in_signs(tmp_path, names, similar):
    categories = [{"id": i, "name": name} for i, name in zip((7, 8), names, strict=True)]
    data = surveyed(tmp_path, [box(1, 1, [1, 1, 9, 9])], changes={"categories": categories})
    found = [f for f in box_findings(data) if f.code == "near_names"]
    assert len(found) == similar
    assert not similar or all(repr(name) in found[0].line for name in names)


def test_categories_without_a_name(tmp_path):
    changes = {"categories": [{"id": 7, "supercategory": "cat"}, {"id": 3, "name": "dog"}]}
    path = write_coco(tmp_path, {9: (20, 30)}, [box(1, 9, [1, 1, 9, 9])], changes)
    content = open_coco(path).read()
    assert content.class_names == ["7", "dog"]
    assert "1 of 2 categories have no 'name', such as id 7" in content.warnings[0]


@pytest.mark.parametrize(
    ("areas", "message"),
    [
        ([0.0001, 0.0002, 0.0001], "3 of 3 areas are below 10% of their box, such as 0.0001"),
        ([60, 300, 1801], "1 of 3 areas are larger than their box, such as 1801 for 30 x 20"),
        ([1, 300, 665], ""),  # a thin object, and a box that was rounded down
    ],
)
def test_areas_of_another_unit(tmp_path, areas, message):
    boxes = [box(i, 1, [5, 5, 30, 20], area=area) for i, area in enumerate(areas)]
    found = box_findings(surveyed(tmp_path, boxes))
    assert message in only(found, "area_unit").line if message else found == []


def test_objects_that_no_detection_can_match_are_counted(tmp_path):
    values = ([5, 5, 0, 20], [5, 5, 20, -1], [200, 5, 9, 9], [5, 5, 0.5, 9])
    boxes = [box(i, 1, list(v)) for i, v in enumerate(values)]
    data = surveyed(tmp_path, [*boxes, box(9, 1, [1, 1, 0, 9], iscrowd=1)])
    finding = only(together_findings([], [data]), "never_found")
    assert "2 of 5 boxes of the test set" in finding.line and "(5, 5, 0, 20)" in finding.line


def test_objects_without_extent_count_as_missed():
    """`never_found` says so."""
    truth = TruthTable(
        source="truth",
        images=[{"id": 1}],
        categories=[{"id": 1, "name": "cat"}],
        image_ids=np.array([1, 1]),
        category_ids=np.array([1, 1]),
        boxes=np.array([[5.0, 5, 20, 10], [5, 5, 0, 20]]),
        areas=np.array([200.0, 0]),
        crowd=np.zeros(2, bool),
    )
    result = {"image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 10], "score": 0.9}
    for scorer in ("hotcoco", "pycocotools"):
        scores = evaluate_coco(truth, [result], scorer=scorer)
        assert scores.metrics["AR100"] == pytest.approx(0.5)
