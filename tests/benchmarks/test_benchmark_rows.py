"""Every benchmark measures a tiny size, and refuses to time a peer with other results."""

import argparse
import importlib
import itertools
import json
import sys
import time
from pathlib import Path

import pytest
import torch

from dynamic_atss.assigners import ASSIGNERS

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
KEYS = {
    *("stage", "case", "device", "ours_s", "peer", "peer_s", "ratio", "limit", "limit_s"),
    *("ours_mb", "peer_mb", "same", "note", "numbers", "failed"),
}
TOY = {
    "focal": ["--batch", "2", "--priors", "40", "--classes", "3"],
    "nms": ["--candidates", "60", "--batch", "1", "3"],
    "assignment": ["--rules", "dynamic_atss", "atss", "--boxes", "3", "--batch", "1", "2"],
    "image_loading": ["--images", "1", "--short", "60"],
    "evaluation": ["--images", "6", "--detections", "5", "--categories", "2"],
}


def arguments(name, *more):
    module, common = importlib.import_module(name), importlib.import_module("common")
    parser = common.parser("", getattr(module, "arguments", None))
    return module, parser.parse_args(["--seconds", "0", *TOY.get(name, []), *more])


@pytest.mark.parametrize("name", TOY)
def test_rows(name):
    module, args = arguments(name)
    rows = module.rows(args)
    assert rows and all(set(row) == KEYS for row in rows)
    timed = [row for row in rows if row["peer_s"] is not None]
    assert timed
    for row in timed:
        assert row["ours_s"] > 0 and row["ratio"] == row["peer_s"] / row["ours_s"]
        assert row["same"] or row["peer"] == "torch.sigmoid of the logits"
    assert any(row["limit_s"] for row in rows)
    table = importlib.import_module("report").markdown(rows, {"cpu": "this one"})
    assert all(f"| {row['case']} | {row['peer']} |" in table for row in rows)


@pytest.mark.slow
def test_lost_time_of_a_training():
    """The scores come from another process, or are awaited."""
    size = ["--images", "6", "--detections", "5", "--categories", "2"]
    module, args = arguments("background_scoring", "--quick", *size)
    rows = module.rows(args)
    assert [row["case"].split(":")[0] for row in rows] == ["awaited", "beside"]
    assert all(set(row) == KEYS and row["ours_s"] is not None for row in rows)
    assert all("in 1 rounds" in row["note"] for row in rows)


@pytest.mark.parametrize("rule", ASSIGNERS)
@pytest.mark.parametrize("boxes", [3, 40])
def test_dense_forms_give_the_labels_of_each_rule(rule, boxes):
    module = importlib.import_module("assignment")
    inputs = module.scene(boxes, 2, ((20, 30), (10, 15), (5, 8), (3, 4), (2, 2)))
    assigner = ASSIGNERS[rule]()
    if isinstance(assigner, torch.nn.Module):
        assigner.eval()
    index = assigner(*inputs).gt_index
    for form in {module.DENSE[rule], module.SAME.get(rule, module.DENSE[rule])}:
        module.compare(rule, index, module.dense(form, *inputs))


def test_other_results_of_a_peer_are_an_error(monkeypatch):
    module, args = arguments("focal")
    monkeypatch.setitem(module.PEERS["focal"], "plain formula", lambda s: s.logits.sum())
    with pytest.raises(AssertionError, match="differ"):
        module.rows(args)
    module, args = arguments("nms")
    monkeypatch.setattr(module, "batched_nms", lambda boxes, *_: torch.arange(len(boxes)))
    with pytest.raises(AssertionError, match="image 0"):
        module.rows(args)
    module, args = arguments("assignment")
    monkeypatch.setitem(module.DENSE, "dynamic_atss", module.DENSE["max_iou"])
    with pytest.raises(AssertionError, match="of the labels differ"):
        module.rows(args)
    module, args = arguments("image_loading")
    monkeypatch.setattr(module, "read_image", lambda path: torch.zeros(3, 480, 640).byte())
    with pytest.raises(AssertionError, match="grey levels off"):
        module.rows(args)
    module = importlib.import_module("evaluation")
    with pytest.raises(AssertionError, match="numbers differ"):
        module.compare([0.5] * 12, [0.5] * 11 + [1.0])


