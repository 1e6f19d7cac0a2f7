"""Tests the parameter groups: which weights decay, and which learn faster."""

import pytest
import torch
from torch import nn

from dynamic_atss.engine.optim import parameter_groups
from dynamic_atss.modeling.backbones import Swin
from dynamic_atss.modeling.layers import ModulatedDeformConv


def by_name(model: nn.Module, **options) -> dict[str, tuple[float, float]]:
    """Gives (learning rate, weight decay) of every parameter."""
    groups = parameter_groups(model, lr=1.0, weight_decay=0.05, **options)
    found = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert len(found) == sum(len(g["params"]) for g in groups)
    return {name: found[id(p)] for name, p in model.named_parameters()}


def a_model() -> nn.Module:
    norms = {"ln": nn.LayerNorm(4), "gn": nn.GroupNorm(2, 4), "bn": nn.BatchNorm2d(4)}
    model = nn.ModuleDict({"conv": nn.Conv2d(4, 4, 1), **norms})
    model.relative_position_bias_table = nn.Parameter(torch.zeros(3))
    return model


def test_without_norm_weight_decay_norms_and_tables_decay_like_weights():
    found = by_name(a_model(), bias_lr_factor=2.0, bias_weight_decay=0.01)
    for name, (lr, decay) in found.items():
        assert (lr, decay) == ((2.0, 0.01) if name.endswith(".bias") else (1.0, 0.05)), name


@pytest.mark.parametrize("decay", [0.0, 0.02])
def test_norm_weight_decay_applies_to_biases_of_norms_and_position_tables(decay):
    found = by_name(a_model(), bias_lr_factor=1.0, bias_weight_decay=0.05, norm_weight_decay=decay)
    for name, (lr, got) in found.items():
        assert (lr, got) == (1.0, 0.05 if name.startswith("conv.") else decay), name


def test_biases_of_norms_and_offsets_as_in_mmdetection():
    """Its constructor does not apply bias_lr_mult and bias_decay_mult to them."""
    model = a_model()
    model.dcn = ModulatedDeformConv(4, 4, bias=True)
    found = by_name(model, bias_lr_factor=2.0, bias_weight_decay=0.0, norm_bias_lr_factor=1.0)
    for name, rates in found.items():
        doubled = name in ("conv.bias", "dcn.conv.bias")
        assert rates == ((2.0, 0.0) if doubled else (1.0, 0.05)), name


def test_swin_as_dsla_trains_it():
    """DSLA has no decay for parameters that mmdetection calls norm or position table."""
    with torch.device("meta"):
        body = Swin("T")
    found = by_name(body, bias_lr_factor=1.0, bias_weight_decay=0.05, norm_weight_decay=0.0)
    free = {name for name, (_, decay) in found.items() if decay == 0.0}
    tables = [name for name in free if name.endswith(".relative_position_bias_table")]
    assert len(tables) == 12  # one per block
    # A weight and a bias each: of the patches, two per block, three mergings, three maps.
    assert len(free) - len(tables) == 2 * (1 + 2 * 12 + 3 + 3)
    assert all(lr == 1.0 for lr, _ in found.values())
