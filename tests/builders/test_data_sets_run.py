"""Runs on VOC devkits and on several training sets."""

import json
import shutil

import numpy as np
import pytest
import torch
from helpers_run import TINY, call_tool, read_lines
from PIL import Image

from dynamic_atss.builders import build_test_loaders, build_train_dataset, build_train_loader
from dynamic_atss.builders.data import build_repeat_factors
from dynamic_atss.config.load import load_config
from dynamic_atss.data.orientation import ReadOptions
from dynamic_atss.data.shapes import make_shapes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Generated images as COCO files and as a devkit, with the config of the tiny detector."""
    folder = tmp_path_factory.mktemp("sets")
    make_shapes(folder / "shapes", train=12, val=4, size=96)
    (folder / "tiny.yaml").write_text(TINY)
    devkit = folder / "devkit"
    (devkit / "ImageSets/Main").mkdir(parents=True)
    (devkit / "Annotations").mkdir()
    (devkit / "JPEGImages").mkdir()
    for split in ("train", "val"):
        write_devkit(folder / "shapes", devkit, split)
    return folder


def write_devkit(shapes, devkit, split):
    content = json.loads((shapes / "annotations" / f"{split}.json").read_text())
    names = {c["id"]: c["name"] for c in content["categories"]}
    (devkit / "labels.txt").write_text("\n".join(names.values()))
    listed = []
    for image in content["images"]:
        stem, _, ending = image["file_name"].rpartition(".")
        objects = ""
        for entry in content["annotations"]:
            if entry["image_id"] == image["id"]:
                x, y, w, h = entry["bbox"]
                corners = {"xmin": x + 1, "ymin": y + 1, "xmax": x + w, "ymax": y + h}
                box = "".join(f"<{k}>{v}</{k}>" for k, v in corners.items())
                name = names[entry["category_id"]]
                objects += f"<object><name>{name}</name><bndbox>{box}</bndbox></object>"
        size = f"<size><width>{image['width']}</width><height>{image['height']}</height></size>"
        name = f"{split}{stem}"
        (devkit / f"Annotations/{name}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
        source = shapes / split / image["file_name"]
        (devkit / f"JPEGImages/{name}.{ending}").write_bytes(source.read_bytes())
        listed.append(name)
    (devkit / f"ImageSets/Main/{split}.txt").write_text("\n".join(listed))


def config(folder, *args):
    return load_config(str(folder / "tiny.yaml"), [str(a) for a in args])


def only_error(capsys) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def test_voc_is_trained_on_and_scored(folder, tmp_path, monkeypatch):
    devkit = folder / "devkit"
    args = ["--config-file", folder / "tiny.yaml", "OUTPUT_DIR", tmp_path, "SOLVER.MAX_ITER", 2]
    args += ["DATASETS.TRAIN", f"('voc:{devkit}:train',)"]
    args += ["DATASETS.TEST", f"('voc:{devkit}:val',)"]
    assert call_tool(monkeypatch, "train_net", args) == 0
    out = tmp_path / "inference/devkit_val"
    voc = json.loads((out / "voc_metrics.json").read_text())
    coco = json.loads((out / "coco_metrics.json").read_text())
    assert list(voc["per_category"]) == list(coco["per_category"]) and 0 <= voc["VOC_mAP"] <= 1
    assert {r["image_id"] for r in json.loads((out / "bbox.json").read_text())} <= {1, 2, 3, 4}
    last = read_lines(tmp_path)[-1]
    assert last["dataset"] == "devkit_val" and last["AP"] == coco["AP"]
    assert last["VOC_mAP"] == voc["VOC_mAP"] and last["VOC07_mAP"] == voc["VOC07_mAP"]
    assert "VOC box scores of" in (tmp_path / "log.txt").read_text()


def test_a_devkit_gives_the_boxes_of_the_coco_file(folder):
    sets = [f"voc:{folder}/devkit:train", "shapes_train"]
    voc, coco = (
        build_train_dataset(config(folder, "DATASETS.TRAIN", (s,), "DATASETS.ROOT", folder))
        for s in sets
    )
    assert voc.class_names == coco.class_names and len(voc) == len(coco) == 12
    for i in range(12):
        assert voc.ground_truth(i).boxes.tolist() == coco.ground_truth(i).boxes.tolist()
        assert voc.ground_truth(i).classes.tolist() == coco.ground_truth(i).classes.tolist()


def test_several_sets_are_trained_on(folder, tmp_path, monkeypatch):
    args = ["--config-file", folder / "tiny.yaml", "OUTPUT_DIR", tmp_path, "SOLVER.MAX_ITER", 2]
    args += ["DATASETS.ROOT", folder, "DATALOADER.REPEAT_FACTOR_THRESHOLD", 1.0, "--skip-test"]
    sets = f"('shapes_train', 'voc:{folder}/devkit:val')"
    assert call_tool(monkeypatch, "train_net", [*args, "DATASETS.TRAIN", sets]) == 0
    log = (tmp_path / "log.txt").read_text()
    assert "Repeat factors:" in log and "of 16 images" in log


def test_sets_of_other_classes_are_refused(folder, tmp_path, monkeypatch, capsys):
    shutil.copytree(folder / "devkit", tmp_path / "devkit")
    with (tmp_path / "devkit/labels.txt").open("a") as labels:
        labels.write("\nmoon\n")
    args = ["--config-file", folder / "tiny.yaml", "OUTPUT_DIR", tmp_path, "DATASETS.ROOT", folder]
    sets = f"('shapes_train', 'voc:{tmp_path}/devkit:val')"
    assert call_tool(monkeypatch, "train_net", [*args, "DATASETS.TRAIN", sets]) == 2
    error = only_error(capsys)
    assert "train.json: lacks class 'moon' of" in error and "val.txt" in error
    assert error.endswith("correct its name in the categories, or add it there")
    assert call_tool(monkeypatch, "train_net", [*args, "DATASETS.TRAIN", "()"]) == 2
    assert "DATASETS.TRAIN ()" in only_error(capsys)


def test_test_sets_of_other_classes_are_refused(folder, tmp_path, monkeypatch, capsys):
    shutil.copytree(folder / "devkit", tmp_path / "devkit")
    names = (tmp_path / "devkit/labels.txt").read_text().splitlines()
    (tmp_path / "devkit/labels.txt").write_text("\n".join(["moon", *names[1:]]))
    for path in (tmp_path / "devkit/Annotations").iterdir():
        path.write_text(path.read_text().replace(names[0], "moon"))
    args = ["--config-file", folder / "tiny.yaml", "OUTPUT_DIR", tmp_path, "DATASETS.ROOT", folder]
    sets = f"('voc:{tmp_path}/devkit:val',)"
    assert call_tool(monkeypatch, "train_net", [*args, "DATASETS.TEST", sets]) == 2
    error = only_error(capsys)
    assert "val.txt: the model has no class 'moon': it has" in error
    assert "correct the name, remove its boxes" in error


def test_mosaic_and_repeat_factors_go_together(folder):
    changes = ["DATALOADER.REPEAT_FACTOR_THRESHOLD", 1.0, "INPUT.MOSAIC.PROB", 1.0]
    cfg = config(folder, "DATASETS.ROOT", folder, *changes)
    dataset = build_train_dataset(cfg)
    factors = build_repeat_factors(cfg, dataset)
    assert len(factors) == 12 and factors.max() > 1
    drawn = np.bincount(np.ravel([dataset._draw(rng) for rng in generators(2000)]), minlength=12)
    assert (np.abs(drawn / 6000 - factors / factors.sum()) < 0.02).all()
    assert len(list(build_train_loader(cfg, dataset, 4))) == 2


def generators(count):
    return map(np.random.default_rng, range(count))


def test_mosaics_are_resized_as_told(folder):
    for exact in (False, True):
        changes = ["DATASETS.ROOT", folder, "INPUT.MOSAIC.PROB", 1.0, "INPUT.EXACT_RESIZE", exact]
        assert build_train_dataset(config(folder, *changes)).exact is exact


def test_dsla_has_boxes_without_the_legacy_pixel(folder):
    changes = ["DATASETS.ROOT", folder, "INPUT.FLIP_PROB_TRAIN", 0.0]
    legacy = config(folder, *changes)
    dsla = config(folder, *changes, "MODEL.ATSS_ON", False, "MODEL.DSLA_ON", True)
    wide, plain = (build_train_dataset(cfg).ground_truth(0).boxes for cfg in (dsla, legacy))
    assert ((wide - plain)[:, :2] == 0).all() and ((wide - plain)[:, 2:] == 1).all()
    sample = build_train_dataset(dsla)[0]
    ratio = sample.image.shape[2] / 96
    assert (sample.gt.boxes - wide * ratio).abs().max() < 1e-4
    tests = [*build_test_loaders(dsla).values(), *build_test_loaders(legacy).values()]
    wide, plain = (loader.dataset.ground_truth(0).boxes for loader in tests)
    assert ((wide - plain)[:, 2:] == 1).all()


@pytest.fixture
def photographs(folder, tmp_path):
    """Writes the generated sets like photographs: stored sideways, with EXIF, without sizes."""
    for split in ("train", "val"):
        content = json.loads((folder / f"shapes/annotations/{split}.json").read_text())
        for entry in content["images"]:
            source = folder / "shapes" / split / entry["file_name"]
            entry["file_name"] = f"{split}/{entry['id']}.png"
            target = tmp_path / entry["file_name"]
            target.parent.mkdir(exist_ok=True)
            exif = Image.Exif()
            exif[274] = 6
            Image.open(source).transpose(Image.Transpose.ROTATE_90).save(target, exif=exif)
            del entry["width"], entry["height"]
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    return tmp_path


def set_of(photographs, split):
    return (f"coco:{photographs}/{split}.json:{photographs}",)


def test_pictures_are_turned_for_training_and_test(folder, photographs, monkeypatch):
    out = photographs / "out"
    args = ["--config-file", folder / "tiny.yaml", "OUTPUT_DIR", out, "SOLVER.MAX_ITER", 1]
    args += ["DATASETS.TRAIN", set_of(photographs, "train")]
    args += ["DATASETS.TEST", set_of(photographs, "val"), "TEST.DETECTIONS_PER_IMG", 300]
    assert call_tool(monkeypatch, "train_net", args) == 0
    log = (out / "log.txt").read_text()
    assert log.count("have an EXIF orientation") == 2 and "are turned upright" in log
    scores = json.loads((out / "inference/val/coco_metrics.json").read_text())
    assert scores["max_dets"] == 300 and scores["at_max_dets_100"]["AP"] <= scores["AP"]
    assert read_lines(out)[-1]["AP@100"] == scores["at_max_dets_100"]["AP"]


def test_keys_reach_training_and_test_sets(folder, photographs):
    keys = ["DATASETS.TRAIN", set_of(photographs, "train"), "INPUT.MAX_PIXELS", 10**6]
    keys += ["DATASETS.TEST", set_of(photographs, "val"), "INPUT.BITS", 12, "INPUT.EXIF"]
    frames = {}
    for exif in ("apply", "ignore"):
        cfg = config(folder, *keys, exif)
        (loader,) = build_test_loaders(cfg).values()
        sets = build_train_dataset(cfg), loader.dataset
        assert all(data.reading == ReadOptions(exif, 10**6, 12) for data in sets)
        frames[exif] = [data.load(0)[0] for data in sets]
    for upright, stored in zip(frames["apply"], frames["ignore"], strict=True):
        assert torch.equal(torch.rot90(stored, -1, (1, 2)), upright)


def test_a_test_set_with_a_bad_file_is_refused_before_the_training(
    folder, photographs, monkeypatch, capsys
):
    bad = sorted((photographs / "val").iterdir())[:2]
    for path in bad:
        path.write_bytes(path.read_bytes()[:200])
    out = photographs / "out"
    args = ["--config-file", folder / "tiny.yaml", "OUTPUT_DIR", out, "SOLVER.MAX_ITER", 1]
    args += ["DATASETS.TRAIN", set_of(photographs, "train")]
    assert (
        call_tool(monkeypatch, "train_net", [*args, "DATASETS.TEST", set_of(photographs, "val")])
        == 2
    )
    error = only_error(capsys)
    assert "the image cannot be decoded" in error and "2 of 4 images" in error
    assert not (out / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("INPUT.EXIF", "yes", "INPUT.EXIF 'yes': accepted are auto, apply, ignore"),
        ("INPUT.BITS", 7, "INPUT.BITS 7: accepted are 0, 8, 9"),
        ("INPUT.MAX_PIXELS", 0, "INPUT.MAX_PIXELS 0: at least 1"),
        ("INPUT.MAX_PIXELS", 2**30 + 1, "INPUT.MAX_PIXELS 1073741825: at most 1073741824"),
    ],
)
def test_values_of_the_keys(folder, tmp_path, monkeypatch, capsys, key, value, message):
    args = ["--config-file", folder / "tiny.yaml", "OUTPUT_DIR", tmp_path, key, value]
    assert call_tool(monkeypatch, "train_net", args) == 2
    assert message in only_error(capsys)
