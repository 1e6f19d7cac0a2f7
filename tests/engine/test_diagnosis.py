"""Tests that the named causes are those that the numbers show."""

import copy
import math

import numpy as np
import pytest
import torch
from helpers_run import TINY

from dynamic_atss.builders import build_model
from dynamic_atss.config.load import load_config
from dynamic_atss.engine.diagnosis import LowScoreCauses, largest_score
from dynamic_atss.evaluation.ground_truth import TruthTable
from dynamic_atss.types import Batch, GroundTruth

KEY = "MODEL.ATSS.INFERENCE_TH"
NOTHING = np.zeros((0, 7))


def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=generator)
    empty = torch.zeros(0, dtype=torch.long)
    gt = GroundTruth(torch.zeros(0, 4), empty, empty)
    return Batch(images, torch.tensor([[64, 64]] * 2), gt, (1, 2), ((64, 64),) * 2)


def truth() -> TruthTable:
    return TruthTable(
        source="a.json",
        images=[{"id": 1}, {"id": 2}],
        categories=[{"id": 1, "name": "cat"}],
        image_ids=np.array([1]),
        category_ids=np.array([1]),
        boxes=np.array([[0.0, 0, 10, 10]]),
        areas=np.array([100.0]),
        crowd=np.array([False]),
    )


@pytest.fixture
def model(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY)
    torch.manual_seed(0)
    return build_model(load_config(tmp_path / "tiny.yaml"), 3)


def scored(model, score: float):
    """Copies the model with all class scores equal to `score`."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.head.cls_logits.weight.zero_()
        model.head.cls_logits.bias.fill_(math.log(score / (1 - score)))
    return model


def causes(model, trained=None, records=(), table=NOTHING) -> list[str]:
    low_score_causes = LowScoreCauses(model, KEY, lambda: (trained, records))
    return low_score_causes.causes(truth(), table, [batch()])


def line(iteration, loss, lr) -> dict[str, float]:
    return {"iteration": iteration, "loss": loss, "lr": lr}


FALLING = [line(20, 2.0, 0.01), line(40, 1.5, 0.01)]


def test_the_largest_score_is_over_all_priors_and_the_modes_remain(model):
    model.train()
    modes = [m.training for m in model.modules()]
    with torch.no_grad():
        model.head.cls_logits.weight.zero_()
        model.head.cls_logits.bias.copy_(torch.tensor([0.0, 1.0, -1.0]))
    assert largest_score(model, batch()) == pytest.approx(1 / (1 + math.exp(-1)))
    assert [m.training for m in model.modules()] == modes
    assert not model.head._forward_hooks


def test_the_threshold_above_all_scores_is_named_with_the_largest(model):
    (found,) = causes(scored(model, 0.04))
    assert f"no class score is above {KEY} 0.05" in found and "0.0400" in found
    assert "first 2 images" in found


def test_the_threshold_is_not_named_if_there_are_detections(model):
    (found,) = causes(scored(model, 0.06), table=np.array([[1.0, 40, 40, 5, 5, 0.06, 1]]))
    assert "IoU 0.5" in found


def test_only_averaged_weights_are_named_if_the_trained_ones_detect_more(model):
    (found,) = causes(scored(model, 0.02), scored(model, 0.8), FALLING)
    assert "averaged weights" in found and "% of the norm" in found
    assert "is 0.0200, that of the trained weights is 0.8000" in found and "EMA_RAMP True" in found


def test_averaged_weights_are_not_named_if_the_trained_ones_detect_no_more(model):
    found = causes(scored(model, 0.02), scored(model, 0.03), FALLING)
    assert len(found) == 2 and KEY in found[0] and not any("averaged" in x for x in found)


def test_broken_weights(model):
    broken = scored(model, 0.5)
    broken.head.cls_logits.bias.data[0] = math.nan
    (found,) = causes(broken)
    assert "NaN" in found


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([], []),
        (FALLING[:1], []),
        (FALLING, ["the loss still falls at iteration 40 (from 2 to 1.5)"]),
        (
            [line(20, 2.0, 0.01), line(40, 2.1, 0.01)],
            ["the loss has risen up to iteration 40 (from 2 to 2.1,"],
        ),
        (
            [line(20, 2.0, 0.001), line(40, 1.96, 0.002)],
            ["the learning rate still rises at iteration 40 (to 0.002)"],
        ),
        # Of eight lines the first and last two count.
        (
            [line(i, x, 0.01) for i, x in enumerate([3, 2, 9, 9, 9, 9, 2, 3], 1)],
            ["the loss has hardly fallen up to iteration 8 (from 2.5 to 2.5,"],
        ),
        ([line(i, x, 0.01) for i, x in enumerate([4, 3, 2, 2, 2, 2, 2, 1.95], 1)], []),
        ([line(20, 2.0, 0.01), {"iteration": 30, "dataset": "val", "AP": 0.0}], []),
        ([line(20, 2.0, 0.01), line(40, None, 0.01)], []),
    ],
)
def test_causes_from_the_log(model, records, expected):
    found = causes(scored(model, 0.5), records=records, table=np.zeros((0, 7)))
    assert len(found) == len(expected)
    assert all(x.startswith(start) for x, start in zip(found, expected, strict=True))
