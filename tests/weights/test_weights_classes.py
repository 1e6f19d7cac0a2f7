"""Matching of classes by name: COCO's in any order, and logits in another order."""

import json

import pytest
import torch

from dynamic_atss.weights.classes import COCO, arrange, class_count, names_of
from dynamic_atss.weights.formats import PUBLISHED, Source


def source(count, per_location=1, classes=()):
    """Makes the class and box layers of a file. The logit of class c has the weight c."""
    logits = torch.arange(count).repeat(per_location).float()
    return Source(
        PUBLISHED,
        {
            "head.cls_logits.weight": logits[:, None, None, None].expand(-1, 2, 3, 3).clone(),
            "head.cls_logits.bias": logits,
            "head.bbox_pred.bias": torch.zeros(4 * per_location),
        },
        classes=list(classes),
    )


def test_coco_has_its_80_names_in_order(shared):
    path = shared / "data/coco_mini/annotations/instances_train2017.json"
    assert [c["name"] for c in json.loads(path.read_text())["categories"]] == COCO
    assert len(set(COCO)) == 80


@pytest.mark.parametrize("per_location", [1, 9])
def test_coco_names_in_any_order_are_matched(per_location):
    names = COCO[::-1]
    file = source(80, per_location)
    assert class_count(file) == 80 and names_of(file, names) == COCO
    notes = arrange(file, names)
    expected = torch.arange(79, -1, -1).float().repeat(per_location)
    assert file.tensors["head.cls_logits.bias"].equal(expected)
    assert file.tensors["head.cls_logits.weight"][:, 1, 2, 0].equal(expected)
    assert "80 classes are taken as COCO's" in notes[0] and "matched by name" in notes[1]


def test_spellings():
    upper = [name.title().replace(" ", "_") for name in COCO[::-1]]
    assert names_of(source(80), upper) == upper[::-1]
    assert names_of(source(80), [name.replace(" ", "") for name in COCO])[11] == "stopsign"
    assert names_of(source(80), ["cat", "Dog"])[15:17] == ["cat", "Dog"]
    voc = ["aeroplane" if name == "airplane" else name for name in COCO]
    for names in (voc, [*COCO, "tree"], [], [*COCO[:-1], "Person"]):
        assert names_of(source(80), names) == []
    assert names_of(source(79), COCO[:79]) == []


def test_other_files_keep_their_order_with_a_note():
    file = source(3)
    (note,) = arrange(file, ["a", "b", "c"])
    assert "no class names in the file" in note and note.endswith(": a, b, c")
    assert file.tensors["head.cls_logits.bias"].tolist() == [0, 1, 2]
    assert arrange(source(3), ["a", "b"]) == [] and arrange(source(3), []) == []
    (note,) = arrange(source(30), [f"n{i}" for i in range(30)])
    assert note.endswith("n18, n19, ...")


def test_names_in_the_file():
    file = source(3, 2, ["a", "b", "c"])
    (note,) = arrange(file, ["c", "a", "b"])
    assert file.tensors["head.cls_logits.bias"].tolist() == [2, 0, 1, 2, 0, 1]
    assert "matched by name" in note and file.classes == ["c", "a", "b"]
    for others in (["a", "b", "c"], ["a", "b", "d"], ["a", "b"], ["a", "b", "b"]):
        file = source(3, 1, ["a", "b", "c"])
        assert arrange(file, others) == [] and file.tensors["head.cls_logits.bias"][2] == 2
    assert class_count(Source(PUBLISHED, {"backbone.body.x": torch.zeros(2)})) == 0


def test_a_name_that_is_almost_coco_is_noted():
    names = [{"couch": "sofa", "hair drier": "hair dryer"}.get(name, name) for name in COCO[::-1]]
    file = source(80)
    _, near = arrange(file, names)
    assert near.startswith("78 of these are COCO's names")
    assert "'hair dryer' is not (1 more)" in near
    assert file.tensors["head.cls_logits.bias"].equal(torch.arange(80).float())  # unchanged
