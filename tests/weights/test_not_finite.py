"""Weights with NaN or infinity are refused when a file is loaded or converted."""

import math

import pytest
import torch
from test_weights import _copy, _model

from dynamic_atss.errors import UserError
from dynamic_atss.weights import load_weights, to_published
from dynamic_atss.weights.convert import convert

NAME = "head.quality.bias"


def damaged(values):
    """Makes the state of a small detector, with counters; fills the named entries with `values`."""
    state = _model(18, norm="BN", seed=1).state_dict()
    for name, value in values.items():
        state[name] = torch.full_like(state[name], value)
    return state


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_entry_is_named_and_the_model_is_unchanged(tmp_path, value):
    torch.save({"model": to_published(damaged({NAME: value}))}, tmp_path / "x.pth")
    model = _model(18, norm="BN")
    before = _copy(model)
    with pytest.raises(UserError, match=r"x\.pth: 1 of \d+ entries .*centerness\.bias, 1 of"):
        load_weights(model, tmp_path / "x.pth")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_all_entries_of_a_diverged_training_are_counted():
    state = damaged({})
    floats = {n: math.nan for n, v in state.items() if v.is_floating_point()}
    with pytest.raises(UserError, match=f"a file: {len(floats)} of {len(state)} entries hold NaN"):
        convert({"model": to_published(damaged(floats))}, "a file", "project")


def test_integers_are_not_checked(tmp_path):
    largest = torch.iinfo(torch.int64).max
    state = damaged({"backbone.body.stem.bn1.num_batches_tracked": largest})
    torch.save({"model": to_published(state)}, tmp_path / "x.pth")
    model = _model(18, norm="BN")
    load_weights(model, tmp_path / "x.pth")
    assert model.state_dict()["backbone.body.stem.bn1.num_batches_tracked"] == largest
