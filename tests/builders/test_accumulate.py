"""SOLVER.ACCUMULATE n: the network gets a batch in n parts; the step is that of the full batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers_run import TINY, call_tool, load_module, run_tool, write_config
from test_distributed import EVERY, TORCHRUN, check_same_training
from torch import nn

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.builders import build_model
from dynamic_atss.builders.heads import HEADS
from dynamic_atss.config.load import load_config
from dynamic_atss.modeling.branches import BranchCriterion
from dynamic_atss.modeling.head import HeadOutput
from dynamic_atss.types import Batch, GroundTruth

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
FROZEN = ["MODEL.RESNETS.NORM", "FrozenBN"]
SIZES = [(64, 96), (60, 90), (40, 96), (64, 33)]
MANY = [[4.0 + 7 * i, 2 + 4 * i, 30 + 5 * i, 20 + 3 * i] for i in range(8)]
SCENES = {
    "uneven": [[[4.0, 4, 40, 50]], [[20, 10, 80, 60]], [[10, 5, 30, 35]], MANY],
    "one_box": [[], [], [[10.0, 20, 30, 40]], []],
    "no_box": [[], [], [], []],
}

kill_and_resume = load_module("benchmarks/kill_and_resume.py")


@pytest.fixture
def built(tmp_path):
    """Returns the function (parts, overrides) -> detector, always with the same weights."""
    (tmp_path / "tiny.yaml").write_text(TINY)

    def build(parts, *overrides):
        accumulate = ["SOLVER.ACCUMULATE", str(parts)]
        cfg = load_config(tmp_path / "tiny.yaml", [*FROZEN, *accumulate, *overrides])
        torch.manual_seed(0)
        return build_model(cfg, 3).train()

    return build


def four_images(scene="uneven", regions=0) -> Batch:
    """Makes a batch of four images.

    Args:
        regions: number of boxes, from the last, that are ignored regions.
    """
    images = torch.randint(256, (4, 3, 64, 96), generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([box for image in SCENES[scene] for box in image]).view(-1, 4)
    counts = torch.tensor([len(image) for image in SCENES[scene]])
    ignore = torch.arange(len(boxes)) >= len(boxes) - regions if regions else None
    gt = GroundTruth(
        boxes, torch.arange(len(boxes)) % 3, torch.arange(4).repeat_interleave(counts), ignore
    )
    sizes = torch.tensor(SIZES)
    return Batch(images.to(torch.uint8), sizes, gt, (1, 2, 3, 4), tuple(SIZES))


def step(model, batch) -> tuple[torch.Tensor, dict]:
    """Returns the full gradient, and the logged values."""
    terms = model(batch)
    sum(terms.losses.values()).backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])
    return gradient, {**terms.losses, **terms.metrics}


def check_same_step(make, batch, tolerance=1e-5):
    """Checks that the step does not depend on the number of parts.

    Args:
        make: gives a model for a number of parts.
    """
    gradient, logged = step(make(1), batch)
    assert gradient.norm() > 0
    for parts in (2, 4):
        other, others = step(make(parts), batch)
        assert (other - gradient).norm() <= tolerance * gradient.norm()
        torch.testing.assert_close(others, logged, rtol=tolerance, atol=1e-6)


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("head", HEADS)
def test_every_head(built, head, scene):
    overrides = ["MODEL.ATSS_ON", "False", "MODEL.HEAD.NAME", head]
    check_same_step(lambda n: built(n, *overrides), four_images(scene))


@pytest.mark.parametrize("rule", ASSIGNERS)
def test_every_rule_with_regions_to_ignore(built, rule):
    overrides = ["MODEL.ASSIGNER.NAME", rule, "MODEL.ASSIGNER.IGNORE_REGIONS", "True"]
    check_same_step(lambda n: built(n, *overrides), four_images(regions=3))


@pytest.mark.parametrize("scene", SCENES)
def test_a_rule_that_learns(built, scene):
    overrides = ["MODEL.ASSIGNER.NAME", f"{ROOT / 'examples/learned_width.py'}:LearnedWidth"]
    check_same_step(lambda n: built(n, *overrides), four_images(scene))


def test_labels_as_divisor(built):
    overrides = ["MODEL.CLASS_LOSS_DIVISOR", "labels", "MODEL.ASSIGNER.NAME", "task_aligned"]
    check_same_step(lambda n: built(n, *overrides), four_images())


def test_a_norm_that_sees_one_image(built):
    wide = ["MODEL.RESNETS.STEM_OUT_CHANNELS", "32", "MODEL.RESNETS.RES2_OUT_CHANNELS", "128"]
    check_same_step(lambda n: built(n, "MODEL.RESNETS.NORM", "GN", *wide), four_images())


def test_bfloat16(built):
    """bfloat16 has 8 bits, and the gradients of the parts are added in another order."""
    overrides = ["DTYPE", "bfloat16", "MODEL.ASSIGNER.NAME", "atss"]
    check_same_step(lambda n: built(n, *overrides), four_images(), tolerance=0.01)


class Extremes(nn.Module):
    """A custom criterion that is no sum over images and takes no mean over processes."""

    def forward(self, output, priors, gt, iteration=0):
        number = len(gt) + 1
        spread = output.logits.amax() - output.logits.amin()
        return {"loss_spread": spread / number, "loss_all": output.deltas.norm() / number}


def test_a_criterion_that_is_no_sum_over_images(built):
    def make(parts):
        model = built(parts)
        model.criterion = Extremes()
        model.head.quality.requires_grad_(False)
        return model

    check_same_step(make, four_images())


class TwoBranches(nn.Module):
    """Gives the output of the head under two names, the second one with another map."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, features):
        found: HeadOutput = self.head(features)
        return {"a": found, "b": found._replace(extras={"twice": 2 * found.logits})}


