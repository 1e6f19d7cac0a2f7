"""Tests the forms in which people write lists of names, on a command line and in YAML files."""

import pytest

from dynamic_atss.config.load import load_config
from dynamic_atss.config.names import missing_bracket, names_in
from dynamic_atss.errors import UserError

A, B = "coco:my/a.json:my/images", "voc:my/devkit:trainval"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (A, (A,)),
        (f"{A},{B}", (A, B)),
        (f" {A} , {B}, ", (A, B)),
        (f"('{A}',)", (A,)),
        (f"('{A}')", (A,)),
        (f"['{A}', '{B}']", (A, B)),
        (f'"{A}"', (A,)),
        (f"({A},)", (A,)),
        (f"[{A}, {B}]", (A, B)),
        (f"'{A}', '{B}'", (A, B)),
        (f"{A}, '{B}'", (A, B)),
        ("coco_2017_train", ("coco_2017_train",)),
        ("voc_2007_train,voc_2012_train", ("voc_2007_train", "voc_2012_train")),
        ("coco:a,b/c, d.json:im,ages/x,yolo:d.yaml:val",
         ("coco:a,b/c, d.json:im,ages/x", "yolo:d.yaml:val")),
        ("f.py:Boxes:a.csv:im,my.module:Boxes:b", ("f.py:Boxes:a.csv:im", "my.module:Boxes:b")),
        ("", ()),
        ("()", ()),
        ("[]", ()),
        ("5", None),
        ("None", None),
    ],
)  # fmt: skip
def test_ways_to_write_names(text, wanted):
    assert names_in("DATASETS.TRAIN", text) == wanted


@pytest.mark.parametrize("quote", ["{}", "'{}'", "('{}',)", "({},)"])
def test_backslashes_belong_to_paths(quote):
    name = r"coco:C:\new\table.json:C:\xy\007"
    assert names_in("DATASETS.TRAIN", quote.format(name)) == (name,)
    assert names_in("DATASETS.TRAIN", repr((name,))) == (name,)  # doubled, as Python writes them


@pytest.mark.parametrize(
    "value", [f"{A},{B}", f"[{A}, {B}]", f"('{A}', '{B}')", f"\n  - {A}\n  - {B}"]
)
def test_in_a_yaml_file(tmp_path, value):
    path = tmp_path / "x.yaml"
    path.write_text(f"DATASETS:\n  TRAIN: {value}\n".replace("\n  -", "\n    -"))
    assert load_config(path).DATASETS.TRAIN == (A, B)


def test_one_name_on_the_command_line():
    cfg = load_config(None, ["DATASETS.TRAIN", A, "DATASETS.TEST", f"{B},{A}"])
    assert cfg.DATASETS.TRAIN == (A,) and cfg.DATASETS.TEST == (B, A)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("my.py:aug", ("my.py:aug",)),
        ("'my.py:aug'", ("my.py:aug",)),
        ("my.py:aug,mine:other", ("my.py:aug", "mine:other")),
        ("[a.b:aug, /x/my.py:other]", ("a.b:aug", "/x/my.py:other")),
        ("('my.py:aug',)", ("my.py:aug",)),
    ],
)
def test_ways_to_write_augmentations(text, wanted):
    assert wanted == load_config(None, ("INPUT.AUGMENTATIONS", text)).INPUT.AUGMENTATIONS


@pytest.mark.parametrize(
    ("text", "bracket"),
    [
        (f"('{A}',", ")"), (f"('{A}'", ")"), (f"[{A}, {B}", "]"), (f"['{A}')", "]"),
        (f"'{A}',)", "("), (f"{A}]", "["),
        (A, ""), (f"('{A}',)", ""), ("", ""), ("coco:a(1).json:b(2)", ""), ("coco:a[1].json:b", ""),
    ],
)  # fmt: skip
def test_a_missing_bracket(text, bracket):
    assert missing_bracket(text) == bracket
    if bracket:
        with pytest.raises(UserError, match=r"command line: DATASETS\.TRAIN .*missing bracket"):
            load_config(None, ["DATASETS.TRAIN", text])
