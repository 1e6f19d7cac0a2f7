"""YOLO's layout: places of images and labels, rows, and one-line errors for mistakes."""

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.data.catalog import open_dataset
from dynamic_atss.data.yolo import YoloDataset
from dynamic_atss.errors import UserError

LABELS = {"a": "1 0.5 0.5 0.2 0.4\n0 0.25 0.25 0.5 0.5\n", "b": "0 0.1 0.2 0.1 0.2\n", "c": ""}
YAML = "path: .\ntrain: images/train\nval: images/val\nnc: 2\nnames: [cat, dog]\n"


def write(folder, labels=LABELS, text=YAML, images="images/train", under="labels/train"):
    """Writes pictures of 20 x 40, label files (None: no file) and data.yaml; returns its path."""
    for part in (images, under):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number, (name, rows) in enumerate(labels.items()):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 40, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / images / f"{name}.jpg"), pixels)
        if rows is not None:
            (folder / under / f"{name}.txt").write_text(rows)
    (folder / "data.yaml").write_text(text)
    return folder / "data.yaml"


def opened(file, split="train", **options):
    options = {"training": True, "keep_empty": True, **options}
    return open_dataset(f"yolo:{file}:{split}", root="unused", **options)


def boxes_of(data):
    return {
        data.path(i).stem: data.read().xywh[data.read().image_index == i].tolist()
        for i in range(len(data))
    }


