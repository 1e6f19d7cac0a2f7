"""VOC devkits: boxes, classes, splits, and one-line errors for mistakes."""

import logging
import re
import unicodedata

import numpy as np
import pytest
from helpers_data import voc_object, voc_xml, write_voc

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.data.catalog import open_dataset
from dynamic_atss.data.coco import CocoDataset
from dynamic_atss.data.voc import VOC_CLASSES, VocDataset
from dynamic_atss.errors import UserError

IMAGES = {
    "b": voc_object("dog", "1 1 30 20") + voc_object("cat", "3 4 12 8", difficult="0"),
    "a": voc_object("cat", "2.5 3 6 9", difficult="1") + voc_object("ant", "5 5 9 9"),
    "c": voc_object("zebra", "7 7 7 9", difficult="1"),
}
SPLITS = {"train": ["b", "a"], "val": ["c"]}


@pytest.fixture
def devkit(tmp_path):
    return write_voc(tmp_path / "pets", IMAGES, SPLITS)


def error_of(folder, split="train", training=True) -> str:
    with pytest.raises(UserError) as error:
        VocDataset(folder, split, training=training)
    message = str(error.value)
    assert "\n" not in message and str(folder) in message
    return message


def with_xml(folder, text):
    (folder / "Annotations/a.xml").write_text(text)
    return error_of(folder)


def test_boxes_count_from_0_and_difficult_ones_are_not_trained_on(devkit):
    data = VocDataset(devkit, "train", training=True)
    assert data.image_ids == [1, 2] and [data.path(i).name for i in (0, 1)] == ["b.jpg", "a.jpg"]
    assert data.class_names == ["ant", "cat", "dog", "zebra"]  # of all splits
    assert data.category_ids == [1, 2, 3, 4]
    first, second = data.ground_truth(0), data.ground_truth(1)
    assert first.boxes.tolist() == [[0, 0, 29, 19], [2, 3, 11, 7]]  # minus 1
    assert first.classes.tolist() == [2, 1]
    assert second.boxes.tolist() == [[4, 4, 8, 8]] and data.statistics["crowd"] == 1
    assert data[1].image.shape == (3, 20, 30) and data[1].original_size == (20, 30)


def test_exact_boxes_end_after_the_last_pixel(devkit):
    data = VocDataset(devkit, "train", training=True, convention=BoxConvention.EXACT)
    assert data.ground_truth(0).boxes.tolist() == [[0, 0, 30, 20], [2, 3, 12, 8]]


def test_difficult_boxes_are_flagged_for_evaluation(devkit):
    content = VocDataset(devkit, "train", training=False).read()
    assert content.crowd.tolist() == [False, False, True, False]
    assert content.xywh.tolist() == [[0, 0, 30, 20], [2, 3, 10, 5], [1.5, 2, 4.5, 7], [4, 4, 5, 5]]
    assert content.areas.tolist() == [600, 50, 31.5, 25]


def test_images_with_only_difficult_boxes_are_not_trained_on(devkit):
    assert VocDataset(devkit, "val", training=False).image_ids == [1]
    assert "none of its 1 images has a usable box" in error_of(devkit, "val")


def test_class_names(devkit, tmp_path):
    (devkit / "labels.txt").write_text("\ufeffzebra\ncat\n\n ant \ndog\n", "utf-8")
    assert VocDataset(devkit, "val", training=False).class_names == ["zebra", "cat", "ant", "dog"]
    voc = write_voc(tmp_path / "VOC2007", {"a": voc_object("cat", "1 1 5 5")}, {"val": ["a"]})
    data = VocDataset(voc, "val", training=True)
    assert data.class_names == VOC_CLASSES == sorted(VOC_CLASSES) and len(VOC_CLASSES) == 20
    assert data.ground_truth(0).classes.tolist() == [7]
    assert VocDataset(tmp_path / "VOC2007", "val", training=True).folder == voc


