"""Tests a run on Weights & Biases. A module of the tests replaces the package."""

import sys

import pytest
import torch
from helpers_wandb import Wandb

from dynamic_atss.engine.metrics import MetricsWriter
from dynamic_atss.engine.wandb_run import ID_FILE, WandbRun, check_wandb
from dynamic_atss.errors import UserError
from dynamic_atss.evaluation.scores import METRICS, CocoScores

pytestmark = pytest.mark.slow


@pytest.fixture
def wandb(monkeypatch):
    module = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def writer(folder, start=0):
    return MetricsWriter(folder, start, tensorboard=False, boards=[WandbRun(folder, "mine")])


def test_numbers_pictures_and_keys_go_there(wandb, tmp_path):
    scores = CocoScores({**dict.fromkeys(METRICS, 0.5), "APs": -1.0}, {"cell": 0.25})
    with writer(tmp_path / "run7") as metrics:
        assert metrics.draws
        metrics.write_run("Training\n  head  ATSS", "SEED: 7", {"SEED": 7}, ["bccd"])
        metrics.write(20, {"loss": torch.tensor(0.5), "lr": 0.1, "note": "text"})
        metrics.write_evaluation(20, "bccd", scores)
        metrics.write_pictures(20, "assignment", {"0": torch.zeros(3, 30, 40).byte()})
    [run], [settings] = wandb.runs, wandb.init_calls
    assert (settings["project"], settings["name"], settings["id"]) == ("mine", "run7", None)
    assert settings["dir"] == str(tmp_path / "run7") and run.finished == 1
    assert run.keys == {"SEED": 7} and run.summary["run"] == "Training\n  head  ATSS"
    assert {step for step, _ in run.logged} == {20}
    logged = {name: value for _, values in run.logged for name, value in values.items()}
    assert logged["train/loss"] == 0.5 and logged["eval/bccd/AP"] == 0.5
    assert logged["assignment/0"] == ((30, 40, 3), "jpg")
    assert not {"metrics/note", "eval/bccd/APs"} & set(logged)


def test_scores_that_come_later_than_other_numbers(wandb, tmp_path):
    """Steps can only grow there, so the scores have another axis."""
    with writer(tmp_path) as metrics:
        for iteration in (20, 40):
            metrics.write(iteration, {"loss": 1.0})
        metrics.write_evaluation(20, "bccd", CocoScores({"AP": 0.5}, {}))
        metrics.write_pictures(20, "pictures/bccd", {"0": torch.zeros(3, 30, 40).byte()})
        metrics.write(60, {"loss": 1.0})
    [run] = wandb.runs
    assert run.axes == {"eval*": "tested_iteration"}
    assert [step for step, _ in run.logged] == [20, 40, 40, 40, 60]
    scores = [values for _, values in run.logged if "tested_iteration" in values]
    assert scores[0] == {"eval/bccd/AP": 0.5, "tested_iteration": 20}
    assert scores[1]["tested_iteration"] == 20 and "pictures/bccd/0" in scores[1]


def test_scores_that_a_killed_run_did_not_add(wandb, tmp_path):
    """The resumed run repeats the test, but not the iterations that are there already."""
    with writer(tmp_path) as metrics:
        for iteration in (100, 120):
            metrics.write(iteration, {"loss": 1.0})
    with writer(tmp_path, start=100) as metrics:
        metrics.write_evaluation(100, "bccd", CocoScores({"AP": 0.5}, {}))
        for iteration in (120, 140):
            metrics.write(iteration, {"loss": 1.0})
    steps, entries = zip(*wandb.runs[1].logged, strict=True)
    assert steps == (121, 140)
    assert entries[0] == {"eval/bccd/AP": 0.5, "tested_iteration": 100}


def test_a_resumed_run_continues_there(wandb, tmp_path):
    """Repeated iterations are not added again, as steps can only grow there."""
    with writer(tmp_path) as metrics:
        for iteration in (2, 4, 6):
            metrics.write(iteration, {"loss": 1.0})
    with writer(tmp_path, start=4) as metrics:
        for iteration in (6, 8):
            metrics.write(iteration, {"loss": 1.0})
    assert (tmp_path / ID_FILE).read_text() == "abc123"
    assert [(x["id"], x["resume"]) for x in wandb.init_calls] == [(None, None), ("abc123", "allow")]
    assert [[step for step, _ in run.logged] for run in wandb.runs] == [[2, 4, 6], [8]]


def test_a_run_that_goes_back_stays_open(wandb, tmp_path):
    with writer(tmp_path) as metrics:
        metrics.write(4, {"loss": 1.0})
        metrics.rewind(2)
        metrics.write(6, {"loss": 1.0})
    [run] = wandb.runs
    assert [step for step, _ in run.logged] == [4, 6] and run.finished == 1


def test_a_refusal_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", Wandb(refuses="no API key\nconfigured"))
    with pytest.raises(UserError) as caught:
        WandbRun(tmp_path, "mine")
    message = str(caught.value)
    assert message.startswith("WANDB.PROJECT 'mine': no API key configured; ")
    assert "WANDB_MODE=offline" in message and not (tmp_path / ID_FILE).exists()


def test_without_the_package_the_project_is_refused(monkeypatch):
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    check_wandb("")
    with pytest.raises(
        UserError, match=r"WANDB.PROJECT 'mine': .*pip install 'dynamic_atss\[wandb\]'"
    ):
        check_wandb("mine")
