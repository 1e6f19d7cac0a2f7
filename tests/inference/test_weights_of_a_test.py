"""`dynamic-atss test --weights`: a run's folder or a file is enough."""

import shutil

import pytest
from helpers_run import call_tool

BOXES = "inference/shapes_val/bbox.json"


@pytest.fixture
def run_copy(run, tmp_path):
    """Copies the run without its detections."""
    copy = shutil.copytree(run, tmp_path / "copy")
    shutil.rmtree(copy / "inference")
    return copy


def test_of_a_folder_that_gets_the_results(run, run_copy, monkeypatch):
    """The folder may have moved since the training."""
    assert call_tool(monkeypatch, "test_net", ["--weights", run_copy]) == 0
    assert (run_copy / BOXES).read_text() == (run / BOXES).read_text()


def test_of_a_file_alone(run, run_copy, tmp_path, monkeypatch):
    alone = shutil.copy(run_copy / "model_final.pth", tmp_path / "alone.pth")
    args = ["--weights", alone, "OUTPUT_DIR", tmp_path / "out"]
    assert call_tool(monkeypatch, "test_net", args) == 0
    assert (tmp_path / "out" / BOXES).read_text() == (run / BOXES).read_text()


def test_an_earlier_checkpoint_is_the_one_that_is_tested(run, tmp_path, monkeypatch):
    """The test uses the given checkpoint, not the newest of its folder."""
    args = ["--weights", run / "model_0000002.pth", "OUTPUT_DIR", tmp_path / "out"]
    assert call_tool(monkeypatch, "test_net", args) == 0
    assert (tmp_path / "out" / BOXES).read_text() != (run / BOXES).read_text()


def test_code_of_the_configuration_needs_allow_code(run, run_copy, tmp_path, monkeypatch, capsys):
    """This is as with its config.yaml."""
    (tmp_path / "rule.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Rule: ...\n")
    config = (run_copy / "config.yaml").read_text()
    edited = tmp_path / "edited.yaml"
    edited.write_text(config.replace("NAME: ''", f"NAME: {tmp_path}/rule.py:Rule", 1))
    args = ["--weights", run_copy, "--config-file", edited]
    assert call_tool(monkeypatch, "test_net", args) == 2
    error = capsys.readouterr().err
    assert "--allow-code" in error and error.count("\n") == 1 and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["nowhere", "nowhere.pth"])
def test_no_such_weights(tmp_path, monkeypatch, capsys, name):
    assert call_tool(monkeypatch, "test_net", ["--weights", tmp_path / name]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / name}: no such") and error.count("\n") == 1
