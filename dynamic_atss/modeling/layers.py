"""Defines normalisation and deformable convolution in the form of the published checkpoints."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

NORMS = ("FrozenBN", "FixedBN", "BN", "SyncBN", "GN")


class FrozenBatchNorm2d(nn.Module):
    """Computes batch norm as a fixed map y = (x - mean) / sqrt(var) * weight + bias.

    All four are buffers (C,), as in the published checkpoints. The map has no epsilon. When weights
    of a batch norm with epsilon are loaded, the epsilon must be added to `running_var`.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalises x (N, C, H, W)."""
        # Unlike F.batch_norm, the product does not save x for the backward pass, and the sum can
        # overwrite it.
        scale, shift = self._affine(x.dtype)
        return (x * scale).add_(shift)

    def forward_(self, x: Tensor) -> Tensor:
        """Normalises x in place."""
        scale, shift = self._affine(x.dtype)
        return x.mul_(scale).add_(shift)

    def _affine(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Gives factor and summand (C, 1, 1) in the map's dtype, which keeps bf16 maps in bf16."""
        scale = self.weight * self.running_var.rsqrt()
        shift = self.bias - self.running_mean * scale
        return scale.to(dtype).view(-1, 1, 1), shift.to(dtype).view(-1, 1, 1)

    def extra_repr(self) -> str:
        return f"{self.weight.numel()}"


def conv_norm(x: Tensor, conv: nn.Module, norm: nn.Module) -> Tensor:
    """Computes norm(conv(x)). Applies a frozen norm in place, which saves a map.

    The result is bitwise the same. Folding the norm into the convolution's weight would save the
    pass over the map. But it needs a pass over the weight, which takes longer below about 400 x 400
    pixels, and it rounds differently.
    """
    y = conv(x)
    return norm.forward_(y) if type(norm) is FrozenBatchNorm2d else norm(y)


def fill_bias(conv: nn.Conv2d, value: float) -> None:
    """Sets the bias of all channels. Leaves a convolution without bias unchanged."""
    if conv.bias is not None:
        nn.init.constant_(conv.bias, value)


class FixedBatchNorm2d(nn.BatchNorm2d):
    """Computes batch norm with fixed statistics.

    Its weight and bias learn (mmdetection's `norm_eval`).
    """

    def train(self, mode: bool = True) -> FixedBatchNorm2d:
        """Keeps the layer in evaluation mode."""
        return super().train(False)


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Computes SyncBatchNorm that, unlike torch's, can also be trained on CPU tensors.

    It is not a subclass of torch's class, because DistributedDataParallel refuses that on CPU.
    On CPU with one process this is plain batch norm. With several processes (gloo) it computes mean
    and variance over the images of all processes, as on a GPU. This takes one differentiable
    all-reduce of 2 C + 1 numbers per layer. Every process must take part in every forward pass.
    Running statistics are always kept.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    process_group = None  # all processes
    _check_non_zero_input_channels = nn.SyncBatchNorm._check_non_zero_input_channels

    def forward(self, x: Tensor) -> Tensor:
        """Normalises x (N, C, H, W). N may differ between processes."""
        if x.device.type != "cpu":
            return nn.SyncBatchNorm.forward(self, x)  # type: ignore[arg-type]  # see above
        together = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        if self.training and together:
            return self._forward_cpu_group(x)
        if self.training:
            self.num_batches_tracked.add_(1)
        mean, var, momentum = self.running_mean, self.running_var, self._rate()
        return F.batch_norm(x, mean, var, self.weight, self.bias, self.training, momentum, self.eps)

    def _rate(self) -> float:
        """Gives the share of the new batch in the running statistics.

        If `momentum` is None, these are the mean over all batches.
        """
        if self.momentum is not None:
            return self.momentum
        return 1.0 / max(int(self.num_batches_tracked), 1)

    def _forward_cpu_group(self, x: Tensor) -> Tensor:
        from torch.distributed.nn.functional import all_reduce

        # In float32, E[x^2] - E[x]^2 would lose digits.
        wide = x.double()
        count = wide.new_tensor([x.numel() // x.shape[1]])
        local = torch.cat([wide.sum((0, 2, 3)), wide.square().sum((0, 2, 3)), count])
        total = all_reduce(local, group=self.process_group)
        mean, square = (total[:-1] / total[-1]).chunk(2)
        var = (square - mean.square()).clamp(min=0)
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            rate, n = self._rate(), total[-1]
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate)
            unbiased = var * n / (n - 1).clamp(min=1)
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), rate)
        scale = self.weight * (var + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return (wide * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)).to(x.dtype)


def make_norm(name: str, channels: int) -> nn.Module:
    """Makes the normalisation layer `name` for maps of `channels` channels.

    Args:
        name: "FrozenBN", "FixedBN", "BN", "SyncBN" or "GN". "GN" has 32 groups as published, or
            fewer if 32 does not divide the channels.

    Raises:
        ValueError: the name is unknown.
    """
    if name == "FrozenBN":
        return FrozenBatchNorm2d(channels)
    if name == "FixedBN":
        return FixedBatchNorm2d(channels)
    if name == "BN":
        return nn.BatchNorm2d(channels)
    if name == "SyncBN":
        return SyncBatchNorm2d(channels)
    if name == "GN":
        return nn.GroupNorm(math.gcd(32, channels), channels)
    raise ValueError(f"no normalisation {name!r}: one of {', '.join(NORMS)}")


class ModulatedDeformConv(nn.Module):
    """Applies deformable convolution v2 (v1 with `modulated=False`), with the published names.

    `offset` is the convolution that predicts (dy, dx) per deformable group and kernel tap. After
    all offsets it predicts one mask logit per tap. These are 27 channels per group for 3x3 (v1:
    18). `conv` holds the weights. The prediction starts at zero, which gives a plain convolution
    (v2: times sigmoid(0) = 0.5).

    Args:
        padding: pixels on each side; None keeps the size at stride 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        padding: int | None = None,
        dilation: int = 1,
        groups: int = 1,
        deformable_groups: int = 1,
        bias: bool = False,
        modulated: bool = True,
    ) -> None:
        super().__init__()
        self.modulated = modulated
        self.offset_channels = 2 * kernel_size**2 * deformable_groups
        predicted = self.offset_channels * 3 // 2 if modulated else self.offset_channels
        padding = dilation * (kernel_size // 2) if padding is None else padding
        space: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
        self.offset = nn.Conv2d(in_channels, predicted, kernel_size, **space)
        nn.init.zeros_(self.offset.weight)
        fill_bias(self.offset, 0.0)
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, groups=groups, bias=bias, **space
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolves x (N, in, H, W) to (N, out, H', W') in the dtype of x."""
        # Sampling positions need float32, because bf16 has only 8 bits for a coordinate.
        wide = torch.promote_types(x.dtype, torch.float32)
        predicted = self.offset(x).to(wide)
        offset, mask = predicted[:, : self.offset_channels], None
        if self.modulated:
            mask = predicted[:, self.offset_channels :].sigmoid()
        conv = self.conv
        y = deform_conv2d(
            x.to(wide),
            offset,
            conv.weight.to(wide),
            None if conv.bias is None else conv.bias.to(wide),
            stride=conv.stride,
            padding=conv.padding,
            dilation=conv.dilation,
            mask=mask,
        )
        return y.to(x.dtype)
