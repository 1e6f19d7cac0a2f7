"""Tests `test_net.py --report` and --report-only."""

import importlib.util
import json

import pytest
from helpers_run import call_tool, write_config

pytestmark = pytest.mark.slow

LOW = ["MODEL.ATSS.INFERENCE_TH", 0.001]  # gives detections without training


@pytest.fixture(scope="module")
def tested_run(tmp_path_factory):
    """Gives the arguments and the results' folder of a tiny run, tested with --report."""
    folder = tmp_path_factory.mktemp("run")
    args = [*write_config(folder), "OUTPUT_DIR", folder / "out", *LOW]
    with pytest.MonkeyPatch.context() as patch:
        assert call_tool(patch, "train_net", [*args, "--skip-test"]) == 0
        assert call_tool(patch, "test_net", [*args, "--report"]) == 0
    return args, folder / "out/inference/shapes_val"


def test_report_is_in_the_folder_of_the_scores_and_has_their_numbers(tested_run):
    _, folder = tested_run
    numbers = json.loads((folder / "report.json").read_text())
    assert numbers["coco"] == json.loads((folder / "coco_metrics.json").read_text())
    assert numbers["detections"] == len(json.loads((folder / "bbox.json").read_text())) > 100
    assert numbers["images"] == 8 and numbers["data_set"] == "shapes_val"
    assert (folder / "report.html").read_text().startswith("<!doctype html>")


def test_report_only_needs_no_model(tested_run, monkeypatch):
    args, folder = tested_run
    files = {name: (folder / name).read_text() for name in ("report.html", "report.json")}
    scores = (folder / "coco_metrics.json").stat().st_mtime_ns
    for name in files:
        (folder / name).unlink()
    gone = [path.rename(path.with_suffix(".gone")) for path in folder.parents[1].glob("*.pth")]
    assert call_tool(monkeypatch, "test_net", [*args, "--report-only"]) == 0
    for path in gone:
        path.rename(path.with_suffix(".pth"))
    assert {name: (folder / name).read_text() for name in files} == files
    assert (folder / "coco_metrics.json").stat().st_mtime_ns == scores


def test_mistakes_are_reported_in_a_line(tested_run, tmp_path, monkeypatch, capsys):
    args, _ = tested_run
    other = [*args, "OUTPUT_DIR", tmp_path]
    assert call_tool(monkeypatch, "test_net", [*other, "--report-only"]) == 2
    assert "bbox.json: does not exist; test the model first" in capsys.readouterr().err
    missing = [*args, "OUTPUT_DIR", tmp_path / "none"]
    assert call_tool(monkeypatch, "test_net", [*missing, "--report-only"]) == 2
    assert "is no folder: name the folder of the tested run" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_missing_hotcoco_is_reported_before_the_test(tested_run, monkeypatch, capsys):
    args, folder = tested_run
    find, before = importlib.util.find_spec, (folder / "bbox.json").stat().st_mtime_ns

    def without(name, *more):
        return None if name == "hotcoco" else find(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    assert call_tool(monkeypatch, "test_net", [*args, "--report"]) == 2
    assert "--report needs a package that is missing: pip install" in capsys.readouterr().err
    assert (folder / "bbox.json").stat().st_mtime_ns == before
