"""Tests complete runs of a rule with a parameter: trained, saved, resumed, averaged and tested."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from helpers_run import call_tool, load_module, read_lines, run_tool, write_config
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_distributed import FROZEN, TORCHRUN, check_same_training, without_boxes

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]

RULE = '''
import torch
from torch import nn

from dynamic_atss.assigners.rules.atss import ATSS
from dynamic_atss.types import Assignment


class Centred(nn.Module):
    """ATSS with positives weighted by a Gaussian around the box's centre, whose width is learnt."""

    soft_labels, quality_name, needs_size = True, "IoU", True

    def __init__(self, width=1.0):
        super().__init__()
        self.rule = ATSS()
        self.width = nn.Parameter(torch.full((2,), float(width)))
        self.register_buffer("boxes", torch.zeros(()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, priors, gt, predictions):
        found = self.rule(priors, gt, predictions)
        if self.training:
            self.steps += 1
        if not len(gt):
            return Assignment(found.gt_index, found.quality, **self.loss_and_metric())
        if self.training:
            self.boxes += len(gt)
        box = gt.boxes[found.gt_index.clamp(min=0)]
        center, size = (box[..., :2] + box[..., 2:]) / 2, box[..., 2:] - box[..., :2]
        offset = (priors.centers - center) / size
        weight = (-(offset / self.width).square().sum(-1)).exp()
        return Assignment(found.gt_index, found.quality, weight, **self.loss_and_metric())

    def loss_and_metric(self):
        return {
            "losses": {"loss_width": 0.01 * (1 / self.width.square()).sum()},
            "metrics": {"width": self.width.mean()},
        }


class Clashing(Centred):
    def loss_and_metric(self):
        return {"metrics": {"loss_cls": self.width.mean()}}
'''
WIDTH = "criterion.assigner.width"
EVERY = ["SOLVER.LOG_PERIOD", 1, "SOLVER.CHECKPOINT_PERIOD", 1, "SOLVER.MAX_ITER", 5]

kill_and_resume = load_module("benchmarks/kill_and_resume.py")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "centred.py").write_text(RULE)
    rule = ["MODEL.ASSIGNER.NAME", f"{folder / 'centred.py'}:Centred"]
    return [*write_config(folder), *rule]


def state(run: Path, name: str, entry: str = "model"):
    return torch.load(run / f"{name}.pth", weights_only=True)[entry]


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    """Makes a run of five iterations with averaged weights."""
    out = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        args = [*config, *EVERY, "SOLVER.EMA_DECAY", 0.5, "--skip-test", "OUTPUT_DIR", out]
        assert call_tool(patch, "train_net", args) == 0
    return out


def test_the_parameter_moves_and_is_saved_and_averaged(run):
    names = ["model_0000001", "model_0000002", "model_0000003", "model_0000004", "model_final"]
    trained = [state(run, name, "trained_model")[WIDTH] for name in names]
    assert all((a != b).all() for a, b in pairwise(trained))
    averaged, previous = (state(run, name)[WIDTH] for name in ("model_final", names[-2]))
    torch.testing.assert_close(averaged, 0.5 * previous + 0.5 * trained[-1])
    counts = [state(run, name, "trained_model")["criterion.assigner.boxes"] for name in names]
    assert all(a < b for a, b in pairwise(counts))
    before, now = (state(run, name)["criterion.assigner.boxes"] for name in (names[-2], names[-1]))
    torch.testing.assert_close(now, 0.5 * before + 0.5 * counts[-1])
    steps = [state(run, name)["criterion.assigner.steps"] for name in names]
    assert steps == [1, 2, 3, 4, 5]  # copied: an averaged integer would lag behind
    batches = [v for k, v in state(run, "model_final").items() if k.endswith("batches_tracked")]
    assert batches and set(map(int, batches)) == {5}


def test_its_losses_and_metrics_are_in_all_three_logs(run):
    """Metrics of the assignment are only in two, as `log.txt` has short lines."""
    lines = read_lines(run)
    before = [1.0] + [
        state(run, f"model_{i:07d}", "trained_model")[WIDTH].mean().item() for i in (1, 2, 3, 4)
    ]
    assert [line["width"] for line in lines] == pytest.approx(before, rel=1e-6)
    events = EventAccumulator(str(run))
    events.Reload()
    log = (run / "log.txt").read_text()
    levels = [f"positives_s{stride}" for stride in (8, 16, 32, 64, 128)]
    named = ["boxes_without_positive", "ignored", "iou_of_positives", "width"]
    tags = ["train/loss_width", *(f"metrics/{name}" for name in ("positives", *levels, *named))]
    for tag in tags:
        name = tag.rpartition("/")[2]
        drawn = [event.value for event in events.Scalars(tag)]
        assert drawn == pytest.approx([line[name] for line in lines]), name
    last = lines[-1]
    assert f", width {last['loss_width']:.4f})  width {last['width']:.4f}  lr " in log
    assert "positives" not in log
    for line in lines:
        terms = sum(value for name, value in line.items() if name.startswith("loss_"))
        assert line["loss"] == pytest.approx(terms)
        assert line["positives"] == pytest.approx(sum(line[name] for name in levels))
        assert 0 < line["iou_of_positives"] < 1


def test_a_resumed_run_is_bitwise_the_same(config, run, tmp_path, monkeypatch):
    args = [*config, *EVERY, "SOLVER.EMA_DECAY", 0.5, "--skip-test", "OUTPUT_DIR", tmp_path]
    assert call_tool(monkeypatch, "train_net", [*args, "SOLVER.MAX_ITER", 3]) == 0
    (tmp_path / "last_checkpoint").write_text("model_0000002.pth")
    assert call_tool(monkeypatch, "train_net", [*args, "--resume"]) == 0
    assert kill_and_resume.differences(run, tmp_path) == []


def test_a_test_works_with_the_rule_and_with_another(config, run, tmp_path, monkeypatch, capsys):
    """Detections do not depend on the rule. The log names the rule's entries of the file."""
    found = {}
    for name in ("same", "atss"):
        out = tmp_path / name
        weight = ["MODEL.WEIGHT", run / "model_final.pth", "OUTPUT_DIR", out]
        rule = [] if name == "same" else ["MODEL.ASSIGNER.NAME", "atss"]
        low = ["MODEL.ATSS.INFERENCE_TH", 0.001]
        assert call_tool(monkeypatch, "test_net", [*config, *weight, *low, *rule]) == 0
        found[name] = json.loads((out / "inference/shapes_val/bbox.json").read_text())
    assert found["same"] == found["atss"] and len(found["same"]) > 0
    assert "criterion 3" in (tmp_path / "same/log.txt").read_text()
    log = (tmp_path / "atss/log.txt").read_text()
    unused = f"{WIDTH}, criterion.assigner.boxes, criterion.assigner.steps"
    assert f"not used from the file: 3 ({unused})" in log


def test_entries_that_a_file_lacks_keep_their_initial_values(config, tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    args = [*config, "SOLVER.MAX_ITER", 1, "--skip-test"]
    atss = ["MODEL.ASSIGNER.NAME", "atss", "OUTPUT_DIR", first]
    assert call_tool(monkeypatch, "train_net", [*args, *atss]) == 0
    weight = ["MODEL.WEIGHT", first / "model_final.pth", "OUTPUT_DIR", second]
    width = ["MODEL.ASSIGNER.ARGS.width", 3.0, "SOLVER.BASE_LR", 1e-20]
    assert call_tool(monkeypatch, "train_net", [*args, *weight, *width]) == 0
    assert "left at the initial value: criterion 3" in (second / "log.txt").read_text()
    assert state(second, "model_final")[WIDTH].tolist() == [3, 3]


def test_conversion_keeps_the_entries_or_names_them(config, run, tmp_path, monkeypatch, capsys):
    source = run / "model_final.pth"
    kept = tmp_path / "kept.pth"
    assert call_tool(monkeypatch, "convert_checkpoint", [source, kept, "--to", "project"]) == 0
    assert torch.equal(state(tmp_path, "kept")[WIDTH], state(run, "model_final")[WIDTH])
    published = [source, tmp_path / "published.pth", "--to", "published"]
    assert call_tool(monkeypatch, "convert_checkpoint", published) == 2
    assert "3 entries have no exact place in a published file" in capsys.readouterr().err
    assert call_tool(monkeypatch, "convert_checkpoint", [*published, "--force"]) == 0


AROUND = ["MODEL.ASSIGNER.AT_LEAST_ONE", "MODEL.ASSIGNER.IGNORE_REGIONS"]


def test_rules_around_it_do_not_change_its_names(config, run, tmp_path, monkeypatch):
    """So a run can continue with other wrappers. The optimizer's state has the same order."""
    args = [*config, *EVERY, "SOLVER.EMA_DECAY", 0.5, "--skip-test", "OUTPUT_DIR", tmp_path]
    around = [x for key in AROUND for x in (key, True)]
    assert call_tool(monkeypatch, "train_net", [*args, *around, "SOLVER.MAX_ITER", 2]) == 0
    assert list(state(tmp_path, "model_final")) == list(state(run, "model_final"))
    width = state(tmp_path, "model_final", "trained_model")[WIDTH]
    one = [*around[:2], "SOLVER.MAX_ITER", 3, "SOLVER.BASE_LR", 1e-20]
    assert call_tool(monkeypatch, "train_net", [*args, *one, "--resume"]) == 0
    assert torch.equal(state(tmp_path, "model_final", "trained_model")[WIDTH], width)
    assert call_tool(monkeypatch, "train_net", [*args, "SOLVER.MAX_ITER", 4, "--resume"]) == 0
    assert (state(tmp_path, "model_final", "trained_model")[WIDTH] != width).all()


def test_a_metric_with_the_name_of_a_loss_is_refused(config, tmp_path, monkeypatch, capsys):
    rule = ["MODEL.ASSIGNER.NAME", config[-1].replace("Centred", "Clashing")]
    assert call_tool(monkeypatch, "train_net", [*config, *rule, "OUTPUT_DIR", tmp_path]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: metric 'loss_cls': ") and "another" in line


def test_two_processes_of_which_one_has_no_boxes(config, tmp_path, monkeypatch):
    """It does not use the parameter in four of its five steps."""
    data = without_boxes(config, tmp_path)
    args = [*config, *FROZEN, *data, *EVERY, "--skip-test", "OUTPUT_DIR"]
    one, two = tmp_path / "one", tmp_path / "two"
    assert call_tool(monkeypatch, "train_net", [*args, one]) == 0
    ended = run_tool("train_net", [*args, two], TORCHRUN)
    assert ended.returncode == 0, ended.stderr
    check_same_training(one, two)
    widths = [state(two, name)[WIDTH] for name in ("model_0000001", "model_final")]
    assert (widths[0] != 1).all() and (widths[0] != widths[1]).all()
