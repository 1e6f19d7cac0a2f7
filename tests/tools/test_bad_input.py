"""Tests mistakes of users of the tools: one line on stderr, exit code 2, nothing is lost."""

import json
import os
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_run import call_tool, read_lines, run_tool, write_config
from PIL import Image


class Evil:
    """Makes a file if it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def weights(config, tmp_path_factory):
    """Gives the weights of a finished run."""
    out = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        args = [*config, "OUTPUT_DIR", out, "--skip-test", "SOLVER.MAX_ITER", 1]
        assert call_tool(patch, "train_net", args) == 0
    return out / "model_final.pth"


@pytest.fixture
def refused(config, tmp_path, monkeypatch, capsys):
    """Gives a function (tool, *args) that returns the error line of a run that must not start."""

    def check(tool: str, *args: object) -> str:
        out = tmp_path / "out"
        end = call_tool(
            monkeypatch, tool, [*config, "SOLVER.MAX_ITER", 4, "OUTPUT_DIR", out, *args]
        )
        captured = capsys.readouterr().err
        assert end == 2
        assert captured.startswith("error: ") and captured.count("\n") == 1, captured
        assert not out.exists() or {p.name for p in out.iterdir()} <= MADE_BY_STARTING
        return captured.removeprefix("error: ").rstrip()

    return check


MADE_BY_STARTING = {"log.txt"}


@pytest.fixture
def folder(config, tmp_path):
    """Copies the training set: train.json and train/."""
    source = Path(config[3]) / "shapes"
    shutil.copytree(source / "train", tmp_path / "set" / "train")
    shutil.copy(source / "annotations/train.json", tmp_path / "set")
    return tmp_path / "set"


def named(folder: Path, key: str = "DATASETS.TRAIN") -> list[str]:
    return [key, f"('coco:{folder / 'train.json'}:{folder / 'train'}',)"]


def edit(folder: Path, change) -> None:
    content = json.loads((folder / "train.json").read_text())
    change(content)
    (folder / "train.json").write_text(json.dumps(content))


def image_file(folder: Path, number: int = 0) -> Path:
    content = json.loads((folder / "train.json").read_text())
    return folder / "train" / content["images"][number]["file_name"]


# --- configuration -----------------------------------------------------------------------------

DCN = ["MODEL.RESNETS.STAGE_WITH_DCN", "(False, False, False, True)"]
DCN += ["MODEL.RESNETS.DEFORMABLE_GROUPS"]

COMMAND_LINE = {
    "flag": (["--skip-tests"], ["command line: ", "--skip-tests", "--help"]),
    "unknown key": (["SOLVER.BASE_LRR", 1], ["SOLVER.BASE_LRR", "the nearest is SOLVER.BASE_LR"]),
    "wrong type": (["SOLVER.MAX_ITER", "many"], ["SOLVER.MAX_ITER", "an integer", "'many'"]),
    "wrong entry": (["SOLVER.STEPS", "('a',)"], ["SOLVER.STEPS", "('a',)"]),
    "no value": (["SOLVER.MAX_ITER"], ["SOLVER.MAX_ITER", "has no value"]),
    "indivisible": (["SOLVER.ACCUMULATE", 3], ["SOLVER.IMS_PER_BATCH 4", "a multiple of 3"]),
    "empty batch": (["TEST.IMS_PER_BATCH", 0], ["TEST.IMS_PER_BATCH 0", "at least 1"]),
    "body": (["MODEL.BACKBONE.CONV_BODY", "VGG"], ["MODEL.BACKBONE.CONV_BODY 'VGG'", "R-"]),
    "rule": (["MODEL.ASSIGNER.NAME", "atsss"], ["MODEL.ASSIGNER.NAME 'atsss'", "dynamic_atss"]),
    "no data": (["DATASETS.TRAIN", "()"], ["DATASETS.TRAIN ()", "coco:train.json:images"]),
    "unknown data": (["DATASETS.TRAIN", "('coco_2017_trian',)"], ["'coco_2017_train'"]),
    "absent data": (["DATASETS.TRAIN", "('coco_2017_train',)"], ["DATASETS.ROOT"]),
    "half a name": (["DATASETS.TEST", "('coco:a.json',)"], ["coco:<annotations.json>:<image"]),
    "no head": (
        ["MODEL.ATSS_ON", "False"],
        ["no head is switched on", "MODEL.ATSS_ON", "MODEL.DSLA_ON True"],
    ),
    "seed": (["SEED", -1], ["SEED -1", "at least 0"]),
    "momentum": (["SOLVER.MOMENTUM", -1], ["SOLVER.MOMENTUM -1.0", "at least 0"]),
    "groups": ([*DCN, 7], ["the 64 channels", "layer4", "7 deformable groups"]),
    "wanted": (
        ["TEST.EXPECTED_RESULTS", "[['bbox', 'AP', 'x', 0.1]]"],
        ["TEST.EXPECTED_RESULTS ['bbox', 'AP', 'x', 0.1]", "AP50"],
    ),
    "classes": (["MODEL.ATSS.NUM_CLASSES", 21], ["NUM_CLASSES 21", "set 7"]),
}


@pytest.mark.parametrize("case", COMMAND_LINE)
def test_command_line(refused, case):
    args, texts = COMMAND_LINE[case]
    line = refused("train_net", *args)
    assert all(text in line for text in texts), line


def test_missing_and_broken_config_files(refused, tmp_path):
    assert "nowhere.yaml" in refused("train_net", "--config-file", tmp_path / "nowhere.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("MODEL: [\n")
    assert "broken.yaml: not a YAML file" in refused("test_net", "--config-file", broken)
    broken.write_text("SOLVER:\n  MAX_ITERS: 7\n")
    line = refused("train_net", "--config-file", broken)
    assert "broken.yaml: unknown key SOLVER.MAX_ITERS; the nearest is SOLVER.MAX_ITER" in line


def test_output_folder_that_cannot_be_made(refused, tmp_path):
    (tmp_path / "file").write_text("")
    line = refused("train_net", "OUTPUT_DIR", tmp_path / "file" / "run")
    assert line.startswith(f"OUTPUT_DIR {tmp_path / 'file' / 'run'}: cannot be made")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--config-file", "nowhere.yaml"], "nowhere.yaml"),
        (["SOLVER.BASE_LRR", "1"], "the nearest is SOLVER.BASE_LR"),
    ],
)
def test_mistakes_in_a_new_process(config, tmp_path, args, message):
    ended = run_tool("train_net", [*config, "OUTPUT_DIR", tmp_path / "out", *args])
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ") and message in line
    assert not (tmp_path / "out").exists()


# --- weights -----------------------------------------------------------------------------------


def test_missing_weights(refused, tmp_path):
    for tool in ("train_net", "test_net"):
        assert "gone.pth" in refused(tool, "MODEL.WEIGHT", tmp_path / "gone.pth")
    assert "nearest: catalog://" in refused("train_net", "MODEL.WEIGHT", "catalog://MSRA/R-50")


def test_nothing_to_test(refused):
    line = refused("test_net")
    assert line.startswith("MODEL.WEIGHT: nothing to test")


@pytest.mark.parametrize("tool", ["train_net", "test_net"])
def test_truncated_weights(refused, weights, tmp_path, tool):
    cut = tmp_path / "cut.pth"
    data = weights.read_bytes()
    for length in (0, 100, len(data) // 2, len(data) - 10):
        cut.write_bytes(data[:length])
        assert str(cut) in refused(tool, "MODEL.WEIGHT", cut)


def test_weights_of_another_architecture(refused, weights):
    line = refused("train_net", "MODEL.WEIGHT", weights, "MODEL.ATSS.NUM_CONVS", 2)
    assert str(weights) in line and "wrong architecture" in line
    line = refused("test_net", "MODEL.WEIGHT", weights, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64)
    assert str(weights) in line and "wrong architecture" in line


@pytest.mark.parametrize("suffix", ["pth", "pkl"])
def test_a_hostile_pickle_is_not_run(refused, tmp_path, suffix):
    trace = tmp_path / "trace"
    path = tmp_path / f"evil.{suffix}"
    if suffix == "pth":
        torch.save({"model": {"a": Evil(trace)}}, path)
    else:
        path.write_bytes(pickle.dumps({"blobs": {"conv1_w": Evil(trace)}}))
    line = refused("train_net", "MODEL.WEIGHT", path)
    assert str(path) in line and "posix.system" in line
    assert not trace.exists()


@pytest.mark.slow
def test_a_damaged_checkpoint_is_logged_and_the_one_before_it_is_resumed(
    config, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "run"
    args = [*config, "OUTPUT_DIR", out, "--skip-test"]
    assert call_tool(monkeypatch, "train_net", args) == 0
    path = out / "model_final.pth"
    path.write_bytes(path.read_bytes()[:1000])
    capsys.readouterr()
    assert call_tool(monkeypatch, "train_net", [*args, "--resume"]) == 0
    log = (out / "log.txt").read_text().splitlines()
    (line,) = [n for n in log if "truncated or damaged" in n]
    assert str(path) in line and "truncated or damaged" in line and "model_0000004.pth" in line


# --- annotations -------------------------------------------------------------------------------


def test_missing_annotations_and_images(refused, folder):
    image_file(folder).unlink()
    line = refused("train_net", *named(folder))
    assert "no such image (1 of the 16" in line
    shutil.rmtree(folder / "train")
    assert "no such image folder" in refused("train_net", *named(folder))
    (folder / "train.json").unlink()
    assert "no such JSON file" in refused(
        "test_net", *named(folder, "DATASETS.TEST"), "MODEL.WEIGHT", "x"
    )


def test_a_mistake_leaves_no_empty_folder(refused, folder, tmp_path):
    """The folder of a run is removed again only if this run made it and wrote nothing."""
    (folder / "train.json").write_text("{")
    out = tmp_path / "out"
    refused("train_net", *named(folder))
    assert not out.exists()
    out.mkdir()
    refused("train_net", *named(folder))
    assert out.is_dir()


def test_broken_json(refused, folder):
    text = (folder / "train.json").read_text()
    (folder / "train.json").write_text(text[: len(text) // 2])
    line = refused("train_net", *named(folder))
    assert str(folder / "train.json") in line and "broken JSON at line" in line


def unknown_category(content):
    content["annotations"][3]["category_id"] = 99


def unknown_image(content):
    content["annotations"][3]["image_id"] = 12345


def duplicate_annotation(content):
    content["annotations"][3]["id"] = content["annotations"][4]["id"]


def duplicate_image(content):
    content["images"][3]["id"] = content["images"][4]["id"]


def duplicate_category(content):
    content["categories"].append(dict(content["categories"][0]))


def text_in_box(content):
    content["annotations"][3]["bbox"] = [1, 2, "three", 4]


def huge_image_id(content):
    content["images"][3]["id"] = 2**70


def huge_category_id(content):
    content["categories"][0]["id"] = 2**70


def crowd_as_text(content):
    content["annotations"][3]["iscrowd"] = "perhaps"


def no_annotations(content):
    del content["annotations"]


def no_boxes(content):
    content["annotations"] = []


def other_size(content):
    for image in content["images"]:
        image["width"] += 1


ANNOTATIONS = {
    unknown_category: "category_id 99",
    unknown_image: "image_id 12345",
    duplicate_annotation: "occurs 2 times",
    duplicate_image: "occurs 2 times",
    duplicate_category: "occurs 2 times",
    text_in_box: "bbox [1, 2, 'three', 4]",
    huge_image_id: f"the id of image number 3 is {2**70}",
    huge_category_id: f"the id of category number 0 is {2**70}",
    crowd_as_text: "iscrowd 'perhaps' is neither 0 nor 1",
    no_annotations: "no 'annotations'",
    no_boxes: "has a usable box",
}


@pytest.mark.parametrize("change", ANNOTATIONS, ids=lambda change: change.__name__)
def test_annotations(refused, folder, change):
    edit(folder, change)
    line = refused("train_net", *named(folder))
    assert str(folder / "train.json") in line and ANNOTATIONS[change] in line


def test_invalid_boxes_are_dropped_and_counted_and_others_clipped(
    config, folder, tmp_path, monkeypatch
):
    def spoil(content):
        boxes = [[float("nan"), 1, 9, 9], [5, 5, 0, 9], [10**400, 5, 3, 9], [500, 500, 9, 9]]
        boxes += [[float("inf"), 1, 9, 9], [-20, -20, 60, 60], [80, 80, 60, 60]]
        for annotation, box in zip(content["annotations"], boxes, strict=False):
            annotation["bbox"] = box

    edit(folder, spoil)
    out = tmp_path / "run"
    args = [*config, *named(folder), "OUTPUT_DIR", out, "--skip-test", "SOLVER.MAX_ITER", 4]
    assert call_tool(monkeypatch, "train_net", args) == 0
    log = (out / "log.txt").read_text()
    for text in ("Dropped 4 invalid boxes", "Dropped 1 .*outside the image", "Clipped 2 boxes"):
        assert re.search(text, log), text
    assert all(np.isfinite(line["loss"]) for line in read_lines(out))


# --- images ------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
def test_a_truncated_image(config, folder, tmp_path, monkeypatch, capsys, workers):
    for path in (folder / "train").iterdir():
        picture = Image.open(path).convert("RGB")
        picture.save(path, "JPEG")
        path.write_bytes(path.read_bytes()[:-700])
    out = tmp_path / "run"
    args = [*config, *named(folder), "OUTPUT_DIR", out, "DATALOADER.NUM_WORKERS", workers]
    assert call_tool(monkeypatch, "train_net", args) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(folder / "train") in line and "cannot be decoded" in line
    assert not list(out.glob("*.pth"))


def test_a_size_that_differs_from_the_file(config, folder, tmp_path, monkeypatch, capsys):
    edit(folder, other_size)
    args = [*config, *named(folder), "OUTPUT_DIR", tmp_path / "run"]
    assert call_tool(monkeypatch, "train_net", args) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "96 x 96 pixels" in line and "says 97 x 96" in line


def test_grey_rgba_cmyk_palette_and_16_bit_images_train(config, folder, tmp_path, monkeypatch):
    kinds = [("L", "PNG"), ("RGBA", "PNG"), ("CMYK", "JPEG"), ("P", "PNG"), ("I;16", "PNG")]
    paths = sorted((folder / "train").iterdir())
    for path, (mode, form) in zip(paths, kinds * 4, strict=False):
        picture = Image.open(path).convert("RGB")
        if mode == "I;16":
            grey = np.asarray(picture.convert("L")).astype(np.uint16) * 256
            picture = Image.fromarray(grey)
        else:
            picture = picture.convert(mode)
        picture.save(path, form)
    out = tmp_path / "run"
    args = [*config, *named(folder), "OUTPUT_DIR", out, "--skip-test", "SOLVER.MAX_ITER", 4]
    assert call_tool(monkeypatch, "train_net", args) == 0
    assert all(0 < line["loss"] < 100 for line in read_lines(out))


def test_test_set_with_other_categories(refused, folder):
    edit(folder, lambda content: content["categories"][0].update(name="moon"))
    line = refused("train_net", *named(folder, "DATASETS.TEST"))
    assert f"{folder / 'train.json'}: the model has no class 'moon': it has 'circle', " in line
    assert "correct the name" in line


def test_a_batch_that_does_not_divide_is_refused_before_a_data_set_is_opened(refused):
    """The data set does not exist, so opening it would give another error."""
    data = ["DATASETS.TRAIN", "coco:none.json:none", "SOLVER.ACCUMULATE", 2]
    line = refused("train_net", *data, "SOLVER.IMS_PER_BATCH", 5)
    assert line.startswith("SOLVER.IMS_PER_BATCH 5 does not divide by 1 process(es) x 2 parts")
