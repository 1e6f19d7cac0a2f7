"""A test set's classes beside those of the model."""

import logging

import pytest
from helpers_data import box, open_coco, write_coco

from dynamic_atss.errors import UserError

SIZES = {9: (20, 30)}


def opened(folder, names, with_boxes):
    """A test set with these categories, ids from 11, and a box of some."""
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


def test_classes_without_boxes_may_be_others(tmp_path, caplog):
    data = opened(tmp_path, ["project", "dog", "ant"], ["ant", "dog"])
    with caplog.at_level(logging.INFO):
        data.take_classes(["ant", "dog"])
    assert data.category_ids == [13, 12] and data.ground_truth(0).classes.tolist() == [0, 1]
    assert "the model has no class 'project', which has no box here either" in caplog.text
    assert data.read().class_names == ["project", "dog", "ant"]


@pytest.mark.parametrize(
    ("own", "boxes", "model", "said"),
    [
        (
            *(["Dog", "ant"], ["Dog"], ["ant", "dog"]),
            "no class 'Dog', but has 'dog', which differs in letter case alone: it has",
        ),
        (["traffic_light"], [], ["traffic light"], "'traffic light', which differs in blanks and"),
        (["Hot-Dog"], [], ["hot dog"], "'hot dog', which differs in letter case, blanks and signs"),
        (["cats", "ant"], ["cats"], ["ant", "cat"], "but has 'cat', which differs in its plural"),
        (["bus", "ant"], ["bus"], ["buses"], "but has 'buses', which differs in its plural"),
        (["berries"], [], ["berry"], "but has 'berry', which differs in its plural"),
        (["dogg"], [], ["dog"], "no class 'dogg'; the nearest is 'dog'"),
        (["yak", "ant"], ["yak"], ["ant", "dog"], "no class 'yak': it has 'ant', 'dog'; correct"),
        (["x", "y"], [], ["ant", "dog"], "no class 'x', 'y'"),
        (["ant", "ant"], ["ant"], ["ant", "dog"], "class 'ant' is there twice"),
        (["ant", "dog"], ["ant"], ["ant", "ant"], "class 'ant' is there twice"),
    ],
)
def test_what_cannot_be_scored_is_told(tmp_path, own, boxes, model, said):
    categories = [{"id": i, "name": name} for i, name in enumerate(own, 11)]
    entries = [box(i, 9, [1, 1, 9, 9], 11 + own.index(name)) for i, name in enumerate(boxes)]
    data = open_coco(
        write_coco(tmp_path, SIZES, entries, {"categories": categories}), training=False
    )
    with pytest.raises(UserError) as error:
        data.take_classes(model)
    assert said in str(error.value) and str(tmp_path) in str(error.value)


def test_the_same_names_are_left_alone(tmp_path, caplog):
    data = opened(tmp_path, ["ant", "ant"], ["ant"])
    data.take_classes(["ant", "ant"])
    assert data.category_ids == [11, 12]


def test_training_sets_whose_names_differ_in_spelling(tmp_path):
    one, two = (opened(tmp_path / name, [name, "dog"], ["dog"]) for name in ("Cat", "cat"))
    with pytest.raises(UserError, match=r"lacks class 'Cat' of .*, but has 'cat', which differs"):
        two.take_order_of(one)
