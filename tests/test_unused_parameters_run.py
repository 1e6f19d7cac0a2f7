"""Tests that two processes can train heads with a part that enters no loss."""

import pytest
from helpers_run import call_tool, run_tool, write_config
from test_distributed import EVERY, FROZEN, TORCHRUN, check_same_training

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]

HEADS = """
import torch
from torch import nn

from dynamic_atss.builders.heads.atss import ATSSHead
from dynamic_atss.modeling.branches import BranchCriterion
from dynamic_atss.modeling.criterion import Criterion


class Network(nn.Module):
    def __init__(self, head, channels):
        super().__init__()
        self.head = head
        self.further = nn.Conv2d(channels, 1, 1)


class WithMap(Network):
    def forward(self, features):
        maps = [self.further(x).flatten(2).mT for x in features]
        return self.head(features)._replace(extras={"further": torch.cat(maps, 1)})


class WithBranch(Network):
    def forward(self, features):
        moved = [self.further(x) * x for x in features]
        return {"main": self.head(features), "beside": self.head(moved)}


class Map(ATSSHead):
    def network(self, channels, classes):
        return WithMap(super().network(channels, classes), channels)


class Branch(ATSSHead):
    def network(self, channels, classes):
        return WithBranch(super().network(channels, classes), channels)

    def criterion(self, assigner, coder):
        return BranchCriterion({"main": super().criterion(assigner, coder)})

    def postprocess_arguments(self):
        return {**super().postprocess_arguments(), "branch": "main"}


class Ignoring(Criterion):
    def losses(self, found, output, priors, gt):
        return super().losses(found, output._replace(quality=None), priors, gt)


class NoQuality(ATSSHead):
    def criterion_type(self):
        return Ignoring
"""


@pytest.mark.parametrize("head", ["Map", "Branch", "NoQuality"])
def test_a_part_of_the_head_that_is_in_no_loss(head, tmp_path, monkeypatch):
    (tmp_path / "heads.py").write_text(HEADS)
    name = ["MODEL.ATSS_ON", False, "MODEL.HEAD.NAME", f"{tmp_path / 'heads.py'}:{head}"]
    args = [*write_config(tmp_path), *FROZEN, *EVERY, *name, "--skip-test", "OUTPUT_DIR"]
    one, two = tmp_path / "one", tmp_path / "two"
    assert call_tool(monkeypatch, "train_net", [*args, one]) == 0
    ended = run_tool("train_net", [*args, two], TORCHRUN)
    assert ended.returncode == 0, ended.stderr
    check_same_training(one, two)
