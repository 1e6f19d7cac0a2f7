"""Defines a custom head: ATSS's head with one tower for all branches, which takes half the time.

python tools/train_net.py --config-file configs/quickstart/bccd_R_18.yaml \
  MODEL.HEAD.NAME examples/shared_tower_head.py:SharedTowerHead MODEL.HEAD.ARGS.convs 2
"""

import math

import torch
from torch import nn
from yacs.config import CfgNode

from dynamic_atss.builders.heads.atss import ATSSHead
from dynamic_atss.modeling.head import HeadOutput


def flat(x: torch.Tensor, values: int) -> torch.Tensor:
    """Reshapes (N, values, H, W) to (N, H * W, values), the order of the priors."""
    return x.flatten(2).transpose(1, 2).reshape(x.shape[0], -1, values).float()


class SharedTower(nn.Module):
    """Computes the output of feature maps (N, channels, H, W), finest first."""

    def __init__(self, channels: int, classes: int, convs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(convs):
            layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()]
        self.tower = nn.Sequential(*layers)
        self.branches = nn.Conv2d(channels, classes + 5, 3, padding=1)  # logits, deltas, quality
        self.classes = classes
        nn.init.normal_(self.branches.weight, std=0.01)
        bias = torch.zeros(classes + 5)
        bias[:classes] = -math.log(99)  # all scores start at 0.01
        self.branches.bias = nn.Parameter(bias)

    def forward(self, features: list[torch.Tensor]) -> HeadOutput:
        maps = [self.branches(self.tower(x)) for x in features]
        found = torch.cat([flat(x, self.classes + 5) for x in maps], dim=1)
        logits, deltas, quality = found.split([self.classes, 4, 1], dim=2)
        sizes = tuple((x.shape[2], x.shape[3]) for x in features)
        return HeadOutput(logits, deltas, quality.squeeze(2), sizes)


class SharedTowerHead(ATSSHead):
    """Uses priors, rule, losses and the keys of MODEL.ATSS unchanged."""

    def __init__(self, cfg: CfgNode, convs: int = 4) -> None:
        super().__init__(cfg)
        self.convs = convs

    def network(self, channels: int, classes: int) -> nn.Module:
        return SharedTower(channels, classes, self.convs)
