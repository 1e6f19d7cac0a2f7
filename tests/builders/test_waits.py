"""A train step waits for the device only once, for the log.

The test runs on the CPU and counts the operators that would wait on a GPU.
"""

from collections import Counter

import pytest
import torch
from helpers_run import TINY
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from dynamic_atss.assigners import ASSIGNERS, all_priors
from dynamic_atss.assigners.rules import dynamic_soft_label, simota
from dynamic_atss.builders import build_lr_factor, build_model, build_optimizer
from dynamic_atss.config.load import load_config
from dynamic_atss.engine.trainer import Trainer
from dynamic_atss.types import Assignment, Batch, GroundTruth

# The results of these operators, or their sizes, come from the device. lift_fresh makes a tensor of
# Python numbers, and its copy to the device waits.
WAITING = {
    "aten::_local_scalar_dense",
    "aten::is_nonzero",
    "aten::equal",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::lift_fresh",
}


class Waits(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        name = operator._schema.name
        masks = name == "aten::index" and any(
            x is not None and x.dtype == torch.bool for x in args[1]
        )
        # `GroundTruth.extent` and all values derived from it are float64 on the host.
        on_host = name == "aten::_local_scalar_dense" and args[0].dtype == torch.float64
        self.found[name] += (name in WAITING or masks) and not on_host
        return operator(*args, **(kwargs or {}))


def a_batch():
    images = torch.randint(256, (2, 3, 64, 96), dtype=torch.uint8)
    boxes = torch.tensor([[4.0, 4, 40, 50], [20, 10, 80, 60], [10, 20, 30, 40]])
    gt = GroundTruth(boxes, torch.tensor([0, 2, 1]), torch.tensor([0, 0, 1]))
    for name in gt.HOST:  # read before the batch goes to the device
        getattr(gt, name)
    return Batch(images, torch.tensor([[64, 96], [60, 90]]), gt, (11, 12), ((64, 96), (60, 90)))


@pytest.mark.parametrize("rule", [n for n, r in ASSIGNERS.items() if not getattr(r, "waits", 0)])
def test_a_train_step_waits_for_the_device_for_the_log_alone(tmp_path, rule, monkeypatch):
    (tmp_path / "tiny.yaml").write_text(TINY)
    cfg = load_config(tmp_path / "tiny.yaml", ["MODEL.ASSIGNER.NAME", rule])
    assert waits_of_a_step(cfg, build_model(cfg, 3), monkeypatch) == {}


class Weighing(nn.Module):
    """Dynamic ATSS with a trainable weight, a loss term and a metric."""

    soft_labels, quality_name, needs_size = True, "IoU", True

    def __init__(self):
        super().__init__()
        self.rule = ASSIGNERS["dynamic_atss"]()
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, *args):
        found = self.rule(*args)
        weight = self.scale.expand(found.gt_index.shape)
        terms = {"loss_scale": self.scale.square()}, {"scale": self.scale, "three": 3}
        return Assignment(found.gt_index, found.quality, weight, weight / 4, *terms)


def test_a_rule_that_learns_does_not_wait_either(tmp_path, monkeypatch):
    (tmp_path / "tiny.yaml").write_text(TINY)
    cfg = load_config(tmp_path / "tiny.yaml", ["MODEL.ASSIGNER.AT_LEAST_ONE", "True"])
    model = build_model(cfg, 3)
    model.criterion.assigner.rule = Weighing()
    assert waits_of_a_step(cfg, model, monkeypatch) == {}
    assert model.criterion.assigner.rule.scale != 0.5


def waits_of_a_step(cfg, model, monkeypatch):
    """Counts the operators of a train step that wait for the device."""
    monkeypatch.setattr(Trainer, "_check_weights", lambda *_: None)  # before a checkpoint only
    for module in (all_priors, dynamic_soft_label, simota):  # as on a GPU
        monkeypatch.setattr(module, "readable", lambda values: False)
    run = Trainer(
        model=model,
        loader=[a_batch()],
        optimizer=build_optimizer(cfg, model),
        lr_factor=build_lr_factor(cfg),
        device=torch.device("cpu"),
        save=lambda _: None,
        log=lambda _: None,
        evaluate=lambda _: None,
        start=0,
        stop=1,
        clip_grad_norm=10.0,
    )
    run.train()  # priors and lattices are made once, and a rule's first answer is looked at
    run.start, run.stop = 1, 2
    with Waits() as waits:
        run.train()
    # The log's `tolist` of a tensor on the CPU is no operator.
    return +waits.found
