"""Defines the feature pyramid P3 to P7 with the names of the published checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from dynamic_atss.modeling.layers import fill_bias, make_norm


def _conv(c_in: int, c_out: int, size: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    conv = nn.Conv2d(c_in, c_out, size, stride, padding=size // 2, bias=bias)
    nn.init.kaiming_uniform_(conv.weight, a=1)
    fill_bias(conv, 0.0)
    return conv


def _conv_norm(c_in: int, c_out: int, size: int, norm: str | None, relu: bool) -> nn.Module:
    """Makes a convolution, or a Sequential of it with norm and ReLU. Names are the releases'."""
    layers: list[nn.Module] = [_conv(c_in, c_out, size, bias=norm is None)]
    if norm is not None:
        layers.append(make_norm(norm, c_out))
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers) if len(layers) > 1 else layers[0]


class TopBlocks(nn.Module):
    """Computes P6 by a convolution of stride 2, and P7 by another one from relu(P6)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.p6 = _conv(in_channels, out_channels, 3, stride=2)
        self.p7 = _conv(out_channels, out_channels, 3, stride=2)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Gives P6 and P7 of P5 or C5 (N, in_channels, H, W)."""
        p6 = self.p6(x)
        return [p6, self.p7(F.relu(p6))]


class FPN(nn.Module):
    """Computes P3 to P7 with `out_channels` channels from C3, C4, C5 (Lin et al. 2017).

    Args:
        top_from: "P5" or "C5", the map from which P6 is computed.
        norm: of the lateral and output convolutions, a name of `make_norm` or None. With a norm
            they have no bias.
        relu: True if a ReLU follows each of them.

    Raises:
        ValueError: `top_from` or the number of maps is wrong.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        *,
        top_from: str = "P5",
        norm: str | None = None,
        relu: bool = False,
    ) -> None:
        super().__init__()
        if top_from not in ("P5", "C5"):
            raise ValueError(f'top_from is "P5" or "C5", not {top_from!r}')
        if len(in_channels) != 3:
            raise ValueError(f"the pyramid needs C3, C4 and C5, not {len(in_channels)} maps")
        self.top_from = top_from
        self.out_channels = out_channels

        def pair(channels: int) -> tuple[nn.Module, nn.Module]:
            """Makes the lateral and the output convolution of a map."""
            inner = _conv_norm(channels, out_channels, 1, norm, relu)
            return inner, _conv_norm(out_channels, out_channels, 3, norm, relu)

        c3, c4, c5 = in_channels
        self.fpn_inner2, self.fpn_layer2 = pair(c3)
        self.fpn_inner3, self.fpn_layer3 = pair(c4)
        self.fpn_inner4, self.fpn_layer4 = pair(c5)
        self.top_blocks = TopBlocks(c5 if top_from == "C5" else out_channels, out_channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Gives five maps of strides 8 to 128 from three maps (N, C, H, W) of strides 8 to 32."""
        c3, c4, c5 = maps
        inner5 = self.fpn_inner4(c5)
        inner4 = self.fpn_inner3(c4) + _upsample_to(inner5, c4)
        inner3 = self.fpn_inner2(c3) + _upsample_to(inner4, c3)
        p5 = self.fpn_layer4(inner5)
        top = self.top_blocks(c5 if self.top_from == "C5" else p5)
        return [self.fpn_layer2(inner3), self.fpn_layer3(inner4), p5, *top]


def _upsample_to(coarse: Tensor, fine: Tensor) -> Tensor:
    """Resizes to the exact size of the finer map, which may differ from twice the coarse size."""
    return F.interpolate(coarse, size=fine.shape[-2:], mode="nearest")


class BackboneWithFPN(nn.Module):
    """Combines `body` (images -> C3, C4, C5) and `fpn`, with the published names."""

    def __init__(self, body: nn.Module, fpn: FPN) -> None:
        super().__init__()
        self.body = body
        self.fpn = fpn
        self.out_channels = fpn.out_channels

    def forward(self, images: Tensor) -> list[Tensor]:
        """Gives P3 to P7, (N, out_channels, h, w) each, of normalised images (N, 3, H, W)."""
        return self.fpn(self.body(images))
