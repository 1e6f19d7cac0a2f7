"""Tests that the optimizer resumes on another device, and with SOLVER.FUSED changed.

Fused kernels exist for CPUs, too, and stand for those of a GPU here.
"""

from copy import deepcopy
from itertools import product

import pytest
import torch

from dynamic_atss.builders import build_optimizer
from dynamic_atss.config.load import load_config
from dynamic_atss.engine.state import _restore_optimizer

KINDS = {
    "sgd": lambda groups, fused: torch.optim.SGD(groups, momentum=0.9, fused=fused),
    "adamw": lambda groups, fused: torch.optim.AdamW(groups, fused=fused),
}


def make(kind, fused, channels_last=False):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 2, 1))
    if channels_last:
        net.to(memory_format=torch.channels_last)
    weights, biases = zip(*((m.weight, m.bias) for m in net), strict=True)
    groups = [{"params": weights, "lr": 0.1, "weight_decay": 0.01}, {"params": biases, "lr": 0.2}]
    return net, KINDS[kind](groups, fused)


def step(net, optimizer, seed):
    optimizer.zero_grad()
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    net(x).square().mean().backward()
    optimizer.step()


def resumed(kind, fused, content, net, **options):
    other, optimizer = make(kind, fused, **options)
    other.load_state_dict(net.state_dict())
    _restore_optimizer(optimizer, content)
    return other, optimizer


def values(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


@pytest.mark.parametrize("kind, before, now", [*product(KINDS, (None, True), (None, False, True))])
def test_a_run_resumes_with_another_setting(kind, before, now):
    net, optimizer = make(kind, before)
    for seed in range(3):
        step(net, optimizer, seed)
    content = deepcopy(optimizer.state_dict())
    other, its = resumed(kind, now, content, net)
    assert {group["fused"] for group in its.param_groups} == {now}
    for seed in (3, 4):
        step(net, optimizer, seed)
        step(other, its, seed)
    if before is now:
        assert torch.equal(values(other), values(net))
    torch.testing.assert_close(values(other), values(net), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_without_the_setting_resumes_to_the_bit(kind):
    net, optimizer = make(kind, None)
    step(net, optimizer, 0)
    content = deepcopy(optimizer.state_dict())
    for group in content["param_groups"]:
        del group["fused"]
    other, its = resumed(kind, None, content, net)
    step(net, optimizer, 1)
    step(other, its, 1)
    assert torch.equal(values(other), values(net))


def test_counts_are_where_the_kernel_of_now_reads_them():
    """The count of a for-loop stays on the host; a fused kernel reads it on the device."""
    net, optimizer = make("adamw", None)
    step(net, optimizer, 0)
    content = deepcopy(optimizer.state_dict())
    with torch.device("meta"):  # a device that is not the host
        other = torch.nn.Conv2d(3, 4, 3)
    for state in content["state"].values():
        state["step"] = state["step"].double()  # a fused kernel takes float32 alone
    content["param_groups"] = [{**content["param_groups"][0], "params": [0]}]
    content["state"] = {0: content["state"][0]}
    for fused, device in ((None, "cpu"), (True, "meta")):
        its = torch.optim.AdamW([other.weight], fused=fused)
        _restore_optimizer(its, content)
        count = its.state[other.weight]["step"]
        assert (count.device.type, count.dtype == torch.float32) == (device, bool(fused))


@pytest.mark.parametrize("kind, before, now", [*product(KINDS, (False, True), (False, True))])
def test_momenta_have_the_strides_of_their_weights(kind, before, now):
    net, optimizer = make(kind, True, channels_last=before)
    step(net, optimizer, 0)
    other, its = resumed(kind, True, deepcopy(optimizer.state_dict()), net, channels_last=now)
    for parameter, state in its.state.items():
        moments = [x for name, x in state.items() if name != "step"]
        assert moments and all(x.stride() == parameter.stride() for x in moments)
    step(net, optimizer, 1)
    step(other, its, 1)
    torch.testing.assert_close(values(other), values(net), rtol=1e-4, atol=1e-5)


def test_another_optimizer_does_not_fit():
    net, optimizer = make("sgd", None)
    step(net, optimizer, 0)
    with pytest.raises(ValueError, match=r"SOLVER\.OPTIMIZER"):
        resumed("adamw", True, optimizer.state_dict(), net)


class OnGpu(torch.nn.Parameter):
    """A weight that says that it is on a GPU."""

    is_cuda = True


@pytest.mark.parametrize(
    "name, setting, there, expected",
    [
        *product(KINDS, ["True"], [True], [True]),
        *product(KINDS, ["False"], [True], [None]),
        *product(KINDS, ["True", "False"], [False], [None]),  # the trajectories of former releases
    ],
)
def test_fused_kernels_only_on_a_gpu(name, setting, there, expected):
    cfg = load_config(None, ["SOLVER.OPTIMIZER", name, "SOLVER.FUSED", setting])
    model = torch.nn.Linear(2, 2)
    if there:
        model.weight, model.bias = (OnGpu(x) for x in (model.weight.data, model.bias.data))
    optimizer = build_optimizer(cfg, model)
    assert {group["fused"] for group in optimizer.param_groups} == {expected}
