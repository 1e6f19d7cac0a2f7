"""Tests the files of a report: odd data sets, interrupted writing, the page in a browser."""

import json
import re
import shutil
import subprocess

import cv2
import numpy as np
import pytest
from helpers_reports import found, random_set, truth, write_set

from dynamic_atss.data.voc import VocDataset
from dynamic_atss.errors import UserError
from dynamic_atss.reports import write
from dynamic_atss.reports.write import write_report

BOX = (10, 10, 40, 40)
ODD = {1: "<script>alert(1)</script>", 2: "猫 $x^2$", 3: "a\u202eb\n", 4: "x" * 300}


def report_of(dataset, name="val"):
    folder = dataset.annotations.parent / "out"
    path = write_report(dataset, folder, name, 100)
    return path.read_text(), json.loads((folder / "report.json").read_text())


def test_names_are_no_markup_and_nothing_is_loaded(tmp_path):
    boxes = [truth(5, 1, BOX), truth(9, 2, BOX), truth(9, 3, (80, 80, 30, 30))]
    results = [found(5, 4, BOX, 0.9), found(9, 2, BOX, 0.8), found(11, 1, BOX, 0.7)]
    text, numbers = report_of(write_set(tmp_path / "set", boxes, results, ODD), "<i>\u202e")
    assert "<script" not in text and "\u202e" not in text and "<i>" not in text
    assert "&lt;script&gt;" in text and "猫" in text and "x" * 50 not in text
    assert not re.search(r"(src|href)=[\"'](?!data:|#)|url\(|@import|https?:", text)
    assert numbers["per_category"]["x" * 300]["at_threshold"]["false"] == 1
    assert "5 &lt;b&gt;é.png" in text


FAR = (190, 140, 500, 500)


@pytest.mark.parametrize(
    ("boxes", "results", "found_any", "right_all"),
    [
        ([truth(5, 1, BOX)], [], False, False),
        ([truth(5, 1, BOX)], [found(9, 1, BOX, 0.9)], False, False),
        ([truth(5, 1, BOX, iscrowd=1)], [found(5, 1, BOX, 0.9)], False, True),
        ([truth(5, 1, BOX)], [found(5, 1, BOX, 1.0)], True, True),
        ([truth(5, 1, (10, 10, 0, 0))], [found(5, 1, FAR, 0.9)], False, False),
    ],
    ids=["no detections", "all false", "only crowds", "no error", "outside the image"],
)
def test_odd_results(tmp_path, boxes, results, found_any, right_all):
    text, numbers = report_of(write_set(tmp_path / "set", boxes, results, {1: "one"}))
    assert (numbers["best_threshold"] is not None) == found_any
    assert ("Take the threshold" in text) == found_any
    assert ("No image has an error" in text) == right_all
    assert len(numbers["worst_images"]) == (not right_all) * len(
        {5, *(r["image_id"] for r in results)}
    )
    assert "nan" not in re.sub(r"base64,[^\"]*", "", text).lower()


def test_no_report_where_there_is_nothing_to_score(tmp_path):
    dataset = write_set(tmp_path / "set", [], [], {1: "one"})
    (tmp_path / "set/out/report.html").write_text("of another test")
    assert write_report(dataset, tmp_path / "set/out", "val", 100) is None
    assert [p.name for p in (tmp_path / "set/out").iterdir()] == ["bbox.json"]


def test_results_of_another_set_and_missing_results_are_refused(tmp_path):
    dataset = write_set(tmp_path / "set", [truth(5, 1, BOX)], [found(6, 1, BOX, 1.0)], {1: "one"})
    with pytest.raises(UserError, match="image 6 is not in"):
        report_of(dataset)
    with pytest.raises(UserError, match=r"bbox\.json: does not exist"):
        write_report(dataset, tmp_path, "val", 100)


def test_a_missing_image_is_reported_in_its_place(tmp_path):
    dataset = random_set(tmp_path / "set", 0)
    complete, _ = report_of(dataset)
    shutil.rmtree(dataset.images)
    text, _ = report_of(dataset)
    assert "data:image" in complete and "data:image" not in text
    assert str(dataset.images / "0").replace("/", "") in re.sub("/|&lt;.*?&gt;", "", text)


def test_an_older_report_stays_where_the_new_one_cannot_be_written(tmp_path, monkeypatch):
    dataset = random_set(tmp_path / "set", 0)
    old, _ = report_of(dataset)

    def full(*_):
        raise MemoryError

    monkeypatch.setattr(write, "picture_sections", full)
    with pytest.raises(MemoryError):
        report_of(dataset)
    names = sorted(p.name for p in (tmp_path / "set/out").iterdir())
    assert names == ["bbox.json", "report.html", "report.json"]
    assert (tmp_path / "set/out/report.html").read_text() == old