def error_of(file, split="train", **options) -> str:
    with pytest.raises(UserError) as error:
        opened(file, split, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_boxes_classes_and_ids(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        data = opened(write(tmp_path), convention=BoxConvention.EXACT)
    assert data.image_ids == [1, 2, 3] and [data.path(i).stem for i in range(3)] == ["a", "b", "c"]
    assert data.class_names == ["cat", "dog"] and data.category_ids == [1, 2]
    assert data.ground_truth(0).boxes.tolist() == [[16, 6, 24, 14], [0, 0, 20, 10]]
    assert data.ground_truth(0).classes.tolist() == [1, 0] and len(data.ground_truth(2)) == 0
    np.testing.assert_allclose(data.ground_truth(1).boxes, [[2, 2, 6, 6]], atol=1e-5)
    assert data.sizes.tolist() == [[20, 40]] * 3 and data[0].image.shape == (3, 20, 40)
    assert data.short_name == f"{tmp_path.name}_train"
    assert len(caplog.records) == 1  # no notes
    assert len(YoloDataset(tmp_path / "data.yaml", "train", training=True)) == 2  # without c


@pytest.mark.parametrize(
    ("images", "under", "text"),
    [
        ("train/images", "train/labels", "train: train/images\nnames: [cat, dog]\n"),
        ("train/images", "train/labels", "train: train\nnames: [cat, dog]\n"),
        ("set/images/t", "set/labels/t", "path: set\ntrain: [images/t]\nnames:\n 0: cat\n 1: dog"),
        ("images/t", "labels/t", "path: '{folder}'\ntrain: '{folder}/images/t'\nnames: [cat, dog]"),
        ("images/images/t", "images/labels/t", "train: images/images\nnames: [cat, dog]"),
        ("plain", "plain", "train: plain\nnames: [cat, dog]"),
        ("images/train", "labels/train", "train: lists/train.txt\nnames: ['cat', \"dog\"]\n"),
    ],
)  # fmt: skip
def test_layouts(tmp_path, caplog, images, under, text):
    file = write(tmp_path, LABELS, text.format(folder=tmp_path), images, under)
    (tmp_path / "lists").mkdir()
    listed = ["images/train/a.jpg", "./../images/train/b.jpg", f"{tmp_path}/images/train/c.jpg"]
    (tmp_path / "lists/train.txt").write_text("\n".join(listed) + "\n")
    with caplog.at_level(logging.INFO):
        data = opened(file)
    found = boxes_of(data)
    assert sorted(found) == ["a", "b", "c"] and data.class_names == ["cat", "dog"]
    assert found["a"] == [[16, 6, 8, 8], [0, 0, 20, 10]] and found["c"] == []
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "text",
    [
        "train: ../train/images\nnames: [cat, dog]\n",  # as in Roboflow's files
        "path: /content/elsewhere\ntrain: train/images\nnames: [cat, dog]\n",
        "path: ../datasets/x\ntrain: train\\images\nnames: [cat, dog]\n",
    ],
)
def test_wrong_places_in_the_yaml_are_corrected_with_a_note(tmp_path, caplog, text):
    file = write(tmp_path / "x", LABELS, text, "train/images", "train/labels")
    with caplog.at_level(logging.INFO):
        data = opened(file)
    assert boxes_of(data)["a"] == [[16, 6, 8, 8], [0, 0, 20, 10]]
    assert f"{tmp_path}/x/train/images is read" in caplog.text.replace("../", "")


def test_several_folders_are_joined(tmp_path):
    write(tmp_path, {"a": LABELS["a"]})
    text = "train:\n - images/train\n - more/images\nnames: [cat, dog]"
    file = write(tmp_path, {"d": "1 .5 .5 1 1"}, text, "more/images", "more/labels")
    data = opened(file)
    assert [data.path(i).name for i in (0, 1)] == ["a.jpg", "d.jpg"] and data.images == tmp_path
    assert data[1].gt.classes.tolist() == [1]


def test_interpreted_rows_give_notes(tmp_path, caplog):
    rows = [
        "0 0.25 0.25 0.5 0.5",
        "0 0.25 0.25 0.5 0.5",
        "1.0 0.1 0.2 0.3 0.2 0.3 0.6 0.1 0.6",  # a polygon
        "1 1.0 0.5 0.2 0.2",  # beyond the border
        "  ",
    ]
    with caplog.at_level(logging.INFO):
        data = opened(write(tmp_path, {"a": "\ufeff" + "\r\n".join(rows), "b": None}))
    np.testing.assert_allclose(
        data.read().xywh, [[0, 0, 20, 10], [4, 4, 8, 8], [36, 8, 8, 4]], atol=1e-9
    )
    for note in (
        "1 rows that occur twice in a file are read once (such as {0}/labels/train/a.txt: row 2)",
        "1 polygons are converted to boxes (such as {0}/labels/train/a.txt: row 3)",
        "1 of 2 images have no label file and are background, such as {0}/images/train/b.jpg",
    ):
        assert note.format(tmp_path) in caplog.text
    assert data.statistics["clipped"] == 1


def test_keypoints_are_left_out(tmp_path, caplog):
    text = YAML + "kpt_shape: [2, 3]\n"
    with caplog.at_level(logging.INFO):
        data = opened(write(tmp_path, {"a": "0 .25 .25 .5 .5 .1 .1 2 .9 .9 2"}, text))
    assert boxes_of(data)["a"] == [[0, 0, 20, 10]] and "1 boxes have keypoints" in caplog.text


def test_labels_next_to_the_images(tmp_path, caplog):
    file = write(tmp_path, LABELS, YAML, "images/train", "images/train")
    with caplog.at_level(logging.INFO):
        assert boxes_of(opened(file))["a"][0] == [16, 6, 8, 8]
    assert "3 label files are next to their images" in caplog.text


def test_boxes_belong_to_the_upright_picture(tmp_path):
    file = write(tmp_path, {"a": "0 .5 .5 1 1"})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "images/train/a.jpg", exif=exif)
    content = opened(file).read()
    assert content.sizes.tolist() == [[40, 20]] and content.xywh.tolist() == [[0, 0, 20, 40]]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("2 .5 .5 .1 .1", "a.txt: row 2: class '2' is not one of 0 to 1"),
        ("-1 .5 .5 .1 .1", "a.txt: row 2: class '-1' is not one of"),
        ("cat .5 .5 .1 .1", "class 'cat' is not one of 0 to 1"),
        ("0.5 .5 .5 .1 .1", "class '0.5' is not one of 0 to 1"),
        ("0 .5 .5 .1", "row 2: 4 numbers: write class, centre x"),
        ("0 .5 .5 .1 .1 .9", "row 2: 6 numbers: the last, 0.9, looks like"),
        ("0 .5 .5 .1 nan", "row 2: 'nan' is not a number"),
        ("0 .5 .5 .1 x", "row 2: 'x' is not a number"),
        ("0,.5,.5,.1,.1", "class '0,.5,.5,.1,.1' is not one of"),
        ("0 120 80 40 30", "row 2: 120 80 40 30 are not fractions"),
        ("0 1e999 80 40 30", "are not fractions"),
    ],
)
def test_mistakes_in_a_row(tmp_path, row, problem):
    labels = {"a": f"0 .5 .5 .1 .1\n{row}\n", "b": f"{row}\n{row}\n"}
    message = error_of(write(tmp_path, labels))
    assert problem in message and str(tmp_path) in message and message.endswith("(2 more rows)")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- a\n", "has no keys"),
        ("train: [\n", "not a YAML file"),
        ("[" * 3000, "not a YAML file"),
        ("a: &a [*a]\n", "*a contains itself"),
        ("train: images/train\n", "'names' is not a list of class names"),
        ("train: images/train\nnames: x\n", "'names' is not a list of class names"),
        ("train: images/train\nnames: [[x]]\n", "'names' is not a list of class names"),
        ("train: images/train\nnames: {0: a, 2: b}\n", "keys of 'names' are not 0 to 1"),
        ("train: images/train\nnames: [a, b]\nnc: 3\n", "nc is '3', but 'names' has 2 names"),
        ("val: images/train\nnames: [a, b]\n", "no split 'train': there are val"),
        ("train: nowhere\nnames: [a, b]\n", "train 'nowhere': no such folder or list (searched"),
        ("train: labels\nnames: [a, b]\n", "train 'labels': has no image (.jpg"),
        ("train: {a: b}\nnames: [a, b]\n", "train is not a path or list of paths"),
        ("path: [1]\ntrain: images\nnames: [a, b]\n", "'path' is not a text"),
        ("x: " + "y" * 2_000_000, "at most 1,048,576 are read"),
    ],
)
def test_mistakes_in_the_yaml(tmp_path, text, problem):
    message = error_of(write(tmp_path, LABELS, text))
    assert problem in message and message.startswith(f"{tmp_path}/data.yaml: ")
    assert len(message) < 400


