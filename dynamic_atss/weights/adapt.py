"""Adapts the loaded weights to the model's backbone."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from dynamic_atss.modeling.layers import FrozenBatchNorm2d
from dynamic_atss.weights.backbone_names import BODY, TIMM_BODY
from dynamic_atss.weights.check_shapes import misfit
from dynamic_atss.weights.classes import ONE_TO_ONE
from dynamic_atss.weights.epsilon import add_epsilon, frozen_variances, take_epsilon
from dynamic_atss.weights.formats import (
    CAFFE2,
    MMDET,
    TIMM,
    TORCHVISION,
    WITH_EPSILON,
    Source,
)
from dynamic_atss.weights.pixels import pixel_notes, timm_pixels


def adapt(source: Source, model: nn.Module, path: Path) -> list[str]:
    """Changes the entries of `source` to fit the model's backbone. Returns notes for the user.

    Raises UserError if the norms of file and model are of different kinds.
    """
    notes: list[str] = []
    if source.backbone_only:
        _check_norm_kind(model, source, path)
        _rename_deformable(source, model, notes)
    notes += _copy_to_second_branch(source, model)
    notes += _pixel_notes(source, model) + _stride_notes(source, model)
    _fold_epsilon(source, model)
    return notes


def _copy_to_second_branch(source: Source, model: nn.Module) -> list[str]:
    """Fills both branches of MODEL.ONE_TO_ONE from a file that has one branch."""
    ours = [name for name in model.state_dict() if name.startswith(ONE_TO_ONE)]
    if any(name.startswith(ONE_TO_ONE) for name in source.tensors):
        return []
    copies = {name: f"head.{name.removeprefix(ONE_TO_ONE)}" for name in ours}
    copies = {name: theirs for name, theirs in copies.items() if theirs in source.tensors}
    for name, theirs in copies.items():
        source.tensors[name], source.origin[name] = source.tensors[theirs], source.origin[theirs]
    if not copies:
        return []
    return ["the file's head has one branch: it fills both branches of MODEL.ONE_TO_ONE"]


def _check_norm_kind(model: nn.Module, source: Source, path: Path) -> None:
    """Raises UserError if the model has group norm and a Caffe2 file has not, or the reverse.

    The shapes do not show it, because weights of group norm and of folded batch norm have the same.
    """
    names = source.origin.values()
    in_file = any("_gn_" in name for name in names)
    norms = {type(m) for n, m in model.named_modules() if n.endswith(f"{BODY}stem.bn1")}
    if source.format == CAFFE2 and norms and in_file is not (nn.GroupNorm in norms):
        kinds = ("batch norm", "GroupNorm")
        problem = f"the file has {kinds[in_file]}, the model has {kinds[not in_file]}"
        raise misfit(path, source, problem, f"{BODY}stem.bn1")


def _rename_deformable(source: Source, model: nn.Module, notes: list[str]) -> None:
    """Moves the weights of a plain conv2 to the deformable convolution that replaces it."""
    targets = model.state_dict()
    renamed = {}
    for name in source.tensors:
        inner = name.removesuffix("weight") + "conv.weight"
        if name.endswith(".conv2.weight") and name not in targets and inner in targets:
            renamed[name] = inner
    for old, new in renamed.items():
        source.tensors[new] = source.tensors.pop(old)
        source.origin[new] = source.origin.pop(old)
    if renamed:
        notes.append(
            f"{len(renamed)} plain conv2.weight were loaded into the deformable conv2.conv.weight; "
            "the offsets keep their initial values"
        )


def _fold_epsilon(source: Source, model: nn.Module) -> None:
    """Adds batch norm's epsilon to the variances of FrozenBN, which has no epsilon.

    Subtracts it where the weights of a FrozenBN are loaded into a batch norm.
    """
    frozen = set(frozen_variances(source.tensors)) if source.format not in WITH_EPSILON else set()
    for name, module in model.named_modules():
        var = f"{name}.running_var"
        if var not in source.tensors or name.startswith(TIMM_BODY):
            continue
        if isinstance(module, FrozenBatchNorm2d) and var not in frozen:
            source.tensors[var] = add_epsilon(source.tensors[var])
        elif isinstance(module, nn.modules.batchnorm._BatchNorm) and var in frozen:
            source.tensors[var] = take_epsilon(source.tensors[var])


def _pixel_notes(source: Source, model: nn.Module) -> list[str]:
    pixels = timm_pixels(model) if source.format == TIMM else source.pixels
    if pixels is not None:
        return pixel_notes(pixels, source.format, model)
    if source.format == MMDET:
        return [
            "the file does not say which pixels it expects (it has no configuration): DSLA's R-50 "
            "needs BGR in 0..255, its other networks normalised RGB; set INPUT.* as configs/dsla do"
        ]
    if source.format == TORCHVISION:
        return ["the file does not say which pixels it expects: set INPUT.* as in its training"]
    return []


def _stride_notes(source: Source, model: nn.Module) -> list[str]:
    ours = {m.stride_in_1x1 for m in model.modules() if hasattr(m, "stride_in_1x1")}
    if source.stride_in_1x1 is None or ours <= {source.stride_in_1x1}:
        return []
    places = ("3x3 convolutions", "1x1 convolutions")
    theirs = source.stride_in_1x1
    return [
        f"WARNING: the file's network has its stride in the {places[theirs]}, the model in the "
        f"{places[not theirs]}: set MODEL.RESNETS.STRIDE_IN_1X1 {theirs}"
    ]
