"""Tests the command `compare`: its error messages, then two rules with two seeds."""

import json
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers_fork import Program
from helpers_run import ROOT, call_tool, start_tool, write_config

from dynamic_atss import builders
from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.comparison import running
from dynamic_atss.comparison.plan import planned
from dynamic_atss.comparison.rules import parsed

pytestmark = pytest.mark.slow

RULE = """
from dynamic_atss.assigners import ASSIGNERS

class Mine(ASSIGNERS["topk"]):
    pass
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    small = ["INPUT.MIN_SIZE_TRAIN", "64", "INPUT.MIN_SIZE_TEST", "64", "SOLVER.LOG_PERIOD", "1"]
    return [*write_config(folder), *small, "MODEL.ATSS.INFERENCE_TH", "0.001"]


def arguments(config, out, *rules, seeds=(0, 1), more=()):
    file, keys = config[:2], config[2:]
    options = ["--rules", *rules, "--seeds", *seeds, "--output", out, "--devices", "cpu"]
    return [*file, *options, *keys, *more]


@pytest.mark.parametrize(
    "rules, seeds, more, message",
    [
        (["atss", "atsss"], (0,), [], "'atsss': no such name; "),
        (["atss", "atsss"], (0,), [], "the nearest is 'atss'; accepted are"),
        (["atss", "topk,topq=3"], (0,), [], "ARGS.topq: topk has no such argument; the nearest"),
        (["atss", "atss"], (0,), [], "--rules: atss is given twice"),
        (["atss"], (0, 0), [], "--seeds [0, 0]: give one seed or more, each once"),
        (["atss"], ("x",), [], "--seeds x: give integers"),
        (["atss"], (0,), ["SEED", 3], "SEED cannot be set here: give it by --seeds"),
        (["atss"], (0,), ["MODEL.ASSIGNER.ARGS.topk", 3], "write it in --rules"),
        (["atss"], (0,), ["DATASETS.TEST", "()"], "DATASETS.TEST is empty"),
        (["atss"], (0,), ["DATASETS.TEST", "shapes_vall"], "DATASETS.TEST: "),
        (["atss"], (0,), ["--reference", "topk"], "--reference 'topk': give one of atss"),
        (["no/such.py:Rule"], (0,), [], "no/such.py cannot be imported"),
    ],
)
def test_mistakes_are_reported_before_the_first_run(
    config, tmp_path, monkeypatch, capsys, rules, seeds, more, message
):
    out = tmp_path / "out"
    args = arguments(config, out, *rules, seeds=seeds, more=more)
    assert call_tool(monkeypatch, "compare", args) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line
    assert not out.exists() or not [*out.iterdir()]


def test_all_rules_begin_with_the_same_weights(config, tmp_path):
    rules = parsed([*ASSIGNERS])
    jobs = planned(
        config[1], rules, [3], config[2:], output=tmp_path, device="cpu", allow_code=False
    )
    found = []
    for job in jobs:
        torch.manual_seed(job.cfg.SEED)  # as at the start of a run
        weights = builders.build_model(job.cfg, 3).state_dict()  # also holds weights of the rule
        found.append({k: v for k, v in weights.items() if not k.startswith("criterion.assigner.")})
    for other in found[1:]:
        assert list(other) == list(found[0])
        assert all(torch.equal(other[name], found[0][name]) for name in other)


def fork(command, *, env, stdout, stderr, start_new_session, **_) -> Program:
    return Program(command[1:], env, stdout, stderr, ROOT, start_new_session)


# Replaces the module subprocess in the second call, to start runs faster.
FORKS = SimpleNamespace(Popen=fork, DEVNULL=subprocess.DEVNULL)


def test_a_comparison_that_is_interrupted_goes_on(config, tmp_path, monkeypatch, capsys):
    (tmp_path / "rule.py").write_text(RULE)
    out = tmp_path / "out"
    args = arguments(config, out, "atss", f"{tmp_path / 'rule.py'}:Mine,topk=4")
    first = out / "atss/seed_0"
    stderr = tmp_path / "stderr"
    with open(stderr, "w") as file:
        process = start_tool("compare", args, stdout=file, stderr=file)
    end = time.monotonic() + 200
    while not (first / "model_0000002.pth").is_file() and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=200) == 130, stderr.read_text()
    assert "repeat the command" in stderr.read_text() and "Traceback" not in stderr.read_text()
    assert (first / "last_checkpoint").is_file() and not (first / "model_final.pth").exists()

    monkeypatch.setattr(running, "subprocess", FORKS)
    assert call_tool(monkeypatch, "compare", args) == 0
    capsys.readouterr()
    assert "Resuming from" in (first / "log.txt").read_text()
    found = json.loads((out / "comparison.json").read_text())
    assert [rule["label"] for rule in found["rules"]] == ["atss", "rule.py:Mine,topk=4"]
    for rule in found["rules"]:
        assert [run["seed"] for run in rule["runs"]] == [0, 1]
        for run in rule["runs"]:
            check_run(run)
    ours, reference = ([run["AP50"] for run in rule["runs"]] for rule in found["rules"][::-1])
    mean = (ours[0] - reference[0] + ours[1] - reference[1]) / 2
    assert found["rules"][1]["differences"]["AP50"]["mean"] == pytest.approx(mean, abs=1e-12)
    same_start(out)

    config = (first / "config.yaml").read_text()  # an older version wrote it without this key
    (first / "config.yaml").write_text(config.replace("  NOT_FINITE_LIMIT: 5\n", ""))
    assert (first / "config.yaml").read_text() != config
    assert call_tool(monkeypatch, "compare", args) == 0
    printed = capsys.readouterr().out
    assert "4 of 4 runs are already complete" in printed and "done, after" not in printed
    assert call_tool(monkeypatch, "compare", [*args, "SOLVER.BASE_LR", "0.01"]) == 2
    error = capsys.readouterr().err
    assert f"{first}: holds a run with other settings (SOLVER.BASE_LR 0.02 -> 0.01)" in error

    shown = [*args, "--reference", "rule.py:Mine,topk=4"]  # as the report calls it
    assert call_tool(monkeypatch, "compare", shown) == 0
    capsys.readouterr()
    (tmp_path / "rule.py").write_text(RULE.replace("pass", "soft_labels = False"))
    assert call_tool(monkeypatch, "compare", args) == 2
    error = capsys.readouterr().err
    assert f"its run began with other contents of {tmp_path / 'rule.py'}; choose another" in error


def check_run(run) -> None:
    """Compares the numbers with the files of the run."""
    folder = Path(run["folder"])
    scores = json.loads((folder / "inference/shapes_val/coco_metrics.json").read_text())
    assert run["AP50"] == scores["AP50"] and run["agreement"]["detections"] > 0
    lines = [*map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())]
    lines = [line for line in lines if "loss" in line]
    assert [line["iteration"] for line in lines] == [1, 2, 3, 4, 5, 6]
    boxes = sum(line["boxes_16to32"] for line in lines)
    positives = sum(line["positives_16to32"] for line in lines)
    assert run["positives_per_box"]["16to32"] == pytest.approx(positives / boxes)


def same_start(out) -> None:
    """All rules see the same boxes with the same seed, and other boxes with another seed."""
    seen = [boxes(out / rule / f"seed_{seed}") for seed in (0, 1) for rule in folders(out)]
    assert seen[0] == seen[1] != seen[2] == seen[3]


def folders(out) -> list[str]:
    return [path.name for path in out.iterdir() if path.is_dir()]


def boxes(run) -> list[float]:
    lines = [*map(json.loads, (run / "metrics.jsonl").read_text().splitlines())]
    return [line["boxes_16to32"] for line in lines if "loss" in line]