def test_parts_of_objects_are_no_classes(tmp_path):
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    person = voc_object("person", "1 1 5 5").replace("</object>", part + "</object>")
    folder = write_voc(tmp_path / "d", {"a": person}, {"t": ["a"]})
    data = VocDataset(folder, "t", training=True)
    assert data.class_names == ["person"] and len(data.ground_truth(0)) == 1


def test_folder_of_the_year(devkit, tmp_path):
    outer = tmp_path / "VOCdevkit"
    outer.mkdir()
    devkit.rename(outer / "pets")
    assert len(open_dataset(f"voc:{outer}:train", root="unused", training=True)) == 2
    write_voc(outer / "more", IMAGES, SPLITS)
    assert "several devkits (more, pets)" in error_of(outer)
    assert len(open_dataset(f"voc:{outer}/pets:train", root="unused", training=True)) == 2


def test_other_image_formats(tmp_path):
    folder = write_voc(tmp_path / "d", IMAGES, SPLITS, ending="png")
    assert VocDataset(folder, "train", training=True)[0].image.shape == (3, 20, 30)


def test_other_files_next_to_an_image_are_ignored(tmp_path):
    folder = write_voc(tmp_path / "d", IMAGES, SPLITS, ending="PNG")
    for ending in ("txt", "xml", "json", "PNG.bak", "z"):
        (folder / f"JPEGImages/a.{ending}").write_text("no image")
    data = VocDataset(folder, "train", training=True)
    assert [data.path(i).name for i in (0, 1)] == ["b.PNG", "a.PNG"]
    (folder / "JPEGImages/a.PNG").unlink()
    assert "JPEGImages/a.jpg: no such image" in error_of(folder)


def test_flags_in_the_split_of_one_class_are_ignored(devkit):
    """aeroplane_train.txt of the original devkits lists all images of train with flags."""
    path = devkit / "ImageSets/Main/cat_train.txt"
    path.write_text("b  1\na -1\nc  0\n")
    data = VocDataset(devkit, "cat_train", training=False)
    assert [data.path(i).stem for i in range(3)] == ["b", "a", "c"]
    assert data.ground_truth(0).classes.tolist() == [2, 1]  # all classes
    path.write_text("b  1\nb -1\n")
    assert "cat_train.txt: 'b' occurs twice" in error_of(devkit, "cat_train")
    path.write_text("b  1\na\n")
    assert "lists 'b  1'" in error_of(devkit, "cat_train")


def test_names_that_end_like_flags(tmp_path):
    images = {"shot 0": IMAGES["b"], "shot 1": IMAGES["b"]}
    folder = write_voc(tmp_path / "d", images, {"t": list(images), "one": ["shot 1"]})
    assert len(VocDataset(folder, "t", training=True)) == 2
    assert VocDataset(folder, "one", training=True).path(0).name == "shot 1.jpg"


def test_a_malformed_file_that_is_not_listed(devkit):
    (devkit / "Annotations/old.xml").write_text("<annotation>")
    message = error_of(devkit)
    assert "old.xml: broken XML" in message
    assert f"delete it, or write {devkit}/labels.txt" in message
    (devkit / "labels.txt").write_text("dog\ncat\nant\n")
    assert len(VocDataset(devkit, "train", training=True)) == 2
    (devkit / "labels.txt").unlink()
    assert "remove the image from the split" in with_xml(devkit, "<annotation>")


def test_unknown_class(devkit):
    (devkit / "labels.txt").write_text("dog\nant\n")
    message = error_of(devkit)
    assert "b.xml: object 2: class 'cat' is not in labels.txt" in message
    voc = devkit.rename(devkit.parent / "VOC2012")
    (voc / "labels.txt").unlink()
    assert "object 2: class 'ant' is not one of VOC's twenty" in error_of(voc)
    assert "list all classes in" in error_of(voc)


