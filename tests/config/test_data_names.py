"""Tests names of data sets that lack their format or have their parts in the wrong order."""

import pytest

from dynamic_atss.config.data_names import refuse_miswritten
from dynamic_atss.config.load import load_config
from dynamic_atss.errors import UserError


@pytest.fixture(autouse=True)
def devkit(tmp_path, monkeypatch):
    (tmp_path / "kit/ImageSets").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("written", "correct", "fault"),
    [
        ("coco:my/images:my/train.json", "coco:my/train.json:my/images", "folder comes before"),
        ("my/train.json:my/images", "coco:my/train.json:my/images", "format in front"),
        ("my/images:my/train.JSON", "coco:my/train.JSON:my/images", "format in front"),
        ("my/train.json", "coco:my/train.json:<image folder>", "format in front"),
        ("voc:trainval:kit", "voc:kit:trainval", "split comes first"),
        ("kit:trainval", "voc:kit:trainval", "format in front"),
        ("kit", "voc:kit:<split>", "format in front"),
        ("yolo:val:my/data.yaml", "yolo:my/data.yaml:val", "split comes first"),
        ("my/data.yml:val", "yolo:my/data.yml:val", "format in front"),
    ],
)
def test_the_message_gives_the_correct_name(written, correct, fault):
    with pytest.raises(UserError) as caught:
        load_config(None, ["DATASETS.TRAIN", f"('{written}',)"])
    message = str(caught.value)
    assert message.startswith(f"DATASETS.TRAIN '{written}': the ")
    assert fault in message and message.endswith(f": write {correct}")


@pytest.mark.parametrize(
    "name",
    [
        "coco:a.json:images",
        "coco:C:/a.json:images",
        "coco:a.json:b.json",
        "coco:a.json",
        "voc:kit:train",
        "voc:none:train",
        "yolo:data.yaml:val",
        "coco_2017_train",
        "none:kit2",
        "my.py:Labelme:a.json",
        "my.formats:Labelme:labels:a.json",
        "coco:labels:images",
    ],
)
def test_other_names_pass(name):
    refuse_miswritten("DATASETS.TRAIN", [name, 5])


def test_a_file_with_such_a_name_is_not_taken_for_code(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("DATASETS:\n  TEST: ('my/val.json:my/images',)\n")
    with pytest.raises(UserError, match=r"DATASETS\.TEST 'my.*write coco:my/val\.json:my/images"):
        load_config(path)
