"""The survey of a run: it stops before the first iteration or logs its findings."""

import json
import math
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers_run import call_tool, write_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def shapes(made, tmp_path):
    """Copies the generated data set under other names, so that tests may damage it."""
    folder = tmp_path / "shapes"
    shutil.copytree(Path(made[3]) / "shapes", folder)
    return folder


@pytest.fixture
def run(made, shapes, tmp_path, monkeypatch, capsys):
    """Returns a function that runs train_net and gives (exit code, stdout, stderr)."""
    monkeypatch.setenv("DYNAMIC_ATSS_CACHE", str(tmp_path / "cache"))

    def call(*opts, tool="train_net"):
        names = [f"coco:{shapes}/annotations/{s}.json:{shapes}/{s}" for s in ("train", "val")]
        sets = ["DATASETS.TRAIN", f"({names[0]!r},)", "DATASETS.TEST", f"({names[1]!r},)"]
        args = [*made[:2], *sets, "OUTPUT_DIR", tmp_path / "run", "SOLVER.MAX_ITER", 1, *opts]
        code = call_tool(monkeypatch, tool, args)
        return code, *capsys.readouterr()

    return call


def change(shapes, split, edit):
    path = shapes / "annotations" / f"{split}.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def spoil(shapes, split, count):
    """Changes the recorded sizes of `count` images of a split."""
    for file in sorted((shapes / split).iterdir())[:count]:
        cv2.imwrite(str(file), np.zeros((40, 50, 3), np.uint8))


def test_a_bad_file_of_the_test_set_stops_the_run_at_once(run, shapes, tmp_path):
    spoil(shapes, "val", 3)
    code, out, error = run()
    assert code == 2 and error.startswith("error: ") and error.count("\n") == 1
    assert "50 x 40 pixels as stored" in error and "(2 other images differ" in error
    assert "iteration" not in out and not list((tmp_path / "run").glob("*.pth"))


def test_files_that_are_no_images_stop_the_run_at_once(run, shapes):
    files = sorted((shapes / "train").iterdir())[:2]
    for file in files:
        file.write_bytes(b"nothing")
    code, _, error = run()
    assert code == 2 and str(files[0]) in error and "2 of 16 images" in error


def test_warnings_are_lines_of_the_log(run, shapes, tmp_path):
    def edit(content):
        for entry in content["annotations"][:3]:
            entry["attributes"] = {"rotation": 12.0}
        content["categories"].append({"id": 99, "name": "none of them"})

    for split in ("train", "val"):
        change(shapes, split, edit)
    code, _, _ = run("TEST.DETECTIONS_PER_IMG", 1, "--skip-test")
    log = (tmp_path / "run/log.txt").read_text().splitlines()
    lines = [line for line in log if "survey: " in line]
    assert code == 0
    assert sum("WARNING survey: " in line and "marked as rotated" in line for line in lines) == 1
    assert sum("WARNING" in line and "'none of them'" in line for line in log) == 1
    assert "findings in 16 images" in lines[-1]  # the test set is left out
    first = next(i for i, line in enumerate(log) if "iteration 1/1" in line)
    assert log.index(lines[-1]) < first


def test_no_findings(run):
    code, out, _ = run("MODEL.ASSIGNER.AT_LEAST_ONE", True)
    lines = [line for line in out.splitlines() if "survey: " in line]
    assert code == 0 and len(lines) == 1 and "survey: no findings in 24 images" in lines[0]


def test_the_survey_can_be_switched_off(run, shapes):
    spoil(shapes, "val", 1)
    code, out, _ = run("DATASETS.SURVEY", False, "--skip-test")
    assert code == 0 and "survey: " not in out


def test_a_test_alone_is_surveyed_too(run, shapes, tmp_path):
    assert run("--skip-test")[0] == 0
    spoil(shapes, "val", 1)
    code, _, error = run("MODEL.WEIGHT", tmp_path / "run/model_final.pth", tool="test_net")
    assert code == 2 and "says 96 x 96: correct width and height" in error


def test_a_rule_of_the_user_is_not_called_and_a_line_says_so(run, tmp_path):
    (tmp_path / "own.py").write_text(
        "from dynamic_atss.assigners.rules.atss import ATSS\nclass Own(ATSS): ...\n"
    )
    code, out, _ = run("MODEL.ASSIGNER.NAME", f"{tmp_path}/own.py:Own")
    (line,) = (line for line in out.splitlines() if "survey: MODEL.ASSIGNER.NAME" in line)
    assert code == 0 and "own.py:Own: the survey does not call a rule of your own" in line
    assert "survey: 1 finding in" in out


def test_a_warm_up_that_does_not_end(run, tmp_path):
    _, out, _ = run("SOLVER.MAX_ITER", 2, "SOLVER.WARMUP_ITERS", 4, "SOLVER.WARMUP_FACTOR", 0.5)
    (line,) = (line for line in out.splitlines() if "WARNING SOLVER.WARMUP_ITERS 4: " in line)
    assert "(SOLVER.MAX_ITER 2): the learning rate reaches only 62.5 % of SOLVER.BASE_LR" in line
    shorter = ("SOLVER.MAX_ITER", 2, "SOLVER.WARMUP_ITERS", 1)
    code, out, _ = run(*shorter, "OUTPUT_DIR", tmp_path / "shorter")
    assert code == 0 and "iteration 2/2" in out and "WARNING SOLVER.WARMUP_ITERS" not in out


def test_the_largest_rate_of_a_warm_up_that_does_not_end(run):
    """The cosine lowers the rate before the warm-up ends."""
    more = ("SOLVER.SCHEDULE", "cosine", "SOLVER.WARMUP_FACTOR", 0.5)
    _, out, _ = run("SOLVER.MAX_ITER", 4, "SOLVER.WARMUP_ITERS", 4, *more)
    rates = [(0.5 + i / 8) * (1 + math.cos(math.pi * i / 4)) / 2 for i in range(4)]
    assert f"the learning rate reaches only {100 * max(rates):.3g} % of SOLVER.BASE_LR" in out
