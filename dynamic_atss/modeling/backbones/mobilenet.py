"""Defines MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381) with the FCOS release's names."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from torch import Tensor, nn
from torchvision.models import mobilenet_v2
from torchvision.models.mobilenetv2 import InvertedResidual

from dynamic_atss.modeling.backbones.frozen import FrozenParts, check_freeze_at
from dynamic_atss.modeling.layers import make_norm

PARTS = 18  # the stem and 17 blocks, without torchvision's last 1x1 convolution
OUT_PARTS = (6, 13, 17)  # the last block of strides 8, 16 and 32


class MobileNetV2(FrozenParts):
    """Computes C3, C4, C5 by MobileNetV2 of width 1.

    The maps have 32, 96 and 320 channels and strides 8, 16 and 32. The blocks are torchvision's,
    with their layers in one sequence as in the release (`features.2.conv.3` instead of
    torchvision's `features.2.conv.1.0`).

    Args:
        norm: see `make_norm`. The release trains batch norm ("BN" or "SyncBN").
        freeze_at: number of parts that do not learn. 1: the stem, 2: also the first block, ... 18:
            all.

    Raises:
        ValueError: the norm is unknown, or freeze_at is out of range.
    """

    def __init__(self, *, norm: str = "BN", freeze_at: int = 0) -> None:
        super().__init__()
        check_freeze_at(freeze_at, PARTS, "the stem and 17 blocks")
        model = mobilenet_v2(weights=None, norm_layer=partial(make_norm, norm))
        self.features = model.features[:PARTS]
        self.out_channels = []
        for index, part in enumerate(self.features):
            if isinstance(part, InvertedResidual):
                part.conv = nn.Sequential(*_layers(part.conv))
            if index in OUT_PARTS:
                self.out_channels.append(part.out_channels)
        self.freeze(list(self.features[:freeze_at]))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Gives C3, C4, C5 of x (N, 3, H, W). C3 is (N, 32, ceil(H/8), ceil(W/8))."""
        maps = []
        for index, part in enumerate(self.features):
            x = part(x)
            if index in OUT_PARTS:
                maps.append(x)
        return maps


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    """Gives the layers of nested sequences in order."""
    for child in module.children():
        if isinstance(child, nn.Sequential):
            yield from _layers(child)
        else:
            yield child