def test_missing_files(devkit):
    assert "there are train, val" in error_of(devkit, "tran")
    (devkit / "ImageSets/Main/train.txt").write_text("b\nx\na\n")
    message = error_of(devkit)
    assert "JPEGImages/x.jpg: no such image, but" in message and "1 of its 3 are" in message
    (devkit / "JPEGImages/x.jpg").write_bytes(b"")
    assert "Annotations/x.xml: no such file, but" in error_of(devkit)
    (devkit / "ImageSets/Main/train.txt").write_text("b\nb\n")
    assert "train.txt: 'b' occurs twice" in error_of(devkit)
    (devkit / "ImageSets/Main/train.txt").write_text("\n")
    assert "train.txt: is empty" in error_of(devkit)
    (devkit / "ImageSets/Main/train.txt").write_bytes(b"\xff\xffa")
    assert "UTF-8" in error_of(devkit)
    assert "no such folder" in error_of(devkit / "nowhere")
    assert "has no Annotations" in error_of(devkit / "JPEGImages")


LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 60))


def test_entities_are_refused_without_being_expanded(devkit):
    hostile = f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY l0 "lol">{LAUGHS}]><a>&l59;</a>'
    external = '<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/passwd">]><a>&f;</a>'
    for text in (hostile, external, "<!DOCTYPE a><a/>"):
        assert "a.xml: has a DOCTYPE" in with_xml(devkit, text)
    (devkit / "Annotations/a.xml").write_bytes(hostile.encode("utf-16"))
    assert "a.xml: has a DOCTYPE" in error_of(devkit)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation><size>", "a.xml: broken XML (no element found: line 1, column 18)"),
        ("", "broken XML"),
        ("<a>&unknown;</a>", "broken XML (undefined entity"),
        ('<?xml version="1.0" encoding="nonsense"?><a/>', "broken XML"),
        (voc_xml("", -2), "size/height is '-2'"),
        (voc_xml("", 20, "wide"), "size/width is 'wide'"),
        (voc_xml("<object></object>"), "object 1 has no name"),
        (voc_xml("<object><name>cat</name></object>"), "object 1: bndbox/xmin is missing"),
        (voc_xml(voc_object("cat", "1 nan 2 3")), "bndbox/ymin is 'nan', not a number"),
        (voc_xml(voc_object("cat", "1 2 1e999 3")), "bndbox/xmax is '1e999', not a number"),
        (voc_xml(voc_object("cat", "1 2 3 x")), "bndbox/ymax is 'x', not a number"),
        (
            voc_xml(voc_object("cat", "1 2 1e308 3")),
            "xmax is '1e308', not a number of pixels",
        ),
        (voc_xml(voc_object("cat", "1 2 3 4", difficult="so")), "difficult is 'so', neither 0 nor"),
        (voc_xml(voc_object("cat", "1 2 3 4", difficult="2")), "difficult is '2', neither 0 nor 1"),
        ("<annotations><image/></annotations>", "its root is <annotations>, not VOC's"),
        (
            voc_xml("<object><name>a</name><robndbox><cx>1</cx></robndbox></object>"),
            "not a number of pixels (it has a robndbox, which is not read)",
        ),
    ],
)
def test_mistakes_in_an_xml_file(devkit, text, message):
    assert message in with_xml(devkit, text)


def test_several_mistakes_are_counted(devkit):
    for name in ("a", "b"):
        (devkit / f"Annotations/{name}.xml").write_text(voc_xml("<object></object>"))
    message = error_of(devkit)
    assert "b.xml: object 1 has no name" in message and "(2 files have a mistake)" in message


@pytest.mark.parametrize("corners", ["12 8 3 4", "12 4 3 8", "3 8 12 4"])
def test_reversed_corners_are_swapped(tmp_path, caplog, corners):
    images = {"a": voc_object("cat", corners), "b": voc_object("cat", "3 4 12 8")}
    folder = write_voc(tmp_path / "d", images, {"t": ["a", "b"]})
    with caplog.at_level(logging.INFO):
        data = VocDataset(folder, "t", training=True)
    assert data.ground_truth(0).boxes.tolist() == data.ground_truth(1).boxes.tolist()
    assert f"1 boxes have a minimum above its maximum, such as in {folder}/Annotations/a.xml" in (
        caplog.text
    )


