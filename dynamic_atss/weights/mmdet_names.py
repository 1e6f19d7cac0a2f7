"""Renames the entries of mmdetection's DSLA checkpoints to this project's names, and back.

A deformable convolution has `conv2.weight` and `conv2.conv_offset.weight` in mmdetection, and
`conv2.conv.weight` and `conv2.offset.weight` here. The channels of the offsets have the same order:
(dy, dx) of every tap, then the masks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable

from torch import Tensor

_MAX_CONVS = 32  # in a tower
_INNER = {".attn.w_msa.": ".attn.", ".ffn.layers.0.0.": ".mlp.0.", ".ffn.layers.1.": ".mlp.3."}
_MERGING = re.compile(r"backbone\.body\.features\.[246]\.(norm|reduction)\.")
_INDEX = ".relative_position_index"


def _modules() -> dict[str, str]:
    """Returns mmdetection's names of modules -> our names."""
    body, fpn = "backbone.body.", "backbone.fpn."
    pairs = {
        "backbone.conv1": f"{body}stem.conv1",
        "backbone.bn1": f"{body}stem.bn1",
        "backbone.patch_embed.projection": f"{body}features.0.0",
        "backbone.patch_embed.norm": f"{body}features.0.2",
        "neck.fpn_convs.3.conv": f"{fpn}top_blocks.p6",
        "neck.fpn_convs.4.conv": f"{fpn}top_blocks.p7",
        "bbox_head.conv_cls": "head.cls_logits",
        "bbox_head.conv_reg": "head.bbox_pred",
        "bbox_head.scales": "head.scales",
    }
    for i in range(4):
        pairs[f"backbone.layer{i + 1}"] = f"{body}layer{i + 1}"
        pairs[f"backbone.stages.{i}.blocks"] = f"{body}features.{2 * i + 1}"
        pairs[f"backbone.stages.{i}.downsample"] = f"{body}features.{2 * i + 2}"
    for i in range(3):
        pairs[f"backbone.norm{i + 1}"] = f"{body}norms.{i}"
        pairs[f"neck.lateral_convs.{i}.conv"] = f"{fpn}fpn_inner{i + 2}"
        pairs[f"neck.fpn_convs.{i}.conv"] = f"{fpn}fpn_layer{i + 2}"
    for branch, tower in (("cls_convs", "cls_tower"), ("reg_convs", "bbox_tower")):
        for i in range(_MAX_CONVS):  # our towers number convolution, norm and ReLU
            pairs[f"bbox_head.{branch}.{i}.conv"] = f"head.{tower}.{3 * i}"
            pairs[f"bbox_head.{branch}.{i}.gn"] = f"head.{tower}.{3 * i + 1}"
    return pairs


_TO_OURS = _modules()
_TO_MMDET = {ours: theirs for theirs, ours in _TO_OURS.items()}


def from_mmdet(names: Iterable[str]) -> Callable[[str], str | None]:
    """Makes a function from mmdetection's names to ours, for a file with these `names`.

    The function returns None for `ema_...`, the raw weights that `EMAHook` keeps during training
    (the averaged weights have the plain names). Names of other heads stay as they are.
    """
    deformable = {name.partition(".conv_offset.")[0] for name in names if ".conv_offset." in name}

    def rename(name: str) -> str | None:
        if name.startswith("ema_"):
            return None
        module, _, entry = name.rpartition(".")
        if module in deformable:
            name = f"{module}.conv_weights.{entry}"
        ours = _replace_module(name, _TO_OURS) or name
        for theirs, short in _INNER.items():
            ours = ours.replace(theirs, short)
        return ours.replace(".conv_weights.", ".conv.").replace(".conv_offset.", ".offset.")

    return rename


def to_mmdet(names: Iterable[str]) -> Callable[[str], str | None]:
    """Makes the inverse of `from_mmdet`.

    The function returns None for an entry that mmdetection's DSLA lacks.
    """
    deformable = {name.partition(".offset.")[0] for name in names if ".offset." in name}

    def rename(name: str) -> str | None:
        module, _, entry = name.rpartition(".conv.")
        if module in deformable:
            name = f"{module}.{entry}"
        theirs = _replace_module(name, _TO_MMDET)
        if theirs is None:
            return None
        for long, short in _INNER.items():
            theirs = theirs.replace(short, long)
        return theirs.replace(".offset.", ".conv_offset.")

    return rename


def _replace_module(name: str, table: dict[str, str]) -> str | None:
    """Replaces the longest leading module that the table has. Returns None if it has none."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        module = table.get(".".join(parts[:end]))
        if module is not None:
            return ".".join([module, *parts[end:]])
    return None


def value_from_mmdet(name: str, value: Tensor) -> Tensor:
    """Converts mmdetection's value of our entry `name` to our layout.

    Swin's patch merging reads 4 C channels. mmdetection orders them as nn.Unfold does (channel,
    row, column). torchvision orders them as four images in sequence (column, row, channel).
    """
    if _MERGING.match(name):
        channels = value.shape[-1] // 4
        return value.unflatten(-1, (channels, 2, 2)).transpose(-1, -3).flatten(-3)
    if name.endswith(_INDEX):
        return value.flatten()
    return value.reshape(1) if _is_scale(name) else value


def value_to_mmdet(name: str, value: Tensor) -> Tensor:
    """Converts our value of our entry `name` to mmdetection's layout.

    It is the inverse of `value_from_mmdet`.
    """
    if _MERGING.match(name):
        channels = value.shape[-1] // 4
        return value.unflatten(-1, (2, 2, channels)).transpose(-1, -3).flatten(-3)
    if name.endswith(_INDEX):
        side = math.isqrt(value.numel())
        return value.reshape(side, side)
    return value.reshape(()) if _is_scale(name) else value


def _is_scale(name: str) -> bool:
    return name.startswith("head.scales.") and name.endswith(".scale")
