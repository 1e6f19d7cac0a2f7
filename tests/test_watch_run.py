"""Tests that pictures of the assignment and Weights & Biases change no number of a run."""

import sys

import pytest
from helpers_run import call_tool, load_module, read_lines, write_config
from helpers_wandb import Wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dynamic_atss.viz import assignment

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]
kill_and_resume = load_module("benchmarks/kill_and_resume.py")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def train(config, monkeypatch):
    return lambda out, *args: call_tool(
        monkeypatch, "train_net", [*config, "OUTPUT_DIR", out, "SOLVER.LOG_PERIOD", 1, *args]
    )


@pytest.fixture(scope="module")
def plain(config, tmp_path_factory):
    """Makes a run without pictures."""
    out = tmp_path_factory.mktemp("plain")
    args = [*config, "OUTPUT_DIR", out, "SOLVER.LOG_PERIOD", 1, "SOLVER.PICTURE_PERIOD", 0]
    with pytest.MonkeyPatch.context() as patch:
        assert call_tool(patch, "train_net", args) == 0
    return out


def images(out):
    events = EventAccumulator(str(out), {"images": 0}).Reload()
    tags = [tag for tag in events.Tags()["images"] if tag.startswith("assignment/")]
    return {tag: [image.step for image in events.Images(tag)] for tag in tags}


@pytest.mark.parametrize("rule", ["dynamic_atss", "max_iou", "paa"])
def test_a_run_with_pictures_is_bitwise_the_same(train, tmp_path, rule):
    other = tmp_path / "plain"
    settings = ["MODEL.ASSIGNER.NAME", rule, "--skip-test"]
    assert train(other, *settings, "SOLVER.PICTURE_PERIOD", 0) == 0
    assert train(tmp_path / "run", *settings, "SOLVER.PICTURE_PERIOD", 3) == 0
    assert images(tmp_path / "run") == {f"assignment/image{n}": [1, 3, 6] for n in range(4)}
    assert images(other) == {}
    # The checkpoints hold their configuration, too.
    found = kill_and_resume.differences(other, tmp_path / "run")
    assert set(found) <= {"model_final.pth['config']"}


def test_a_picture_that_fails_does_not_end_the_run(plain, train, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ValueError("no\nfont")

    monkeypatch.setattr(assignment, "draw_assignment", fail)
    assert train(tmp_path, "SOLVER.PICTURE_PERIOD", 3) == 0
    assert (tmp_path / "log.txt").read_text().count("the assignment is not drawn: no font") == 3
    assert read_lines(tmp_path) == read_lines(plain)


def test_a_run_on_weights_and_biases_and_its_resume(plain, train, tmp_path, monkeypatch):
    wandb = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    project = ["WANDB.PROJECT", "mine", "SOLVER.PICTURE_PERIOD", 2]
    assert train(tmp_path, *project, "SOLVER.MAX_ITER", 4, "--skip-test") == 0
    assert train(tmp_path, *project, "--resume") == 0
    first, second = wandb.runs
    assert [run.finished for run in wandb.runs] == [1, 1] and first.id == second.id
    steps = [step for run in wandb.runs for step, values in run.logged if "train/loss" in values]
    assert steps == [1, 2, 3, 4, 5, 6]
    logged = {name for _, values in second.logged for name in values}
    assert {"eval/shapes_val/AP", "assignment/image0"} < logged
    assert any(name.startswith("assignment/positives_per_box/") for name in logged)
    assert second.keys["WANDB.PROJECT"] == "mine"


def test_without_the_package_the_run_does_not_start(train, tmp_path, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert train(tmp_path / "run", "WANDB.PROJECT", "mine") == 2
    error = capsys.readouterr().err
    assert "pip install 'dynamic_atss[wandb]'" in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()