class Reading(nn.Module):
    """Returns the additional map as a loss."""

    def forward(self, output, priors, gt, iteration=0):
        return {"loss_twice": output.extras["twice"].square().mean()}


def test_branches_and_further_maps(built):
    def make(parts):
        model = built(parts)
        model.head = TwoBranches(model.head)
        model.criterion = BranchCriterion({"a": model.criterion, "b": Reading()})
        model.postprocess.branch = "a"
        return model

    check_same_step(make, four_images())


# --- full runs ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return [*write_config(tmp_path_factory.mktemp("tiny")), *EVERY, "--skip-test"]


# Images of several sizes, averaged weights, and a step whose length is bounded.
VARIED = [*FROZEN, "SOLVER.CLIP_GRAD_NORM", 1.0, "SOLVER.EMA_DECAY", 0.5]


def test_a_run(config, tmp_path, monkeypatch):
    one, four = tmp_path / "one", tmp_path / "four"
    for out, parts in ((one, 1), (four, 4)):
        overrides = [*VARIED, "SOLVER.ACCUMULATE", parts, "OUTPUT_DIR", out]
        assert call_tool(monkeypatch, "train_net", [*config, *overrides]) == 0
    check_same_training(one, four)


def test_two_processes(config, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for out, parts in ((one, 1), (two, 2)):
        overrides = [*VARIED, "SOLVER.ACCUMULATE", parts, "OUTPUT_DIR", out]
        done = run_tool("train_net", [*config, *overrides], TORCHRUN)
        assert done.returncode == 0, done.stderr
    check_same_training(one, two)


def test_a_resumed_run_is_the_same_to_the_bit(config, tmp_path, monkeypatch):
    """The model has batch norm, whose statistics are part of the state."""
    args = [*config, "SOLVER.ACCUMULATE", 2, "SOLVER.EMA_DECAY", 0.5, "OUTPUT_DIR"]
    full, parts = tmp_path / "full", tmp_path / "parts"
    assert call_tool(monkeypatch, "train_net", [*args, full]) == 0
    assert call_tool(monkeypatch, "train_net", [*args, parts, "SOLVER.MAX_ITER", 4]) == 0
    (parts / "last_checkpoint").write_text("model_0000003.pth")
    assert call_tool(monkeypatch, "train_net", [*args, parts, "--resume"]) == 0
    assert kill_and_resume.differences(full, parts) == []


def test_pictures_with_1_1_1_and_12_boxes(shared):
    """Prints the difference of the steps relative to their length, and the ratio of lengths."""
    (ROOT / "output/cases").mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, shared / "cases/uneven/accumulate.py"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
        **{"cwd": ROOT, "capture_output": True, "text": True, "timeout": 300},
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("ACCUMULATE")]
    same = "step differs by 0.000 of its length; length ratio 1.000"
    assert lines == [f"ACCUMULATE {n}: {same}" for n in (2, 4)], done.stderr