def test_difficult_in_words(tmp_path, caplog):
    words = {"Unspecified": 0, "False": 0, " no ": 0, "0": 0, "": 0, "TRUE": 1, "yes": 1, "1": 1}
    objects = [voc_object("cat", "3 4 12 8", difficult=word) for word in words]
    objects.append(voc_object("cat", "3 4 12 8"))
    folder = write_voc(tmp_path / "d", {"a": "".join(objects)}, {"t": ["a"]})
    with caplog.at_level(logging.INFO):
        data = VocDataset(folder, "t", training=True)
    assert data.read().crowd.tolist() == [*map(bool, words.values()), False]
    assert "difficult is a word, read by its meaning: 'Unspecified' as 0 (1 times)" in caplog.text
    assert "'TRUE' as 1 (1 times)" in caplog.text and "'0'" not in caplog.text


NAME = unicodedata.normalize("NFC", "Häuser")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("sub/a", "sub/a"),
        ("sub/a", "sub\\a"),
        ("sub/a", "sub/a.jpg"),
        ("sub/deeper/a", "VOC2007/JPEGImages/sub/deeper/a.jpg"),
        ("a", "JPEGImages/a.jpg Annotations/a.xml"),
        ("a", "./JPEGImages/a.jpg"),
        ("a", "D:\\VOC\\JPEGImages\\a.JPG"),
        ("a.b", "a.b"),
        ("a.b", "a.b.jpg"),
        ("a", "Annotations/a.xml"),
        ("a b", "a%20b"),
        ("Abc", "abc"),
        (NAME, unicodedata.normalize("NFD", NAME)),
        ("x.jpg", "x.jpg"),  # the files are x.jpg.xml and x.jpg.jpg
    ],
)
def test_lines_of_split_files(tmp_path, caplog, name, line):
    folder = tmp_path / "d"
    for part in ("Annotations", "JPEGImages"):
        (folder / part / name).parent.mkdir(parents=True, exist_ok=True)
    objects = voc_object("cat", "3 4 12 8")
    write_voc(folder, {name: objects, "other": objects}, {"t": [line, "other"]})
    with caplog.at_level(logging.INFO):
        data = VocDataset(folder, "t", training=True)
    assert data.path(0) == folder / f"JPEGImages/{name}.jpg" and data.class_names == ["cat"]
    assert data[0].image.shape == (3, 20, 30) and len(data) == 2
    assert data.entry(0) == f"{folder}/Annotations/{name}.xml"
    assert ("1 names of the split read in another form" in caplog.text) == (line != name)


def test_flags_with_subfolders_and_endings(tmp_path):
    folder = tmp_path / "d"
    for part in ("Annotations/s", "JPEGImages/s"):
        (folder / part).mkdir(parents=True)
    objects = voc_object("cat", "3 4 12 8")
    write_voc(folder, {"s/a": objects, "b": objects}, {"cat_t": ["s/a.jpg 1", "b  -1"]})
    assert len(VocDataset(folder, "cat_t", training=True)) == 2
    (folder / "ImageSets/Main/cat_t.txt").write_text("b\nb.jpg\n")
    assert "cat_t.txt: 'b' occurs twice" in error_of(folder, "cat_t")


