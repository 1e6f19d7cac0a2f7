"""Comparison of the classes of a test set with those of the model."""

import logging

import pytest
from helpers_data import box, open_coco, write_coco

from dynamic_atss.errors import UserError

SIZES = {9: (20, 30)}


def opened(folder, names, with_boxes):
    """Makes a test set with these categories, ids from 11, and a box of some."""
    categories = [{"id": i, "name": name} for i, name in enumerate(names, 11)]
    ids = {c["name"]: c["id"] for c in categories}
    entries = [box(i, 9, [1, 1, 9, 9], ids[name]) for i, name in enumerate(with_boxes)]
    path = write_coco(folder, SIZES, entries, {"categories": categories})
    return open_coco(path, training=False)


def test_some_of_the_classes_in_another_order(tmp_path, caplog):
    data = opened(tmp_path, ["dog", "ant"], ["dog", "ant", "ant"])
    with caplog.at_level(logging.INFO):
        data.take_classes(["ant", "cat", "dog", "eel"])
    assert data.category_ids == [12, None, 11, None]
    assert data.ground_truth(0).classes.tolist() == [2, 0, 0]
    assert "has 2 of the model's 4 classes and is scored on these" in caplog.text
    assert "('cat', 'eel')" in caplog.text


def test_classes_without_boxes_may_differ(tmp_path, caplog):
    data = opened(tmp_path, ["project", "dog", "ant"], ["ant", "dog"])
    with caplog.at_level(logging.INFO):
        data.take_classes(["ant", "dog"])
    assert data.category_ids == [13, 12] and data.ground_truth(0).classes.tolist() == [0, 1]
    assert "the model has no class 'project', which has no boxes" in caplog.text
    assert data.read().class_names == ["project", "dog", "ant"]


@pytest.mark.parametrize(
    ("names", "with_boxes", "model", "message"),
    [
        (["Dog", "ant"], ["Dog"], ["ant", "dog"], "'Dog', but has 'dog', which differs only in l"),
        (["traffic_light"], [], ["traffic light"], "'traffic light', which differs only in blanks"),
        (["Hot-Dog"], [], ["hot dog"], "'hot dog', which differs only in letter case, blanks and"),
        (["cats", "ant"], ["cats"], ["ant", "cat"], "but has 'cat', which differs only in its plu"),
        (["bus", "ant"], ["bus"], ["buses"], "but has 'buses', which differs only in its plural"),
        (["berries"], [], ["berry"], "but has 'berry', which differs only in its plural"),
        (["dogg"], [], ["dog"], "no class 'dogg'; the nearest is 'dog'"),
        (["yak", "ant"], ["yak"], ["ant", "dog"], "no class 'yak': it has 'ant', 'dog'; correct"),
        (["x", "y"], [], ["ant", "dog"], "no class 'x', 'y'"),
        (["ant", "ant"], ["ant"], ["ant", "dog"], "class 'ant' occurs twice"),
        (["ant", "dog"], ["ant"], ["ant", "ant"], "class 'ant' occurs twice"),
    ],
)
def test_classes_that_cannot_be_scored(tmp_path, names, with_boxes, model, message):
    categories = [{"id": i, "name": name} for i, name in enumerate(names, 11)]
    entries = [box(i, 9, [1, 1, 9, 9], 11 + names.index(n)) for i, n in enumerate(with_boxes)]
    data = open_coco(
        write_coco(tmp_path, SIZES, entries, {"categories": categories}), training=False
    )
    with pytest.raises(UserError) as error:
        data.take_classes(model)
    assert message in str(error.value) and str(tmp_path) in str(error.value)


def test_equal_names_stay_as_they_are(tmp_path, caplog):
    data = opened(tmp_path, ["ant", "ant"], ["ant"])
    data.take_classes(["ant", "ant"])
    assert data.category_ids == [11, 12]


def test_training_sets_whose_names_differ_in_spelling(tmp_path):
    first, second = (opened(tmp_path / name, [name, "dog"], ["dog"]) for name in ("Cat", "cat"))
    with pytest.raises(UserError, match=r"lacks class 'Cat' of .*, but has 'cat', which differs"):
        second.take_order_of(first)
