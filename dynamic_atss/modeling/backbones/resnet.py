"""Defines ResNet and ResNeXt in the form and with the names of the published checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from dynamic_atss.modeling.backbones.frozen import FrozenParts, check_freeze_at
from dynamic_atss.modeling.layers import ModulatedDeformConv, conv_norm, make_norm

# depth: (blocks per stage, bottleneck?)
DEPTHS: dict[int, tuple[tuple[int, int, int, int], bool]] = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}
STAGES = ("layer1", "layer2", "layer3", "layer4")


def _conv(c_in: int, c_out: int, size: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, size, stride, padding=size // 2, groups=groups, bias=False)


class Stem(nn.Module):
    """Applies a 7x7 convolution and max pooling with a total stride of 4."""

    def __init__(self, out_channels: int, norm: str) -> None:
        super().__init__()
        self.conv1 = _conv(3, out_channels, 7, stride=2)
        self.bn1 = make_norm(norm, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Gives (N, out_channels, H/4, W/4) of x (N, 3, H, W)."""
        x = F.relu_(conv_norm(x, self.conv1, self.bn1))
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


def _downsample(c_in: int, c_out: int, stride: int, norm: str) -> nn.Sequential | None:
    """Makes the projection of the shortcut if the shape changes."""
    if c_in == c_out and stride == 1:
        return None
    return nn.Sequential(_conv(c_in, c_out, 1, stride), make_norm(norm, c_out))


def _second_conv(deform: dict[str, Any] | None) -> Callable[..., nn.Module]:
    """Gives the class of a block's second convolution.

    Args:
        deform: options of a deformable convolution; None: a plain one.
    """
    return _conv if deform is None else partial(ModulatedDeformConv, **deform)


class BasicBlock(nn.Module):
    """Applies two 3x3 convolutions (ResNet-18 and 34). `deform` makes the second one deformable."""

    def __init__(
        self, c_in: int, c_out: int, *, stride: int, norm: str, deform: dict[str, Any] | None
    ) -> None:
        super().__init__()
        self.downsample = _downsample(c_in, c_out, stride, norm)
        self.conv1 = _conv(c_in, c_out, 3, stride)
        self.bn1 = make_norm(norm, c_out)
        self.conv2 = _second_conv(deform)(c_out, c_out, 3)
        self.bn2 = make_norm(norm, c_out)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else conv_norm(x, *self.downsample)
        y = F.relu_(conv_norm(x, self.conv1, self.bn1))
        return F.relu_(conv_norm(y, self.conv2, self.bn2).add_(shortcut))


