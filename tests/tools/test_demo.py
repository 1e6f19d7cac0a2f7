"""Tests the demo with two iterations of a tiny network on tiny images."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TINY = """
MODEL.RESNETS.STEM_OUT_CHANNELS 8 MODEL.RESNETS.RES2_OUT_CHANNELS 32
MODEL.RESNETS.BACKBONE_OUT_CHANNELS 32 MODEL.ATSS.NUM_CONVS 1 INPUT.MIN_SIZE_TRAIN (64,)
INPUT.MAX_SIZE_TRAIN 64 INPUT.MIN_SIZE_TEST 64 INPUT.MAX_SIZE_TEST 64 SOLVER.IMS_PER_BATCH 2
SOLVER.MAX_ITER 2 SOLVER.LOG_PERIOD 1 DATALOADER.NUM_WORKERS 0
""".split()


def test_the_expected_scores_are_those_of_the_benchmarks() -> None:
    demo = runpy.run_path(str(ROOT / "tools/demo.py"))
    table = (ROOT / "docs/benchmarks.md").read_text()
    for _, (low, high) in (demo["PRETRAINED"], demo["SCRATCH"]):
        assert f"AP {low} to {high} " in table


def test_the_demo_writes_scores_pictures_and_a_loss_plot(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools/demo.py"), "--output", str(tmp_path), *TINY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "run/inference/shapes_val/coco_metrics.json").read_text())
    assert 0 <= scores["AP"] <= 1
    *lines, last = done.stdout.splitlines()[-5:]
    # A demo with other settings does not name the AP that is expected of the usual ones.
    assert re.fullmatch(r"AP: +(\S+)", last).group(1) == f"{scores['AP']:.3f}"
    printed = [Path(line.split(": ")[1].strip()) for line in lines]
    assert all(path.exists() for path in printed)
    overview, losses = (cv2.imread(str(path)) for path in printed[:2])
    assert min(overview.shape[:2]) > 500 and losses.std() > 1
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 13
    # A stopped demo prints the same command with --resume.
    again = subprocess.run([*command, "--resume"], capture_output=True, text=True, timeout=300)
    assert again.returncode == 0 and "Resuming from " in again.stdout
