"""Tests a run with MODEL.ONE_TO_ONE, and all commands with it.

The commands are test, resume, predict, export and inspect.
"""

import json
import re
import shutil

import pytest
import torch
from helpers_run import call_tool, load_module, read_lines, write_config

from dynamic_atss.engine.checkpoint import load_checkpoint

DUAL = ["MODEL.ONE_TO_ONE.NAME", "poto", "MODEL.ATSS.INFERENCE_TH", 0.001, "SOLVER.MAX_ITER", 4]
BRANCHES = {"one_to_many", "one_to_one"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dual")
    args = [*write_config(folder), *DUAL, "OUTPUT_DIR", folder / "run"]
    with pytest.MonkeyPatch.context() as patch:
        assert call_tool(patch, "train_net", args) == 0
    return folder


def found(run):
    """Gives the detections as {(image, class, score): box}."""
    rows = json.loads((run / "inference/shapes_val/bbox.json").read_text())
    return {(r["image_id"], r["category_id"], r["score"]): r["bbox"] for r in rows}


def scored(folder, tmp_path, monkeypatch, *more):
    args = ["--config-file", folder / "tiny.yaml", "DATASETS.ROOT", folder / "datasets", *DUAL]
    weight = ["MODEL.WEIGHT", folder / "run/model_final.pth", "OUTPUT_DIR", tmp_path]
    assert call_tool(monkeypatch, "test_net", [*args, *weight, *more]) == 0
    return found(tmp_path)


def test_the_log_has_both_branches(folder):
    line = read_lines(folder / "run")[0]
    losses = {name for name in line if "/loss_" in name}
    assert {name.partition("/")[0] for name in losses} == BRANCHES
    assert losses >= {f"{branch}/loss_{x}" for branch in BRANCHES for x in ("cls", "reg")}
    assert line["one_to_one/positives"] <= line["one_to_many/positives"]
    log = (folder / "run/log.txt").read_text()
    assert re.search(r"^ +rule +dynamic_atss.*\n(.*\n)? +one to one +poto$", log, re.MULTILINE)


def test_one_checkpoint_is_tested_by_either_branch(folder, tmp_path, monkeypatch):
    one = scored(folder, tmp_path / "one", monkeypatch)
    assert one == found(folder / "run")
    many = scored(folder, tmp_path / "many", monkeypatch, "MODEL.ONE_TO_ONE.PREDICTS", "False")
    assert one and many and not one.keys() & many.keys()


def test_every_checkpoint_is_scored_by_both_branches(folder, tmp_path, monkeypatch, capfd):
    without_nms = load_module("benchmarks/without_nms.py")
    monkeypatch.setattr("sys.argv", ["without_nms.py", str(folder / "run")])
    assert without_nms.main() == 0
    rows = [line.split(" | ") for line in capfd.readouterr().out.splitlines() if " | " in line]
    assert [row[0] for row in rows] == ["iteration", "2", "4"]
    for column, predicts in ((1, "True"), (3, "False")):
        out = tmp_path / predicts
        scored(folder, out, monkeypatch, "MODEL.ONE_TO_ONE.PREDICTS", predicts)
        scores = json.loads((out / "inference/shapes_val/coco_metrics.json").read_text())
        assert rows[-1][column] == f"{scores['AP']:.3f}"


def test_a_resumed_run_gives_the_same_weights(folder, tmp_path, monkeypatch):
    again = tmp_path / "again"
    shutil.copytree(folder / "run", again)
    for path in (*again.glob("model_0000004*"), again / "model_final.pth"):
        path.unlink(missing_ok=True)
    (again / "last_checkpoint").write_text("model_0000002.pth")
    args = ["--config-file", folder / "tiny.yaml", "DATASETS.ROOT", folder / "datasets", *DUAL]
    given = [*args, "OUTPUT_DIR", again, "--resume", "--skip-test"]
    assert call_tool(monkeypatch, "train_net", given) == 0
    first, second = (load_checkpoint(x / "model_final.pth") for x in (folder / "run", again))
    assert any(name.startswith("head.one_to_one.") for name in first["model"])
    assert first["model"].keys() == second["model"].keys()
    assert all(torch.equal(x, second["model"][name]) for name, x in first["model"].items())


def test_predict(folder, tmp_path, monkeypatch, capfd):
    given = ["--weights", folder / "run", "--input", folder / "datasets/shapes/val"]
    for name, more in (("one", []), ("many", ["--set", "MODEL.ONE_TO_ONE.PREDICTS", "False"])):
        output = ["--threshold", 0, "--output", tmp_path / name, *more]
        assert call_tool(monkeypatch, "predict", [*given, *output]) == 0
    assert capfd.readouterr().out.count("8 pictures, ") == 2
    one, many = (
        json.loads((tmp_path / name / "detections.json").read_text()) for name in ("one", "many")
    )
    assert len(one) == 8 * 100 and one != many
    scores = {score for *_, score in found(folder / "run")}
    assert {row["score"] for row in one} & scores


@pytest.mark.slow
@pytest.mark.parametrize("branch", ["one", "many"])
def test_the_exported_file(folder, tmp_path, monkeypatch, capfd, branch):
    """It has the weights of only one branch. The file of the one-to-one branch has no NMS."""
    onnx = pytest.importorskip("onnx")
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    given = ["--weights", folder / "run", "--format", "onnx", "--output", tmp_path / "x.onnx"]
    more = ["--set", "MODEL.ONE_TO_ONE.PREDICTS", str(branch == "one")]
    assert call_tool(monkeypatch, "export", [*given, *more]) == 0
    assert "agrees with PyTorch on 8 pictures of shapes_val" in capfd.readouterr().out
    graph = onnx.load(tmp_path / "x.onnx").graph
    kinds = {node.op_type for node in graph.node}
    assert "TopK" in kinds and ("NonMaxSuppression" in kinds) == (branch == "many")
    names = [x.name for x in graph.initializer if "cls_logits" in x.name]
    assert names and all(("one_to_one" in name) == (branch == "one") for name in names)
    about = {x.key: x.value for x in onnx.load(tmp_path / "x.onnx").metadata_props}
    assert ("none" in about["nms_threshold"]) == (branch == "one")


def test_inspect_shows_the_rules_of_both_branches(folder, tmp_path, monkeypatch, capfd):
    given = ["--weights", folder / "run", "--count", 1, "--output", tmp_path / "page.html"]
    assert call_tool(monkeypatch, "inspect_assignment", given) == 0
    assert ", 2 rules, " in capfd.readouterr().out
    page = (tmp_path / "page.html").read_text()
    assert "one_to_many: dynamic_atss" in page and "one_to_one: poto" in page
