"""The page of a GPU machine: its first line, states, reasons, and the rows of a stage."""

import importlib
import json
import sys

import pytest


@pytest.fixture
def run(tmp_path):
    """Gives a function that runs stages and returns their results."""
    runner = importlib.import_module("on_gpu.runner")
    environment = {"PYTHONPATH": ""}
    made = runner.Runner(tmp_path / "log.txt", tmp_path, environment, lambda: 60.0, lambda _: None)
    return made.run


def of_tests(name, output, **more):
    """Makes a stage that prints the output of pytest."""
    runner, summary = (importlib.import_module(f"on_gpu.{n}") for n in ("runner", "summary"))
    how = {"ran": summary.passed, "summarize": summary.of_pytest, **more}
    return runner.Stage(name, (sys.executable, "-c", f"print({output!r})"), 30.0, **how)


def test_a_stage_whose_tests_are_all_skipped_ran_nothing(run):
    skipped = "ss\nSKIPPED [2] x.py:1: no CUDA device\n2 skipped in 0.31s"
    results = run(
        [
            of_tests("on a GPU", skipped),
            of_tests("dry run", skipped, may_be_empty=True),
            of_tests("some", "1 passed, 2 skipped in 0.31s"),
            of_tests("none", "10 deselected in 0.31s"),
        ]
    )
    assert [r.state for r in results] == ["nothing ran", "nothing ran", "ok", "nothing ran"]
    assert [r.bad for r in results] == [True, False, False, True]
    summary = importlib.import_module("on_gpu.summary")
    line = summary.closing(results, 4, 1.0, 540.0)
    assert line.startswith("1 of 4 stages ok, 3 nothing ran; ") and "look at: on a GPU" in line


def test_reasons_of_skipped_tests_are_grouped():
    summary = importlib.import_module("on_gpu.summary")
    said = [("a.py:1", 4, "no GPU"), ("b.py:22", 3, "no GPU"), ("c.py", 5, "no timm: install it")]
    said += [(f"d.py:{n}", 1, f"reason {n}") for n in range(4)]
    lines = [f"SKIPPED [{count}] tests/{place}: {reason}" for place, count, reason in said]
    output = "\n".join([*lines, "16 skipped in 1.00s"])
    assert summary.of_pytest(None, output) == (
        "16 skipped in 1.00s; skipped: 7: no GPU; 5: no timm: install it; 1: reason 0; "
        "1: reason 1; and 2 more reasons"
    )


def test_a_row_says_what_it_measures_and_what_a_ratio_means():
    common, summary = importlib.import_module("common"), importlib.import_module("on_gpu.summary")

    def text(*fields, **more):
        return summary.of_rows([common.Row(*fields, **more).to_dict()], "")

    assert text(
        *("whole train step", "16 x 800", 0.1, "torchvision FCOS", 0.149),
        ours_mb=138.2,
        note="ours 4.03, torchvision 4.22 images/s",
    ) == (
        "train step: 16 x 800: 100 ms, 1.49 x as fast as torchvision FCOS, peak 138 MB, "
        "ours 4.03, torchvision 4.22 images/s"
    )
    less = text("focal losses", "qfl", 0.002, "torch.sigmoid of the logits", 0.001)
    assert less == "focal losses: qfl: 2 ms, torch.sigmoid of the logits 1 ms"


@pytest.mark.parametrize("dry", [True, False])
def test_the_page_of_a_dry_run_says_so_first(tmp_path, dry):
    runner, summary = (importlib.import_module(f"on_gpu.{n}") for n in ("runner", "summary"))
    common = importlib.import_module("common")
    rows = [common.Row("s", case, 0.1).to_dict() for case in "cd"]
    results = [
        runner.Result("memcheck", "not run: no compute-sanitizer here"),
        runner.Result("nms", "ok", summary=summary.of_rows(rows, ""), found=rows),
    ]
    summary.write(tmp_path, results, "python x", "1 of 2", dry)
    text, tables = ((tmp_path / name).read_text() for name in ("gpu.md", "benchmarks.md"))
    assert text.startswith("# Dry run on a CPU with toy sizes: no number counts\n") == dry
    assert tables.startswith("# Dry run") == dry
    assert "| memcheck | not run | 0 | no compute-sanitizer here |" in text
    assert "| nms | ok | 0 | s: c: 100 ms<br>s: d: 100 ms |" in text
    content = json.loads((tmp_path / "gpu.json").read_text())
    assert content["dry_run"] == dry
    assert {goal["stage"] for goal in content["goals"]} == {"stages", "focal", "nms", "scoring"}
    assert all(f"| {goal['goal']} | {goal['wanted']} |" in text for goal in content["goals"])


@pytest.mark.parametrize(
    "images, late, measured", [(5000, 0.0, 0.5), (100, 0.0, None), (5000, 1.0, None)]
)
def test_only_large_tests_that_end_in_their_stretch_count(images, late, measured):
    scoring, goals = (importlib.import_module(n) for n in ("background_scoring", "on_gpu.goals"))
    args = importlib.import_module("common").parser("", scoring.arguments).parse_args([])
    assert args.stretch == 15
    args.images = images
    found = {
        "without a test": [[6.0, 0.0], [6.0, 0.0]],
        "awaited": [[9.0, 3.0], [9.0, 3.0]],
        "beside": [[6.5, 0.1, late], [6.5, 0.1, 0.0]],
    }
    rows = [scoring.row(name, found, args) for name in ("awaited", "beside")]
    assert all(row["device"] == "host" for row in rows)
    assert ("too late" in rows[1]["note"]) == bool(late)
    assert goals.listed(rows, "")[-1]["measured"] == measured


def test_without_a_fast_scorer_a_row_says_so(monkeypatch):
    scoring, summary = (
        importlib.import_module(n) for n in ("background_scoring", "on_gpu.summary")
    )
    monkeypatch.setattr(scoring.importlib.util, "find_spec", lambda name: None)
    args = importlib.import_module("common").parser("", scoring.arguments).parse_args([])
    (row,) = scoring.rows(args)
    assert not row["failed"]
    assert summary.of_rows([row], "").endswith("5000 images: not run: hotcoco is not installed")