def test_size_is_bounded(tmp_path, monkeypatch):
    """Reports of 40 and of 20 images show equally many pictures. Noise compresses badly."""
    sizes = {}
    for images in (20, 40):
        boxes = [truth(i, 1, BOX) for i in range(images)]
        results = [found(i, 1, (100, 90, 30, 30), 0.9) for i in range(images)]
        dataset = write_set(tmp_path / str(images), boxes, results, {1: "one"}, range(images))
        text, numbers = report_of(dataset)
        assert text.count("<img") == 12 + 18 + 18 and len(numbers["worst_images"]) == 12
        sizes[images] = len(text)
    assert f"12 of the {images} images" in text
    assert sizes[40] < 1.02 * sizes[20]


def voc_file(image, corners):
    """Gives an annotation.

    Args:
        corners: pairs of "xmin ymin xmax ymax" and difficult (0 or 1).
    """
    keys = ("xmin", "ymin", "xmax", "ymax")
    objects = ""
    for text, difficult in corners:
        box = "".join(f"<{k}>{v}</{k}>" for k, v in zip(keys, text.split(), strict=True))
        flag = f"<difficult>{difficult}</difficult>"
        objects += f"<object><name>cat</name>{flag}<bndbox>{box}</bndbox></object>"
    size = "<size><width>200</width><height>150</height><depth>3</depth></size>"
    return f"<annotation><filename>{image}.jpg</filename>{size}{objects}</annotation>"


def write_voc(folder):
    """Writes images a and b. b also has a difficult box."""
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    boxes = {"a": [("11 11 50 50", 0)], "b": [("1 1 30 30", 0), ("101 101 140 140", 1)]}
    for image, corners in boxes.items():
        cv2.imwrite(str(folder / f"JPEGImages/{image}.jpg"), np.full((150, 200, 3), 9, np.uint8))
        (folder / f"Annotations/{image}.xml").write_text(voc_file(image, corners))
    (folder / "ImageSets/Main/val.txt").write_text("a\nb\n")
    return VocDataset(folder, "val", training=False)


def test_of_a_voc_set_has_vocs_scores(tmp_path):
    dataset = write_voc(tmp_path)
    (a, b), category = dataset.image_ids, dataset.category_ids[dataset.class_names.index("cat")]
    results = [
        found(a, category, (10, 10, 40, 40), 0.9),
        found(b, category, (100, 100, 40, 40), 0.8),  # on the difficult one
        found(b, category, (60, 60, 20, 20), 0.7),
    ]
    (tmp_path / "out").mkdir()
    (tmp_path / "out/bbox.json").write_text(json.dumps(results))
    path = write_report(dataset, tmp_path / "out", "voc", 100)
    numbers = json.loads((tmp_path / "out/report.json").read_text())
    assert numbers["voc"]["VOC_mAP"] == pytest.approx(0.5)  # one of two, without the difficult one
    assert numbers["regions_to_ignore"] == 1 and numbers["detections_counted"] == 2
    assert numbers["at_threshold"]["false"] == 0 and "PASCAL VOC" in path.read_text()


@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium here")
@pytest.mark.parametrize("width", [400, 1200])
def test_opens_in_a_browser_without_scrolling_sideways(tmp_path, width):
    dataset = random_set(tmp_path / "set", 0)
    report_of(dataset)
    page = tmp_path / "set/out/report.html"
    probe = (
        "<script>addEventListener('load', () => { const e = document.documentElement;"
        "document.title = [e.scrollWidth, innerWidth, [...document.images].every(i => "
        "i.naturalWidth > 0), performance.getEntriesByType('resource').filter(r => "
        "!r.name.startsWith('data:')).length, document.querySelectorAll('h2').length].join() "
        "})</script>"
    )
    page.write_text(page.read_text().replace("</body>", f"{probe}</body>"))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--window-size={width},900", f"--user-data-dir={tmp_path / 'profile'}"]
    ended = subprocess.run(
        [*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    title = re.search("<title>(.*?)</title>", ended.stdout)[1].split(",")
    content, window, loaded, requests, sections = title
    assert int(content) <= int(window) and int(sections) == 11
    assert (loaded, requests) == ("true", "0")


def test_worst_images_come_first(tmp_path):
    dataset = random_set(tmp_path / "set", 1)
    _, numbers = report_of(dataset)
    errors = [image["missed"] + image["false"] for image in numbers["worst_images"]]
    assert errors == sorted(errors, reverse=True) and errors[0] > errors[-1] > 0
    assert np.sum([image["found"] for image in numbers["worst_images"]]) > 0


def test_negative_ids(tmp_path):
    boxes = [truth(-3, -1, BOX), truth(5, 2, BOX)]
    results = [found(-3, -1, BOX, 0.9), found(5, -1, BOX, 0.95)]
    dataset = write_set(tmp_path / "set", boxes, results, {2: "b", -1: "a"}, images=(-3, 5))
    _, numbers = report_of(dataset)
    assert numbers["confusion"]["matrix"] == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert [image["image_id"] for image in numbers["worst_images"]] == [5]
