"""Findings of a survey on the headers of image files, and the cache of headers."""

import json
import os

import cv2
import numpy as np
import pytest
from helpers_data import box, open_coco, write_coco
from PIL import Image

from dynamic_atss.data import header_cache
from dynamic_atss.data.header_cache import cache_place, cached_headers
from dynamic_atss.data.orientation import ReadOptions
from dynamic_atss.data.survey import SurveyInput, file_findings
from dynamic_atss.errors import UserError

NAMES = [f"{i}.png" for i in (1, 2, 3)]


@pytest.fixture(autouse=True)
def separate_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAMIC_ATSS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def read(monkeypatch):
    """Records the files whose headers are read instead of taken from the cache."""
    seen = []
    original = header_cache.read_headers

    def reading(paths, label):
        seen.extend(os.path.basename(path) for path in paths)
        return original(paths, label)

    monkeypatch.setattr(header_cache, "read_headers", reading)
    return seen


@pytest.fixture
def path(tmp_path):
    return write_coco(tmp_path, dict.fromkeys((1, 2, 3), (20, 30)), [box(1, 1, [2, 2, 9, 9])])


def found(path):
    dataset = open_coco(path, training=False, reading=ReadOptions(headers=False))
    names = dataset.content.names.tolist()
    data = SurveyInput.of(dataset, cached_headers(dataset.images, names, "test"))
    return {finding.code: finding for finding in file_findings(data)}


def test_good_files_give_no_finding(path):
    assert found(path) == {}


def test_bad_files(path):
    (path.parent / "images/2.png").write_bytes(b"")
    (path.parent / "images/3.png").write_bytes(b"no picture at all")
    finding = found(path)["unreadable"]
    assert finding.level == "stop" and "2 of 3 images cannot be read" in finding.line
    assert "2.png" in finding.line and len(finding.items) == 2 and "3.png" in finding.items[1]


def test_size_of_another_file(path):
    cv2.imwrite(str(path.parent / "images/2.png"), np.zeros((30, 20, 3), np.uint8))
    finding = found(path)["size"]
    assert finding.level == "stop" and finding.items == ("2.png",)
    assert "1 of 3 images" in finding.line
    assert "20 x 30 pixels, but its entry says 30 x 20" in finding.line


def test_orientation_bits_and_formats(path):
    turned = Image.fromarray(np.zeros((30, 20, 3), np.uint8))  # upright: 20 high, 30 wide
    exif = Image.Exif()
    exif[274] = 6
    turned.save(path.parent / "images/1.png", "JPEG", exif=exif)
    cv2.imwrite(str(path.parent / "images/2.png"), np.zeros((20, 30), np.uint16))
    lines = {code: finding.line for code, finding in found(path).items()}
    assert set(lines) == {"orientation", "bits", "formats"}
    assert "1 of 3 images with an EXIF orientation, such as '1.png' (6)" in lines["orientation"]
    assert "1 of 3 images of more than 8 bits, such as '2.png' (PNG, 16 bits)" in lines["bits"]
    assert "3 kinds" in lines["formats"]


def test_headers_are_read_once(path, read):
    folder = path.parent / "images"
    first = cached_headers(folder, NAMES, "test")
    assert sorted(read) == NAMES and [tuple(h[:2]) for h in first] == [(20, 30)] * 3
    read.clear()
    assert cached_headers(folder, NAMES, "test") == first and read == []


def test_changed_and_new_files_are_read_again(path, read):
    folder = path.parent / "images"
    cached_headers(folder, NAMES[:2], "test")
    read.clear()
    cv2.imwrite(str(folder / "2.png"), np.zeros((7, 9, 3), np.uint8))
    headers = cached_headers(folder, NAMES, "test")
    assert sorted(read) == NAMES[1:] and headers[1][:2] == (7, 9)
    read.clear()
    status = os.stat(folder / "1.png")  # same size, another time
    os.utime(folder / "1.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    cached_headers(folder, NAMES, "test")
    assert read == NAMES[:1]


def test_errors_are_not_cached(path):
    folder = path.parent / "images"
    (folder / "2.png").unlink()
    assert isinstance(cached_headers(folder, NAMES, "test")[1], UserError)
    cv2.imwrite(str(folder / "2.png"), np.zeros((7, 9, 3), np.uint8))
    assert cached_headers(folder, NAMES, "test")[1][:2] == (7, 9)


DAMAGED = [
    "",
    "{",
    "[]",
    '{"format": "headers/1"}',
    '{"format": "headers/1", "files": {"1.png": [1]}}',
]


@pytest.mark.parametrize("content", [*DAMAGED, '{"format": "other", "files": {}}', "\xff"])
def test_a_damaged_cache_gives_a_warning(path, read, caplog, content):
    folder = path.parent / "images"
    first = cached_headers(folder, NAMES, "test")
    cache_place(folder).write_text(content, encoding="latin-1")
    read.clear()
    assert cached_headers(folder, NAMES, "test") == first and sorted(read) == NAMES
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert str(cache_place(folder)) in caplog.text
    assert set(json.loads(cache_place(folder).read_text())["files"]) == set(NAMES)
    assert [p.name for p in cache_place(folder).parent.iterdir()] == [cache_place(folder).name]


def test_a_cache_that_cannot_be_written(path, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DYNAMIC_ATSS_CACHE", str(tmp_path / "file"))
    assert len(cached_headers(path.parent / "images", NAMES, "test")) == 3
