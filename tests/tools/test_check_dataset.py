"""Tests tools/check_dataset.py: its exit codes, its findings and the files that it writes."""

import json
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from helpers_run import ROOT, call_tool
from PIL import Image

from dynamic_atss.data.check import pictures


@pytest.fixture(autouse=True)
def new_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAMIC_ATSS_CACHE", str(tmp_path / "cache"))


def picture(seed):
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), (80, 60))


def write_set(folder, seeds):
    """Writes <folder>.json with an image for each seed and two boxes in each; gives its SPEC."""
    folder.mkdir()
    boxes = []
    for number, seed in enumerate(seeds, 1):
        cv2.imwrite(str(folder / f"{number}.png"), picture(seed))
        for k, bbox in enumerate(([5, 5, 20, 30], [40, 20, 30, 30])):
            id = len(boxes) + 1
            boxes.append(
                {
                    "id": id,
                    "image_id": number,
                    "category_id": k + 1,
                    "bbox": bbox,
                    "area": 500,
                }
            )
    images = [{"id": n, "file_name": f"{n}.png"} for n in range(1, len(seeds) + 1)]
    categories = [{"id": 1, "name": "<b>cat</b>"}, {"id": 2, "name": "dog $x$"}]
    content = {"images": images, "annotations": boxes, "categories": categories}
    folder.with_suffix(".json").write_text(json.dumps(content))
    return f"coco:{folder.with_suffix('.json')}:{folder}"


@pytest.fixture
def check(monkeypatch, capsys):
    def call(*args):
        code = call_tool(monkeypatch, "check_dataset", args)
        return code, *capsys.readouterr()

    return call


def codes(path):
    return {f["code"]: f for f in json.loads(path.read_text())["findings"]}


def test_a_good_set(check, tmp_path):
    code, out, _ = check(write_set(tmp_path / "a", range(12)), "--json", tmp_path / "out.json")
    assert code == 0 and out.endswith(
        "12 images, 24 boxes, 2 classes: nothing must be fixed, 0 warnings\n"
    )
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["exit_code"] == 0
    assert not [f for f in report["findings"] if f["level"] != "note"]
    (one,) = report["sets"]
    assert (one["images"], one["boxes"]) == (12, 24)
    assert one["classes"] == {"<b>cat</b>": 12, "dog $x$": 12}


def test_every_bad_file_is_named_and_the_others_are_checked(check, tmp_path):
    name = write_set(tmp_path / "a", range(6))
    data = (tmp_path / "a/1.png").read_bytes()
    (tmp_path / "a/1.png").write_bytes(data[:-100])
    (tmp_path / "a/2.png").write_bytes(data[:20] + b"\0" + data[21:-30] + bytes(30))
    (tmp_path / "a/3.png").unlink()
    (tmp_path / "a/4.png").write_text("no picture")
    code, out, _ = check(name, "--json", tmp_path / "out.json")
    assert (
        code == 1
        and "6 images, 12 boxes, 2 classes: something must be fixed, " in out.splitlines()[-1]
    )
    found = codes(tmp_path / "out.json")
    named = " ".join(found["unreadable"]["items"] + found["undecodable"]["items"])
    assert sorted(re.findall(r"a/(\d)\.png", named)) == ["1", "2", "3", "4"]
    assert json.loads((tmp_path / "out.json").read_text())["sets"][0]["images"] == 2
    assert all(f"a/{n}.png" in out for n in (1, 2, 3, 4))


def test_a_set_that_cannot_be_read_is_counted(check, tmp_path):
    train, test = write_set(tmp_path / "a", range(3)), write_set(tmp_path / "b", range(10, 12))
    content = json.loads((tmp_path / "a.json").read_text())
    content["annotations"][0]["category_id"] = 77
    (tmp_path / "a.json").write_text(json.dumps(content))
    code, out, _ = check(train, test)
    last = out.splitlines()[-1]
    assert code == 1 and last.startswith("1 of 2 data sets not read; 2 images, 4 boxes, 2 classes:")