def test_names_that_yaml_would_read_as_other_values(tmp_path):
    text = "train: images/train\nnames: [no, 1.50]\n"
    assert opened(write(tmp_path, LABELS, text)).class_names == ["no", "1.50"]
    text = "train: images/train\nnc: 2\n"
    assert opened(write(tmp_path, LABELS, text)).class_names == ["0", "1"]


def test_missing_files(tmp_path):
    assert "cannot be read (No such file" in error_of(tmp_path / "data.yaml")
    file = write(tmp_path, dict.fromkeys("ab"))
    assert f"{tmp_path}/labels/train/a.txt: no such label file" in error_of(file)
    assert len(opened(file, training=False)) == 2  # a test set may have none
    (tmp_path / "images/list.txt").write_text("images/train/a.jpg\nimages/train/gone.jpg\n")
    (tmp_path / "data.yaml").write_text("train: images/list.txt\nnames: [a]\n")
    message = error_of(file)
    assert f"{tmp_path}/images/train/gone.jpg: no such image" in message and "1 of its 2" in message
    (tmp_path / "images/train/a.jpg").write_bytes(b"no image")
    (tmp_path / "data.yaml").write_text(YAML)
    (tmp_path / "labels/train/a.txt").write_text("0 .5 .5 .1 .1")
    assert "a.jpg: the image cannot be decoded" in error_of(file)


def test_the_form_of_the_name(tmp_path):
    for name in ("yolo:", "yolo:data.yaml", "yolo::train", "yolo:data.yaml:"):
        with pytest.raises(UserError, match=r"write it as yolo:<data\.yaml>:<split>"):
            open_dataset(name, root=tmp_path, training=True)


def test_a_path_with_backslashes(tmp_path, monkeypatch):
    write(tmp_path / "my/set")
    monkeypatch.chdir(tmp_path)
    assert len(opened("my\\set\\data.yaml")) == 3
    assert not Path("my\\set").exists()


def test_label_files_without_an_image(tmp_path, caplog):
    file = write(tmp_path)
    for name in ("lost", "gone", "classes"):
        (tmp_path / f"labels/train/{name}.txt").write_text("0 .5 .5 .1 .1\n")
    opened(file)
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "2 label files have no image of their name" in line
    assert str(tmp_path / "labels/train/gone.txt") in line


def test_labels_of_another_split_in_the_same_folder_have_their_image(tmp_path, caplog):
    text = YAML.replace("images/train", "train.txt")
    file = write(tmp_path, text=text)
    (tmp_path / "train.txt").write_text("./images/train/a.jpg\n")
    assert len(opened(file)) == 1
    assert "label files" not in caplog.text


def test_numbers_of_classes_with_gaps(tmp_path):
    error = error_of(write(tmp_path, {"a": "0 .5 .5 .1 .1\n7 .5 .5 .1 .1\n2 .5 .5 .2 .2\n"}))
    assert "the files use 3 class numbers (0, 2, 7) for 2 names (1 more rows)" in error
