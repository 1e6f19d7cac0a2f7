"""Scores tests in other processes."""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dynamic_atss.errors import UserError
from dynamic_atss.evaluation.ground_truth import TruthTable
from dynamic_atss.evaluation.scoring_process import ScoringFailedError, ScoringProcess
from dynamic_atss.evaluation.scoring_task import ScoringTask

ROOT = Path(__file__).resolve().parents[2]


def task(folder=None, *, images=3, per_image=1, category=7, seed=0, **more):
    """Makes a task with a box at random in each image, and detections near it."""
    rng = np.random.default_rng(seed)
    count = images * per_image
    ids = np.arange(images).repeat(per_image)
    boxes = rng.uniform(20, 60, (images, 4))
    near = boxes[ids] + rng.normal(0, 3, (count, 4))
    columns = [ids, *near.T, rng.random(count), np.full(count, category)]
    truth = TruthTable(
        source="a.json",
        images=[{"id": i} for i in range(images)],
        categories=[{"id": 7, "name": "cell"}],
        image_ids=np.arange(images),
        category_ids=np.full(images, 7),
        boxes=boxes,
        areas=boxes[:, 2:].prod(1),
        crowd=np.zeros(images, bool),
    )
    return ScoringTask(truth, np.stack(columns, 1), list(range(images)), folder=folder, **more)


@pytest.mark.parametrize("more", [{}, {"voc": True, "max_dets": 300}])
def test_scores_and_detections_are_those_of_this_process(tmp_path, more):
    here, there = (tmp_path / name for name in ("here", "there"))
    scores = task(here, images=20, per_image=4, **more).run()
    scored = ScoringProcess(task(there, images=20, per_image=4, **more)).result()
    assert scored.scores == scores and 0 < scores.metrics["AP"] < 1
    assert (there / "bbox.json").read_bytes() == (here / "bbox.json").read_bytes()


def test_its_log_lines_are_logged_here(caplog):
    scored = ScoringProcess(task(per_image=0)).result()
    assert not caplog.records
    with caplog.at_level(logging.INFO):
        scored.log()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and "no detections" in record.getMessage()
    assert record.name == "dynamic_atss.evaluation.coco"


def test_a_set_without_boxes_has_no_scores(tmp_path):
    empty = task(tmp_path)
    nothing = {"image_ids": [], "category_ids": [], "boxes": np.zeros((0, 4)), "areas": []}
    columns = {name: np.array(x) for name, x in nothing.items()}
    truth = TruthTable("a.json", [{"id": 1}], [], crowd=np.zeros(0, bool), **columns)
    scored = ScoringProcess(ScoringTask(truth, empty.table, [1], folder=tmp_path)).result()
    assert scored.scores is None and (tmp_path / "bbox.json").is_file()


def test_a_mistake_is_raised_here(tmp_path):
    with pytest.raises(UserError, match="category 9 is not in a"):
        ScoringProcess(task(category=9)).result()
    (tmp_path / "file").write_text("")
    with pytest.raises((UserError, ScoringFailedError)):  # as `run` does, or it names the end
        ScoringProcess(task(tmp_path / "file/folder")).result()


def test_an_end_without_a_result_is_named():
    process = ScoringProcess(task())
    process.close()
    assert process.done()
    process = ScoringProcess(task(images=3000, per_image=50))
    process._process.kill()
    with pytest.raises(ScoringFailedError, match="SIGKILL ended it"):
        process.result()


def test_a_program_that_cannot_start_is_named(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(ScoringFailedError, match="cannot be started: No such file"):
        ScoringProcess(task())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="PYTHONSAFEPATH is new in Python 3.11")
def test_files_of_the_current_folder_are_not_run(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    assert ScoringProcess(task()).result().scores is not None


def test_torch_is_not_imported():
    """It would take seconds and hundreds of megabytes at each test."""
    code = "import sys, dynamic_atss.evaluation.scoring_process; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


STARTS = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from test_scoring_process import ScoringProcess, task
process = ScoringProcess(task(images=5000, per_image=100))
print(process._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def exists(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")
def test_it_ends_with_a_killed_training():
    words = [sys.executable, "-c", STARTS, str(Path(__file__).parent)]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    pid, begin = int(done.stdout), time.monotonic()
    assert done.returncode == -9
    while exists(pid):
        assert time.monotonic() - begin < 60
        time.sleep(0.05)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_stop_signals_do_not_end_it(name):
    """The training gets them, too, and needs the scores for its checkpoint."""
    import signal

    process = ScoringProcess(task(images=200, per_image=20))
    process._process.send_signal(getattr(signal, name))
    assert process.result().scores is not None
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert getattr(signal, name) not in blocked