def test_a_misspelt_format(check):
    code, _, error = check("cooc:my/train.json:my/images")
    assert code == 2 and "there is no data format 'cooc'; the nearest is 'coco'" in error


def test_copies_across_the_sets(check, tmp_path):
    pytest.importorskip("imagehash")
    train = write_set(tmp_path / "a", range(5))
    test = write_set(tmp_path / "b", [10, 11, 2])
    cv2.imwrite(str(tmp_path / "b/1.png"), cv2.convertScaleAbs(picture(3), alpha=0.95, beta=3))
    assert check(train, test, "--json", tmp_path / "out.json")[0] == 1
    found = codes(tmp_path / "out.json")
    assert "'3.png' and '3.png'" in found["shared_pictures"]["text"]
    assert "'4.png' and '1.png'" in found["similar_pictures"]["text"]
    assert found["shared_pictures"]["count"] == found["similar_pictures"]["count"] == 1


def test_without_the_library_for_copies(check, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "imagehash", None)
    monkeypatch.setattr("dynamic_atss.data.check.check_all.imagehash", None)
    train, test = write_set(tmp_path / "a", [1, 2]), write_set(tmp_path / "b", [2, 3])
    code, out, _ = check(train, test)
    assert code == 1 and "pip install 'dynamic_atss[check]'" in out
    assert "the same bytes" in out  # this needs no library


def test_the_priors_of_a_configuration(check, tmp_path):
    name = write_set(tmp_path / "a", range(3))
    content = json.loads((tmp_path / "a.json").read_text())
    content["annotations"][0]["bbox"] = [5, 5, 2, 2]
    (tmp_path / "a.json").write_text(json.dumps(content))
    config = ROOT / "configs/quickstart/bccd_R_18.yaml"
    sizes = ["--set", "INPUT.MIN_SIZE_TRAIN", "(60,)", "TEST.DETECTIONS_PER_IMG", 1]
    code, out, _ = check(name, "--config-file", config, *sizes)
    assert code == 0 and "(prior) of the network that learns them at INPUT.MIN_SIZE_TRAIN 60" in out
    assert "3 of 3 images with more objects than the 1 detections" in out


def test_the_keys_for_reading_pictures(check, tmp_path):
    name = write_set(tmp_path / "a", range(3))
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.open(tmp_path / "a/1.png").save(tmp_path / "a/1.png", exif=turned)
    deep = np.full((50, 60), 4000, np.uint16)
    cv2.imwrite(str(tmp_path / "a/2.png"), deep)
    content = json.loads((tmp_path / "a.json").read_text())
    content["images"][0] |= {"width": 80, "height": 60}  # as stored
    (tmp_path / "a.json").write_text(json.dumps(content))

    def found(*keys):
        check(name, "--json", tmp_path / "out.json", "--set", *keys)
        return codes(tmp_path / "out.json")

    assert "bits" in found("INPUT.EXIF", "auto") and "size" not in found("INPUT.EXIF", "ignore")
    assert found("INPUT.EXIF", "apply")["size"]["items"] == ["1.png"]
    assert "bits" not in found("INPUT.BITS", 12)
    large = found("INPUT.MAX_PIXELS", 4000)["unreadable"]
    assert large["count"] == 2 and "more than INPUT.MAX_PIXELS 4000" in large["text"]


def test_a_set_without_a_usable_box_is_refused_as_in_a_training(check, tmp_path):
    name = write_set(tmp_path / "a", range(3))
    content = json.loads((tmp_path / "a.json").read_text())
    for entry in content["annotations"]:
        entry["bbox"][2] = -5
    (tmp_path / "a.json").write_text(json.dumps(content))
    code, out, _ = check(name)
    assert code == 1
    assert "none of its 3 readable images has a usable box" in out
    assert check(name, "--set", "DATASETS.KEEP_EMPTY", "True")[0] == 0