@pytest.mark.parametrize(
    "size",
    [
        "",
        "<size></size>",
        "<size><width>0</width><height>0</height><depth>3</depth></size>",
        "<size><width>30</width><height>0</height></size>",
        "<size><width>30</width></size>",
        "<size><width/><height> </height></size>",
    ],
)
def test_a_size_that_is_missing_or_0_is_read_from_the_image(devkit, size, caplog):
    text = f"<annotation>{size}{voc_object('cat', '1 1 100 100')}</annotation>"
    (devkit / "Annotations/b.xml").write_text(text)
    with caplog.at_level("INFO"):
        data = VocDataset(devkit, "train", training=True)
    index = [data.path(i).stem for i in range(len(data))].index("b")
    assert data.sizes[index].tolist() == [20, 30]
    assert data.ground_truth(index).boxes.tolist() == [[0, 0, 29, 19]]
    assert f"1 of {len(data)} images have no size" in caplog.text


def test_another_size_than_the_file_names_the_xml(devkit):
    path = devkit / "Annotations/b.xml"
    path.write_text(voc_xml(IMAGES["b"], 20, 31))
    with pytest.raises(UserError, match=r"b\.jpg: 30 x 20 pixels.*b\.xml says 31 x 20"):
        VocDataset(devkit, "train", training=True)[0]


def test_real_data_equal_their_coco_version(shared):
    """The COCO version has x = xmin and w = xmax - xmin."""
    folder = shared / "data/bccd"
    voc = VocDataset(folder, "trainval", training=False).read()
    other = CocoDataset(
        folder / "coco/instances_trainval.json", folder / "JPEGImages", training=False
    ).read()
    assert voc.names.tolist() == other.names.tolist() and len(voc.names) == 292
    assert np.array_equal(voc.sizes, other.sizes) and np.array_equal(
        voc.image_index, other.image_index
    )
    names = [np.array(c.class_names)[c.classes].tolist() for c in (voc, other)]
    assert names[0] == names[1]
    assert np.array_equal(voc.xywh - other.xywh, np.tile([-1, -1, 1, 1], (len(voc.xywh), 1)))


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("object>", "Object>", "1 <Object> cannot be read"),
        ("<object>", "<objects><object>", "1 <object> cannot be read"),
        ("</bndbox>", "</bndbox><bndbox/>", "object 1 has several bndbox"),
    ],
)
def test_objects_that_cannot_be_read_are_refused(devkit, old, new, wanted):
    objects = voc_object("cat", "1 1 5 5").replace(old, new)
    closing = "</objects>" if "objects" in new else ""
    assert wanted in with_xml(devkit, voc_xml(objects + closing))


@pytest.mark.parametrize("word", ["-1", " None ", "Unknown"])
def test_values_that_tools_write_for_a_missing_size(devkit, word):
    for path in (devkit / "Annotations").glob("*.xml"):
        path.write_text(re.sub(r"<width>\d+<", f"<width>{word}<", path.read_text()))
    data = VocDataset(devkit, "train", training=True)
    assert (data.read().sizes == 0).all() and data.sizes.tolist() == [[20, 30]] * 2


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-16-be"])
def test_lists_that_windows_programs_write(devkit, encoding):
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (devkit / "ImageSets/Main/train.txt").write_bytes(f"{mark}b\r\na\r\n".encode(encoding))
    data = VocDataset(devkit, "train", training=True)
    assert data.read().names.tolist() == ["b.jpg", "a.jpg"]


def test_images_of_one_name_in_several_formats_give_a_warning(devkit, caplog):
    folder = devkit / "JPEGImages"
    name = sorted(folder.iterdir())[0].stem
    (folder / f"{name}.png").write_bytes((folder / f"{name}.jpg").read_bytes())
    data = VocDataset(devkit, "train", training=False)
    assert f"1 images have several files of one name, such as {name}.jpg, {name}.png" in caplog.text
    assert {data.path(i).suffix for i in range(len(data))} == {".jpg"}


def test_many_objects_with_other_letters_are_counted(devkit):
    inner = "<object><name>a</name></object>" * 3
    wrong = with_xml(devkit, f"<annotation>{inner}<part>{inner}</part></annotation>")
    assert "3 <object> cannot be read" in wrong
