"""Tests the dual head: computed branches, gradients, and names in checkpoints."""

from copy import deepcopy

import pytest
import torch

from dynamic_atss.modeling.dual import ONE_TO_MANY, ONE_TO_ONE, Dual
from dynamic_atss.modeling.head import DenseHead


def head():
    return DenseHead(32, 3, num_levels=2, num_convs=1)


@pytest.fixture
def dual():
    torch.manual_seed(0)
    return Dual(head(), head())


def branch_of(dual, name):
    return dual.many if name == ONE_TO_MANY else dual.one_to_one


def features(gradient=False):
    generator = torch.Generator().manual_seed(1)
    maps = [torch.randn(2, 32, side, side, generator=generator) for side in (4, 2)]
    return [x.requires_grad_(gradient) for x in maps]


def test_each_branch_is_its_head(dual):
    found = dual(features())
    assert list(found) == [ONE_TO_MANY, ONE_TO_ONE]
    for name, branch in found.items():
        alone = branch_of(dual, name)(features())
        assert torch.equal(branch.logits, alone.logits) and torch.equal(branch.deltas, alone.deltas)
    assert not torch.equal(found[ONE_TO_MANY].logits, found[ONE_TO_ONE].logits)


@pytest.mark.parametrize(("branch", "reaches"), [(ONE_TO_MANY, True), (ONE_TO_ONE, False)])
def test_the_features_learn_from_one_branch(dual, branch, reaches):
    maps = features(gradient=True)
    output = dual(maps)[branch]
    (output.logits.sum() + output.deltas.sum() + output.quality.sum()).backward()
    assert all((x.grad is not None) == reaches for x in maps)
    for name in (ONE_TO_MANY, ONE_TO_ONE):
        grads = [p.grad for p in branch_of(dual, name).parameters()]
        assert all((grad is not None) == (name == branch) for grad in grads)


@pytest.mark.parametrize("read", [ONE_TO_MANY, ONE_TO_ONE, None])
def test_evaluation_computes_what_is_read(dual, read):
    dual.read = read
    assert list(dual.train()(features())) == [ONE_TO_MANY, ONE_TO_ONE]
    expected = [ONE_TO_MANY, ONE_TO_ONE] if read is None else [read]
    assert list(dual.eval()(features())) == expected


def test_names_in_checkpoints(dual):
    alone = set(head().state_dict())
    wanted = alone | {f"one_to_one.{name}" for name in alone}
    assert set(dual.state_dict()) == wanted
    assert {name for name, _ in dual.named_parameters()} == wanted  # a head has no buffers
    within = torch.nn.ModuleDict({"head": dual})
    assert set(within.state_dict()) == {f"head.{name}" for name in wanted}
    assert {name for name, _ in within.named_parameters()} == set(within.state_dict())


def test_a_checkpoint_brings_both_branches_back(dual):
    torch.manual_seed(5)
    within, other = (torch.nn.ModuleDict({"head": x}) for x in (dual, Dual(head(), head())))
    other.load_state_dict(deepcopy(within.state_dict()))
    for name, branch in dual(features()).items():
        assert torch.equal(branch.logits, other["head"](features())[name].logits)
    missing = {k: v for k, v in dual.state_dict().items() if not k.startswith("one_to_one.scales")}
    with pytest.raises(RuntimeError, match=r"one_to_one\.scales\.0"):
        Dual(head(), head()).load_state_dict(missing)


def test_a_copy_learns_alone(dual):
    copy = deepcopy(dual)
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.zero_()
    assert dual(features())[ONE_TO_ONE].logits.abs().sum() > 0
    assert (
        len(list(copy.parameters()))
        == len(list(dual.parameters()))
        == 2 * len(list(head().parameters()))
    )