def test_findings_while_opening_are_reported_once(check, tmp_path):
    name = write_set(tmp_path / "a", range(3))
    cv2.imwrite(str(tmp_path / "a/2.png"), np.full((60, 80), 4000, np.uint16))
    content = json.loads((tmp_path / "a.json").read_text())
    content["categories"][0]["name"] = "ignore"
    content["annotations"][0] |= {"area": -1, "category_id": "1"}
    for entry in content["annotations"][2:]:
        entry["bbox"][0] = 70
    (tmp_path / "a.json").write_text(json.dumps(content))
    code, out, error = check(name, "--json", tmp_path / "out.json")
    assert code == 1 and "reach beyond" not in error and "areas" not in error
    found = codes(tmp_path / "out.json")
    assert found["by_meaning"]["level"] == "note" and "category_id of 1" in out
    assert "The largest value in 1 of them is 4000" in found["bits"]["text"]
    assert found["bits"]["advice"] == "set INPUT.BITS 12"
    assert "'ignore' is learnt" in found["annotations"]["text"]
    assert (out.count("reach beyond"), out.count("area that"), out.count("16 bits.")) == (1, 1, 1)


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.images, self.outside = [], [], []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag == "img":
            self.images.append(attributes["src"])
        elif tag not in ("meta", "br", "wbr"):
            self.open.append(tag)
        self.outside += [v for k, v in attrs if k in ("href", "src") and not v.startswith("data:")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.slow
def test_the_page_is_one_self_contained_file(check, tmp_path):
    train, test = write_set(tmp_path / "a", range(4)), write_set(tmp_path / "b<i>", [7, 2])
    check(train, test, "--html", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert tags.open == [] and tags.outside == [] and len(tags.images) == 12
    assert "width=device-width" in page and "1 to fix" in page
    assert "<b>cat</b>" not in page and "b<i>" not in page  # names from files are no markup


def test_fix(check, tmp_path):
    name = write_set(tmp_path / "a", range(3))
    (tmp_path / "a/2.png").write_bytes(b"")
    before = (tmp_path / "a.json").read_bytes()
    code, out, _ = check(name, "--fix", tmp_path / "clean.json")
    assert code == 1 and "removed images that cannot be read, with their boxes: 1" in out
    assert (tmp_path / "a.json").read_bytes() == before
    assert check(f"coco:{tmp_path / 'clean.json'}:{tmp_path / 'a'}")[0] == 0
    code, _, error = check(name, "--fix", tmp_path / "a.json")
    assert code == 2 and "--fix" in error and "a.json" in error
    assert (tmp_path / "a.json").read_bytes() == before


def test_a_format_of_the_user(check, tmp_path):
    write_set(tmp_path / "images", range(3))
    (tmp_path / "boxes.csv").write_text("1.png,5,5,30,40,cat\n2.png,5,5,30,40,cat\n")
    name = (
        f"{ROOT / 'examples/csv_boxes.py'}:CsvBoxes:{tmp_path / 'boxes.csv'}:{tmp_path / 'images'}"
    )
    code, out, _ = check(name)
    assert code == 0 and "2 images" in out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "no data set"),
        (["nonsense"], "'nonsense' is unknown"),
        (["coco:nowhere.json:nowhere"], "nowhere.json: no such JSON file"),
        (["coco:a.json"], "write it as coco:"),
        (["a", "b", "--fix", "new.json"], "--fix new.json: cleans one data set"),
        (["--unknown"], "--unknown"),
    ],
)
def test_mistakes_in_the_command_line(check, args, message):
    code, _, error = check(*args)
    assert code == 2 and message in error and error.count("\n") == 1


def test_an_annotation_file_that_cannot_be_read_must_be_fixed(check, tmp_path):
    name = write_set(tmp_path / "a", range(2))
    (tmp_path / "a.json").write_text('{"images": [')
    code, out, _ = check(name)
    assert code == 1 and "broken JSON" in out