def test_startup_tells_packages(monkeypatch):
    module = importlib.import_module("startup")
    assert module.process("-c", "raise SystemExit(3)")() == 3
    monkeypatch.setattr(module, "BASE", ("json",))
    found = module.imported("import sqlite3, json", min_ms=0)
    assert "sqlite3 " in found and "json" not in found


def test_the_clock_is_that_of_the_option():
    common, ticks = importlib.import_module("common"), itertools.count(0.0, 2.0)
    assert common.alternate([lambda: None], 0, clock=lambda: next(ticks)) == [2.0]
    _, args = arguments("assignment", "--processor-time")
    assert args.clock is time.process_time and arguments("nms")[1].clock is time.perf_counter


def test_many_boxes_has_every_rule():
    module, args = arguments("many_boxes", "--images", "3", "--boxes", "40", "--most", "25")
    rows = module.rows(args)
    assert [row["case"] for row in rows] == list(ASSIGNERS)
    assert all(" of 40 boxes have a positive" in row["note"] for row in rows)


def test_growth_tells_how_much_more():
    growth = importlib.import_module("growth")
    args = argparse.Namespace(quick=False, seconds=0, device="cpu")
    rows = growth.sweep(
        "zeros", "numbers", [250_000, 1_000_000], lambda n: lambda: torch.zeros(n), args
    )
    assert [row["ours_mb"] for row in rows] == [1.0, 4.0]
    assert rows[0]["note"] == "" and rows[1]["note"].startswith("x 4: x ")
    assert growth.sweep("x", "y", [1], None, argparse.Namespace(device="cuda"), host=True) == []


def test_peak_memory_counts_what_lives_at_once():
    common = importlib.import_module("common")

    def call():
        torch.zeros(1000).sort()
        a = torch.zeros(250_000)
        return a + 1

    assert 2_000_000 <= common.peak_memory(call) < 2_001_000


def test_table_of_cpu_and_gpu_in_one_line():
    common, report = importlib.import_module("common"), importlib.import_module("report")
    cpu = common.Row("stage", "case", 0.002, "peer", 0.02, "limit", 0.001, 1.5, 3.0).to_dict()
    gpu = common.Row("stage", "case", 0.5, "peer", 0.75, device="cuda").to_dict()
    alone, both = (report.markdown(rows, {"cpu": "c"}) for rows in ([cpu], [cpu, gpu]))
    assert "| case | peer | 2.000 ms | 20.0 ms | 10.0 x | limit | 1.000 ms | 2.00 |" in alone
    assert "GPU" not in alone
    assert "| 500.0 ms | 750.0 ms | 1.50 x |" in both and both.count("| case | peer |") == 2
    slow = report.markdown([{**cpu, "operators": "not compiled"}], {})
    assert "Operators: not compiled." in slow


def test_run_names_the_stage_that_fails_and_goes_on(tmp_path, monkeypatch):
    run = importlib.import_module("run")
    row = importlib.import_module("common").Row("good", "case", 1.0).to_dict()
    (tmp_path / "rows.json").write_text(json.dumps([row]))
    (tmp_path / "good.py").write_text(
        "import shutil, sys\n"
        f"shutil.copy({str(tmp_path / 'rows.json')!r}, sys.argv[sys.argv.index('--json') + 1])\n"
    )
    (tmp_path / "bad.py").write_text("raise SystemExit('no luck')\n")
    monkeypatch.setattr(run, "FOLDER", tmp_path)
    monkeypatch.setattr(run, "STAGES", {"bad": False, "good": True})
    output = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["run.py", "--device", "cpu", "--output", str(output)])
    assert run.main() == 1
    results = json.loads((output / "results.json").read_text())
    assert results["failed"] == ["bad (cpu)"] and [r["stage"] for r in results["rows"]] == ["good"]
    assert results["machine"]["torch"] == torch.__version__
    assert "Failed: bad (cpu)." in (output / "results.md").read_text()
    assert "no luck" in (output / "bad_cpu.log").read_text()


def test_run_knows_every_stage(monkeypatch, capsys):
    run = importlib.import_module("run")
    assert all((FOLDER / f"{name}.py").is_file() for name in run.STAGES)
    monkeypatch.setattr(sys, "argv", ["run.py", "--only", "nothing", "--output", "x"])
    with pytest.raises(SystemExit, match="2"):
        run.main()
    assert "'nothing'" in capsys.readouterr().err
