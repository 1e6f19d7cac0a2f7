"""Makes the convolutions between the FPN and the predictions."""

from __future__ import annotations

from torch import nn

from dynamic_atss.modeling.layers import ModulatedDeformConv

GROUPS = 32  # groups of the group norm, as published


def tower(
    channels: int,
    num_convs: int,
    deformable_last: bool = False,
    *,
    norm: bool = True,
    bias: bool = True,
) -> nn.Sequential:
    """Makes `num_convs` layers of 3x3 convolution, group norm and ReLU on (N, channels, H, W).

    Args:
        deformable_last: True makes the last convolution a modulated deformable one.
        norm: True uses group norm, with 32 groups, or 4 for 32 channels.

    Raises:
        ValueError: `channels` is not a multiple of 32.
    """
    if norm and channels % GROUPS:
        raise ValueError(f"a tower of {channels} channels: group norm needs a multiple of {GROUPS}")
    layers: list[nn.Module] = []
    for i in range(num_convs):
        deformable = deformable_last and i == num_convs - 1
        conv = ModulatedDeformConv if deformable else nn.Conv2d
        layers.append(conv(channels, channels, 3, padding=1, bias=bias))
        if norm:
            # On a map of 1 x 1 a group of one channel has no variance, and torch raises.
            groups = GROUPS if channels > GROUPS else channels // 8
            layers.append(nn.GroupNorm(groups, channels))
        layers.append(nn.ReLU(inplace=True))
    for name, parameter in nn.Sequential(*layers).named_parameters():
        if parameter.ndim == 4 and ".offset." not in name:  # offsets start at 0, like a plain conv
            nn.init.normal_(parameter, std=0.01)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
    return nn.Sequential(*layers)
