"""Trains with TEST.ASYNC: tests are scored by another process while the training continues."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from helpers_run import TORCHRUN, call_tool, load_module, read_lines, run_tool, write_config

from dynamic_atss.evaluation.scores import METRICS, CocoScores
from dynamic_atss.evaluation.scoring_process import ScoringFailedError, ScoringProcess
from dynamic_atss.run import tester
from dynamic_atss.run.records import Records

pytestmark = pytest.mark.slow

kill_and_resume = load_module("benchmarks/kill_and_resume.py")

ASYNC = ["TEST.ASYNC", "True"]
TESTS = ["TEST.PERIOD", 2, "TEST.BEST_METRIC", "AP", "SOLVER.MAX_ITER", 12]
TESTS += ["SOLVER.CHECKPOINT_PERIOD", 3, "SOLVER.KEEP_CHECKPOINTS", 1, "SOLVER.LOG_PERIOD", 1]
APS = {2: 0.1, 4: 0.4, 6: 0.2, 8: 0.3, 10: 0.1, 12: 0.2}  # by the iteration of the test


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def train(config, monkeypatch):
    return lambda out, *args: call_tool(
        monkeypatch, "train_net", [*config, "OUTPUT_DIR", out, *args]
    )


@pytest.fixture
def scripted(monkeypatch):
    """Replaces AP, which is 0 in so short runs, by APS. Everything else is as it is computed."""
    real = tester._scores

    def scores(scoring):
        assert real(scoring).metrics["AP"] < 0.1
        name = scoring.task.folder.name
        value = APS[int(name) if name.isdigit() else max(APS)]
        return CocoScores(dict.fromkeys(METRICS, value), {})

    monkeypatch.setattr(tester, "_scores", scores)


class Slow(ScoringProcess):
    """Claims to run until somebody waits for it. Notes what happens."""

    events: ClassVar = []

    def __init__(self, task):
        self.name = task.folder.name
        self.events.append(("begun", self.name))
        super().__init__(task)

    def done(self):
        return False

    def wait(self, seconds=None):
        if seconds <= tester._SHORT:
            return False
        super().wait(seconds)
        return True

    def ready(self):
        return False

    def result(self):
        self.events.append(("taken", self.name))
        return super().result()


@pytest.fixture
def slow(monkeypatch):
    """Scores as slowly as possible, and gives the list of events, of which saving is one."""
    Slow.events = []
    monkeypatch.setattr(tester, "ScoringProcess", Slow)
    save = Records.save

    def noted(self, iteration):
        Slow.events.append(("asked to save", iteration))
        save(self, iteration)

    monkeypatch.setattr(Records, "save", noted)
    return Slow.events


def load(path):
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("patience", [0, 2])
def test_the_run_is_the_same_as_without_it(train, tmp_path, scripted, patience):
    keys = [*TESTS, "TEST.PATIENCE", patience]
    assert train(tmp_path / "sync", *keys) == train(tmp_path / "async", *keys, *ASYNC) == 0
    assert kill_and_resume.differences(tmp_path / "sync", tmp_path / "async") == []
    names = [sorted(p.name for p in (tmp_path / x).glob("*.pth")) for x in ("sync", "async")]
    assert names[0] == names[1]
    best = load(tmp_path / "async/model_best.pth")
    assert best["iteration"] == 4
    last = load(tmp_path / "async/model_final.pth")
    assert last["best"] == load(tmp_path / "sync/model_final.pth")["best"]
    assert last["iteration"] == (8 if patience else 12)


def test_scores_count_before_the_next_checkpoint(train, tmp_path, slow):
    assert train(tmp_path, *TESTS, *ASYNC) == 0
    assert slow[:8] == [
        ("asked to save", 2),
        ("begun", "0000002"),
        ("asked to save", 3),
        ("taken", "0000002"),
        ("asked to save", 4),
        ("begun", "0000004"),
        ("asked to save", 6),
        ("taken", "0000004"),
    ]
    assert ("begun", "shapes_val") not in slow  # the last test is waited for
    log = (tmp_path / "log.txt").read_text()
    assert "waits for the scores of iteration 2" in log and " s for them" in log


def test_scores_are_logged_and_written_as_soon_as_they_are_ready(train, tmp_path, monkeypatch):
    """Without a checkpoint between the tests. A line of the log is written at each iteration."""

    class Finished(ScoringProcess):
        def __init__(self, task):
            super().__init__(task)
            self.wait()

    monkeypatch.setattr(tester, "ScoringProcess", Finished)
    keys = ["TEST.PERIOD", 3, "SOLVER.MAX_ITER", 8, "SOLVER.CHECKPOINT_PERIOD", 100]
    assert train(tmp_path, *keys, *ASYNC, "SOLVER.LOG_PERIOD", 1) == 0
    lines = [(x["iteration"], "dataset" in x) for x in read_lines(tmp_path)]
    assert lines[2:6] == [(3, False), (4, False), (3, True), (5, False)]
    assert "waits for" not in (tmp_path / "log.txt").read_text()


def test_a_test_that_may_end_the_run_is_waited_for(train, tmp_path, slow):
    """AP is always 0, so only the first test is better than all before it."""
    keys = [*TESTS, "TEST.PATIENCE", 2, "SOLVER.CHECKPOINT_PERIOD", 100]
    assert train(tmp_path, *keys, *ASYNC) == 0
    begun = [name for event, name in slow if event == "begun"]
    assert begun == ["0000002", "0000004"]  # no process for the third test
    assert load(tmp_path / "model_final.pth")["iteration"] == 6


class Killed(ScoringProcess):
    """Is killed before it has a result, for example because the memory is full."""

    def __init__(self, task):
        super().__init__(task)
        os.kill(self._process.pid, signal.SIGKILL)


class Missing(ScoringProcess):
    def __init__(self, task):
        raise ScoringFailedError("it cannot be started: Cannot allocate memory")


@pytest.mark.parametrize(
    ("kind", "reason"), [(Killed, "SIGKILL ended it"), (Missing, "cannot be started: Cannot")]
)
def test_without_the_process_the_training_scores(train, tmp_path, monkeypatch, kind, reason):
    keys = ["TEST.PERIOD", 2, "TEST.BEST_METRIC", "AP", "SOLVER.MAX_ITER", 4]
    assert train(tmp_path / "sync", *keys) == 0
    monkeypatch.setattr(tester, "ScoringProcess", kind)
    assert train(tmp_path / "async", *keys, *ASYNC) == 0
    assert kill_and_resume.differences(tmp_path / "sync", tmp_path / "async") == []
    log = (tmp_path / "async/log.txt").read_text()
    assert log.count("TEST.ASYNC: the process that computes the scores failed") == 1
    assert reason in log and "the training waits for it" in log


def test_a_mistake_in_the_scoring_ends_the_run_in_one_line(train, tmp_path, monkeypatch, capsys):
    """As without TEST.ASYNC: the test is not lost, because it is repeated."""
    detect = tester.Tester._detect

    def with_wrong_category(self, *args):
        task = detect(self, *args)
        row = np.array([[task.image_ids[0], 5, 5, 20, 20, 0.5, 99]], float)
        return replace(task, table=row)

    monkeypatch.setattr(tester.Tester, "_detect", with_wrong_category)
    assert train(tmp_path, *TESTS, *ASYNC) == 2
    errors = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert len(errors) == 1 and "category 99 is not in" in errors[0]
    assert "--resume continues from model_0000002.pth" in errors[0]


def test_an_error_of_the_training_ends_the_scoring(train, tmp_path, monkeypatch, slow):
    closed = []
    monkeypatch.setattr(Slow, "close", lambda self: closed.append(ScoringProcess.close(self)))
    monkeypatch.setattr(
        Records, "log", lambda self, line: 1 / 0 if line["iteration"] == 5 else None
    )
    keys = ["TEST.PERIOD", 4, "SOLVER.LOG_PERIOD", 1, "SOLVER.CHECKPOINT_PERIOD", 100]
    assert train(tmp_path, *keys, *ASYNC) != 0
    assert len(closed) == 1
    assert "scores of iteration 4 do not count: --resume" in (tmp_path / "log.txt").read_text()


class Hung(Slow):
    """Never ends by itself, as a process that was stopped."""

    def wait(self, seconds=None):
        return False


def test_a_process_that_does_not_end_is_given_up(train, tmp_path, monkeypatch):
    keys = ["TEST.PERIOD", 2, "TEST.BEST_METRIC", "AP", "SOLVER.MAX_ITER", 4]
    assert train(tmp_path / "sync", *keys) == 0
    monkeypatch.setattr(tester, "ScoringProcess", Hung)
    assert train(tmp_path / "async", *keys, *ASYNC) == 0
    assert kill_and_resume.differences(tmp_path / "sync", tmp_path / "async") == []
    log = (tmp_path / "async/log.txt").read_text()
    assert "it did not end within 600 s (SOLVER.TIMEOUT)" in log and "in this process" in log


@pytest.fixture
def signalled(monkeypatch):
    """Sends SIGTERM to the training in the iteration after the first test, until it is called."""
    log = Records.log

    def send(self, line):
        log(self, line)
        if line["iteration"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Records, "log", send)
    return lambda: monkeypatch.setattr(Records, "log", log)


def test_a_signal_waits_for_the_scores_and_saves_them(train, tmp_path, slow, signalled):
    keys = [*TESTS, "SOLVER.CHECKPOINT_PERIOD", 100]
    assert train(tmp_path, *keys, *ASYNC) == 128 + signal.SIGTERM
    assert slow[-2:] == [("asked to save", 4), ("taken", "0000002")]
    saved = load(tmp_path / (tmp_path / "last_checkpoint").read_text())
    assert saved["iteration"] == 4 and saved["best"]["tested"] == 2


def test_a_signal_does_not_wait_long(train, tmp_path, monkeypatch, slow, signalled):
    """A launcher would kill the run. The test and the iterations after it are repeated."""
    assert train(tmp_path / "whole", *TESTS) == 128 + signal.SIGTERM
    assert train(tmp_path / "whole", *TESTS, "--resume") == 0
    monkeypatch.setattr(tester, "ScoringProcess", Hung)
    out, keys = tmp_path / "run", [*TESTS, "SOLVER.CHECKPOINT_PERIOD", 100]
    assert train(out, *keys, *ASYNC) == 128 + signal.SIGTERM
    assert (out / "last_checkpoint").read_text() == "model_0000002.pth"
    log = (out / "log.txt").read_text()
    assert "scores of iteration 2 are not ready after 15 s: no later iteration is saved" in log
    assert "iteration 2 is saved in" in log
    monkeypatch.setattr(tester, "ScoringProcess", ScoringProcess)
    signalled()
    assert train(out, *keys, *ASYNC, "--resume") == 0
    assert kill_and_resume.differences(tmp_path / "whole", out) == []


def test_a_run_that_was_killed_before_the_scores_repeats_the_test(
    train, tmp_path, monkeypatch, slow
):
    """The newest checkpoint is the one of the test, as the scores come before the next one."""
    assert train(tmp_path / "whole", *TESTS) == 0
    with monkeypatch.context() as patch:
        patch.setattr(Slow, "result", lambda self: 1 / 0)
        assert train(tmp_path / "run", *TESTS, *ASYNC) != 0
    out = Path(tmp_path / "run")
    assert (out / "last_checkpoint").read_text() == "model_0000002.pth"
    assert train(out, *TESTS, *ASYNC, "--resume") == 0
    assert kill_and_resume.differences(tmp_path / "whole", out) == []


def test_two_processes(config, tmp_path):
    for name, more in {"sync": [], "async": ASYNC}.items():
        done = run_tool(
            "train_net", [*config, "OUTPUT_DIR", tmp_path / name, *TESTS, *more], TORCHRUN
        )
        assert done.returncode == 0, done.stderr
    assert kill_and_resume.differences(tmp_path / "sync", tmp_path / "async") == []
    best = [load(tmp_path / name / "model_best.pth") for name in ("sync", "async")]
    assert best[0]["iteration"] == best[1]["iteration"]


def test_without_tests_in_the_training_it_is_said_to_have_no_effect(train, tmp_path):
    assert train(tmp_path, "SOLVER.MAX_ITER", 2, *ASYNC) == 0
    assert "TEST.ASYNC True has no effect" in (tmp_path / "log.txt").read_text()