class Bottleneck(nn.Module):
    """Applies three convolutions: 1x1, 3x3 (grouped, optionally deformable), 1x1.

    The first (MSRA) or the second one has the stride.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        width: int,
        groups: int,
        stride: int,
        stride_in_1x1: bool,
        norm: str,
        deform: dict[str, Any] | None,
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.downsample = _downsample(c_in, c_out, stride, norm)
        self.conv1 = _conv(c_in, width, 1, first)
        self.bn1 = make_norm(norm, width)
        self.conv2 = _second_conv(deform)(width, width, 3, stride=second, groups=groups)
        self.bn2 = make_norm(norm, width)
        self.conv3 = _conv(width, c_out, 1)
        self.bn3 = make_norm(norm, c_out)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else conv_norm(x, *self.downsample)
        y = F.relu_(conv_norm(x, self.conv1, self.bn1))
        y = F.relu_(conv_norm(y, self.conv2, self.bn2))
        return F.relu_(conv_norm(y, self.conv3, self.bn3).add_(shortcut))


class ResNet(FrozenParts):
    """Computes the maps of ResNet-18/34/50/101/152 or ResNeXt.

    `out_channels` lists the channels of the maps.

    Args:
        norm: see `make_norm`.
        num_groups, width_per_group: of the 3x3 convolutions (ResNeXt 32x8d: 32 and 8).
        stride_in_1x1: True for MSRA weights.
        deformable: flags of the stages C2 to C5.
        modulated, deformable_groups: of the deformable convolutions.
        freeze_at: number of parts that do not learn, with the statistics of their norms. 1: the
            stem, 2: also layer1, ...
        stem_out, res2_out: channels of the stem and of C2. With BasicBlock, C2 has a quarter of
            res2_out, so 256 gives the usual 64.
        out_levels: the maps to give, 3 is C3 at stride 8.

    Raises:
        ValueError: the arguments cannot be combined.
    """

    def __init__(
        self,
        depth: int,
        *,
        norm: str = "FrozenBN",
        num_groups: int = 1,
        width_per_group: int = 64,
        stride_in_1x1: bool = True,
        deformable: Sequence[bool] = (False, False, False, False),
        modulated: bool = True,
        deformable_groups: int = 1,
        freeze_at: int = 2,
        stem_out: int = 64,
        res2_out: int = 256,
        out_levels: Sequence[int] = (3, 4, 5),
    ) -> None:
        super().__init__()
        _check(depth, num_groups, width_per_group, deformable, freeze_at, res2_out)
        self.stride_in_1x1 = stride_in_1x1
        self.out_levels = tuple(out_levels)
        counts, bottleneck = DEPTHS[depth]
        common: dict[str, Any] = {"norm": norm}
        if bottleneck:
            common |= {"groups": num_groups, "stride_in_1x1": stride_in_1x1}
        dcn = {"modulated": modulated, "deformable_groups": deformable_groups}
        self.stem = Stem(stem_out, norm)
        channels = [stem_out]
        for i, name in enumerate(STAGES):
            options = common | {"deform": dcn if deformable[i] else None}
            if bottleneck:
                options["width"] = num_groups * width_per_group * 2**i
            c_in, c_out = channels[-1], res2_out * 2**i // (1 if bottleneck else 4)
            channels.append(c_out)
            if deformable[i]:
                _check_groups(name, options.get("width", c_out), deformable_groups)
            block = partial(Bottleneck if bottleneck else BasicBlock, **options)
            self.add_module(name, _stage(block, c_in, c_out, counts[i], 1 if i == 0 else 2))
        self.out_channels = [channels[level - 1] for level in self.out_levels]
        self._init_weights()
        parts = [self.stem, *(getattr(self, name) for name in STAGES)]
        self.freeze(parts[:freeze_at])

    def _init_weights(self) -> None:
        """Initialises by He's method for the backward pass.

        This works for training from scratch with a norm that learns. The release's uniform
        initialisation with a=1 has half the variance. Pretrained weights replace it.
        """
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and not name.endswith(".offset"):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        """Gives the maps of `out_levels` of x (N, 3, H, W). C3 is (N, C, H/8, W/8)."""
        x = self.stem(x)
        maps = {}
        for level, name in enumerate(STAGES, start=2):
            x = getattr(self, name)(x)
            maps[level] = x
        return [maps[level] for level in self.out_levels]


def _stage(block: Any, c_in: int, c_out: int, count: int, stride: int) -> nn.Sequential:
    blocks = [block(c_in, c_out, stride=stride)]
    blocks += [block(c_out, c_out, stride=1) for _ in range(count - 1)]
    return nn.Sequential(*blocks)


def _check_groups(stage: str, channels: int, groups: int) -> None:
    if channels % groups:
        raise ValueError(
            f"the {channels} channels of the deformable convolutions of {stage} do not divide into "
            f"{groups} deformable groups"
        )


def _check(
    depth: int,
    num_groups: int,
    width_per_group: int,
    deformable: Sequence[bool],
    freeze_at: int,
    res2_out: int,
) -> None:
    if depth not in DEPTHS:
        raise ValueError(f"no ResNet-{depth}: depth must be one of {', '.join(map(str, DEPTHS))}")
    if not DEPTHS[depth][1] and (num_groups, width_per_group) != (1, 64):
        raise ValueError(f"ResNet-{depth} has no bottlenecks: groups and widths must be 1 and 64")
    if not DEPTHS[depth][1] and res2_out % 4:
        raise ValueError(f"ResNet-{depth}: res2_out is {res2_out}; it must be a multiple of 4")
    if len(deformable) != 4:
        raise ValueError(f"deformable needs four flags, C2 to C5, not {len(deformable)}")
    check_freeze_at(freeze_at, 1 + len(STAGES), "the stem and four stages")
