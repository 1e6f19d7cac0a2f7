"""The generated data set: equal files for equal seeds, tight boxes, safe to generate again."""

import hashlib
import json
import multiprocessing

import cv2
import numpy as np
import pytest

from dynamic_atss.data.coco import CocoDataset
from dynamic_atss.data.shapes import is_complete, make_shapes
from dynamic_atss.data.shapes_drawing import CLASSES, draw_scene
from dynamic_atss.errors import UserError

SMALL = {"train": 12, "val": 3, "size": 96}


def digest(folder):
    hashes = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        hashes.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return hashes.hexdigest()


def test_same_seed_same_files(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_shapes(tmp_path / name, **SMALL, seed=seed)
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")


def test_files_are_a_coco_data_set(tmp_path):
    make_shapes(tmp_path / "s", **SMALL)
    content = json.loads((tmp_path / "s/annotations/train.json").read_text())
    for entry in content["annotations"]:
        x, y, w, h = entry["bbox"]
        assert x >= 0 and y >= 0 and x + w <= 96 and y + h <= 96 and entry["iscrowd"] == 0
        assert 0 < entry["area"] <= w * h
        points = np.concatenate([np.reshape(p, (-1, 2)) for p in entry["segmentation"]])
        assert points.min(0).tolist() >= [x, y] and (points.max(0) < [x + w, y + h]).all()
    for split, count in (("train", 12), ("val", 3)):
        data = CocoDataset(
            tmp_path / f"s/annotations/{split}.json", tmp_path / "s" / split, training=True
        )
        assert len(data) == count and data.class_names == list(CLASSES)
        assert sum(data.statistics.values()) == 0
        assert [data[i].image.shape for i in range(count)] == [(3, 96, 96)] * count


def test_scenes_have_all_classes_scales_and_overlaps():
    scenes = [draw_scene(192, np.random.default_rng(i)) for i in range(60)]
    assert {c for s in scenes for c in s.classes} == set(range(len(CLASSES)))
    boxes = np.array([cv2.boundingRect(v) for s in scenes for v in s.visible])
    assert boxes[:, 2:].min() < 20 and boxes[:, 2:].max() > 110
    ratio = boxes[:, 2] / boxes[:, 3]
    assert ratio.min() < 0.7 and ratio.max() > 1.4
    for scene in scenes:
        assert np.sum(scene.visible, axis=0).max() == 1  # a pixel shows one object
        assert scene.image.shape == (192, 192, 3) and scene.image.std() > 5


def test_only_an_incomplete_data_set_is_generated_again(tmp_path):
    folder = tmp_path / "s"
    make_shapes(folder, **SMALL)
    first = digest(folder)
    time = (folder / "shapes.json").stat().st_mtime_ns
    make_shapes(folder, **SMALL)
    assert (folder / "shapes.json").stat().st_mtime_ns == time
    next((folder / "train").glob("*.jpg")).unlink()
    assert not is_complete(folder)
    make_shapes(folder, **SMALL)
    assert digest(folder) == first
    make_shapes(folder, **{**SMALL, "val": 4})
    assert len(list((folder / "val").glob("*.jpg"))) == 4
    assert {p.name for p in tmp_path.iterdir()} == {"s", ".s.lock"}


def test_a_folder_with_other_files_stays_unchanged(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="has other files"):
        make_shapes(tmp_path, **SMALL)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        make_shapes(tmp_path / "file" / "s", **SMALL)


def test_several_processes_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    folder = tmp_path / "s"
    ranks = [context.Process(target=make_shapes, args=(folder,), kwargs=SMALL) for _ in range(3)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(60)
    assert [rank.exitcode for rank in ranks] == [0, 0, 0] and is_complete(folder)
