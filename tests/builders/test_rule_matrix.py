"""Every rule on every head builds, trains a step and tests, or is refused in one line."""

from math import isfinite

import pytest
import torch
from helpers_run import load_module

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.builders.heads import HEADS
from dynamic_atss.errors import UserError

matrix = load_module("benchmarks/rule_matrix.py")
# Rule and head -> words of the reason. A pair that is not here must run.
REFUSED: dict[tuple[str, str], str] = {}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("rule", ASSIGNERS)
def test_it_trains_and_tests_or_says_why_not(rule, head):
    torch.manual_seed(0)
    batch = matrix.a_batch()
    try:
        model = matrix.detector(rule, head)
        losses = matrix.step(model, batch)
    except UserError as error:
        reason = str(error)
        assert REFUSED[rule, head] in reason and "\n" not in reason
        return
    assert (rule, head) not in REFUSED
    assert all(map(isfinite, losses.values()))
    kind = "retina_" if head == "retinanet" else ""
    assert losses[f"loss_{kind}cls"] > 0
    assert losses[f"loss_{kind}reg"] > 0  # there are positives
    assert model.head.bbox_pred.weight.grad.abs().sum() > 0
    assert matrix.found(model, batch) > 0


def test_the_table_has_a_line_for_each_rule_and_says_why_a_pair_is_refused(monkeypatch):
    monkeypatch.setattr(matrix, "ASSIGNERS", {"atss": ASSIGNERS["atss"]})
    assert matrix.table().splitlines()[2] == (
        "| `atss` | yes | yes, points as 8 strides | yes | yes, points as 8 strides |"
    )

    def refuse(*_):
        raise UserError("does not fit")

    monkeypatch.setattr(matrix, "detector", refuse)
    assert matrix.table().count("no: does not fit") == 4
