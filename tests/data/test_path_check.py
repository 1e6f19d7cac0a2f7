"""Names and links that lead out of a data set's folder."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from dynamic_atss.data.catalog import open_dataset
from dynamic_atss.data.orientation import ReadOptions
from dynamic_atss.data.path_check import names_outside
from dynamic_atss.errors import UserError


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.zeros((32, 32, 3), np.uint8))
    return path


@pytest.fixture
def folders(tmp_path):
    """Makes secret.png, and images/ with a.png, a link out of the folder, and one inside it."""
    picture(tmp_path / "secret.png")
    images = picture(tmp_path / "images/a.png").parent
    picture(tmp_path / "images-other/b.png")
    (images / "link.png").symlink_to(tmp_path / "secret.png")
    (images / "out").symlink_to(tmp_path / "images-other")
    (images / "within.png").symlink_to("a.png")
    (images / "loop").symlink_to("loop")
    return tmp_path


def coco(folder, names, images="images"):
    content = {
        "images": [{"id": i, "file_name": n, "width": 32, "height": 32} for i, n in names],
        "categories": [{"id": 1, "name": "x"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 9, 9]} for i, _ in names
        ],
    }
    (folder / "a.json").write_text(json.dumps(content))
    return f"coco:{folder}/a.json:{folder}/{images}"


def opened(name, **options):
    return open_dataset(name, root="nowhere", training=True, **options)


LEAVING = ["{}/secret.png", "../secret.png", "link.png", "out/b.png", "../images-other/b.png"]


@pytest.mark.parametrize("name", LEAVING)
def test_coco_names_that_lead_out(folders, name):
    name = name.format(folders)
    names = [(1, "a.png"), (2, name)]
    with pytest.raises(UserError, match=r"leads out of .*images, to .*\(1 of 2 do\)") as error:
        opened(coco(folders, names))
    assert repr(name) in str(error.value) and "DATASETS.ALLOW_OUTSIDE True" in str(error.value)
    dataset = opened(coco(folders, names), reading=ReadOptions(outside=True))
    assert dataset[1].image.shape == (3, 32, 32)


def test_links_inside_the_folder_are_read(folders):
    names = ["a.png", "within.png", f"{folders}/images/a.png", "../images/./a.png"]
    dataset = opened(coco(folders, list(enumerate(names, 1))))
    assert len(dataset) == 4
    (folders / "also").symlink_to("images")  # the folder itself may be a link
    assert len(opened(coco(folders, [(1, "a.png")], "also"))) == 1
    assert names_outside(folders / "images", ["loop", "loop/x.png", "..", "."]) == ["..", "."][:1]


def test_absolute_names_of_another_machine_are_found_in_the_folder(folders):
    """The file of the same name in the folder is read."""
    assert len(opened(coco(folders, [(1, "/of/another/machine/images/a.png")]))) == 1


XML = """<annotation><object><name>x</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax>
<ymax>9</ymax></bndbox></object></annotation>"""


def test_voc(folders):
    kit = folders / "kit"
    picture(kit / "JPEGImages/a.png")
    (kit / "Annotations").mkdir()
    (kit / "ImageSets/Main").mkdir(parents=True)
    (kit / "Annotations/a.xml").write_text(XML)
    (folders / "b.xml").write_text(XML)
    split = kit / "ImageSets/Main/train.txt"

    def refused(names, what):
        split.write_text(names)
        with pytest.raises(UserError, match=rf"train\.txt: {what} leads out of"):
            opened(f"voc:{kit}:train")

    refused("a\n../../b\n", "annotation file '../../b.xml'")
    (kit / "Annotations/c.xml").symlink_to(folders / "b.xml")
    picture(kit / "JPEGImages/c.png")
    refused("a\nc\n", "annotation file 'c.xml'")
    (kit / "JPEGImages/d.png").symlink_to(folders / "secret.png")
    (kit / "Annotations/d.xml").write_text(XML)
    refused("a\nd\n", "image 'd.png'")
    assert len(opened(f"voc:{kit}:train", reading=ReadOptions(outside=True))) == 2


def yolo(folder, train):
    (folder / "data.yaml").write_text(f"train: {train}\nnames: [x]\n")
    return f"yolo:{folder}/data.yaml:train"


def labelled(picture_path):
    label = Path(str(picture_path.with_suffix(".txt")).replace("/images/", "/labels/"))
    label.parent.mkdir(parents=True, exist_ok=True)
    label.write_text("0 0.5 0.5 0.5 0.5\n")


def test_yolo(folders):
    """Folders of a data.yaml may be anywhere; files in them and in lists must not lead out."""
    home = folders / "yolo"
    home.mkdir()
    far = picture(folders / "far/images/a.png")
    labelled(far)
    assert len(opened(yolo(home, "../far/images"))) == 1
    (home / "train.txt").write_text(f"{far}\n")
    with pytest.raises(UserError, match=r"train\.txt: image '.*far/images/a\.png' leads out of"):
        opened(yolo(home, "train.txt"))
    assert len(opened(yolo(home, "train.txt"), reading=ReadOptions(outside=True))) == 1
    (far.parent / "link.png").symlink_to(folders / "secret.png")
    with pytest.raises(UserError, match=r"images: image '.*link\.png' leads out of"):
        opened(yolo(home, "../far/images"))
    os.unlink(far.parent / "link.png")
    (folders / "far/labels/a.txt").rename(folders / "other.txt")
    (folders / "far/labels/a.txt").symlink_to(folders / "other.txt")
    with pytest.raises(UserError, match=r"data\.yaml: label file 'a\.txt' leads out of"):
        opened(yolo(home, "../far/images"))
