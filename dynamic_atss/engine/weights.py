"""Loading of weights into a model: by exact names, all or nothing, with a report."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

import torch
from torch import Tensor, nn

from dynamic_atss.engine.download import weight_file
from dynamic_atss.engine.unpickle import read_weights
from dynamic_atss.engine.weight_formats import (
    BODY,
    CAFFE2,
    PROJECT,
    TORCHVISION,
    Source,
    from_published,
    identify,
    to_published,
)
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.layers import FrozenBatchNorm2d

__all__ = ["LoadReport", "from_published", "load_weights", "to_published"]

_BATCH_NORM_EPS = 1e-5  # torch's default, which torchvision's weights were trained with
_COUNTER = ".num_batches_tracked"
_STATISTICS = (".running_mean", ".running_var")


@dataclass(frozen=True)
class LoadReport:
    """What a weight file did to a model.

    file, format · loaded and initial: the model's entries that were filled, or left at their
    initial value · unused: the file's entries that were not used, by its names · notes, for users
    """

    file: str
    format: str
    loaded: list[str]
    initial: list[str]
    unused: list[str]
    notes: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """A few lines for the log, entries counted by module."""
        lines = [f"weights: {self.file} ({self.format})", f"  loaded: {_by_module(self.loaded)}"]
        if self.initial:
            lines.append(f"  left at the initial value: {_by_module(self.initial)}")
        if self.unused:
            shown = ", ".join(self.unused[:4]) + (", ..." if len(self.unused) > 4 else "")
            lines.append(f"  not used from the file: {len(self.unused)} ({shown})")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def _by_module(names: Iterable[str]) -> str:
    """`backbone.body 159, head 43`: entries per child of the model, per grandchild of backbone."""
    depth = {"backbone": 2}
    keys = (name.split(".") for name in names)
    counts = Counter(".".join(key[: depth.get(key[0], 1)]) for key in keys)
    return ", ".join(f"{module} {count}" for module, count in counts.items())


def load_weights(
    model: nn.Module,
    weight: str | os.PathLike[str],
    cache_dir: str | os.PathLike[str] | None = None,
    *,
    class_names: Sequence[str] = (),
    allow_new_classes: bool = True,
) -> LoadReport:
    """Fills `model` (children `backbone.body`, `backbone.fpn`, `head`) from a weight file.

    weight: a path, `catalog://...` or a URL; its format is told by content. A backbone file must
    fill the body, any other one the whole model, and leave nothing over; deformable offsets stay at
    their initial value for backbone files, and so do `head.cls_logits.*` for other classes than the
    file's, in number or in name (`class_names`, if both sides tell them), if `allow_new_classes`.
    Raises UserError, and leaves the model as it was, for a file that is missing, damaged, of an
    unknown format, that holds code, or that belongs to another architecture.
    """
    path = weight_file(weight, cache_dir)
    source = identify(read_weights(path), path)
    notes = _adapt(source, model, path)
    targets = model.state_dict()
    skipped = _check_fit(source, targets, path, allow_new_classes, notes)
    if source.classes and class_names and source.classes != list(class_names):
        skipped |= _other_names(source, class_names, path, allow_new_classes, notes)
    loaded = [name for name in targets if name in source.tensors and name not in skipped]
    if not loaded:
        raise UserError(f"{path}: none of its entries ({source.format}) fits the model")
    with torch.no_grad():
        for name in loaded:
            targets[name].copy_(source.tensors[name])
    rest = [source.origin[n] for n in source.tensors if n not in targets or n in skipped]
    initial = [name for name in targets if name not in set(loaded)]
    return LoadReport(str(path), source.format, loaded, initial, source.ignored + rest, notes)


def _adapt(source: Source, model: nn.Module, path: Path) -> list[str]:
    """Makes a file's entries those of this model's form of the backbone; what to tell of it."""
    notes: list[str] = []
    if source.backbone_only:
        _check_norm_kind(model, source, path)
        _rename_deformable(source, model, notes)
    if source.format == TORCHVISION:
        notes += _torchvision_notes(model)
    _fold_epsilon(source, model)
    return notes


def _check_fit(
    source: Source,
    targets: dict[str, Tensor],
    path: Path,
    allow_new_classes: bool,
    notes: list[str],
) -> set[str]:
    """Raises UserError at the first entry that does not fit; returns those to leave out."""
    scope = BODY if source.backbone_only else ""
    if source.format not in (CAFFE2, TORCHVISION, PROJECT):
        # Buffers that a model of ours adds beside its published parts need not be in the file.
        targets = {n: t for n, t in targets.items() if n.startswith(("backbone.", "head."))}
    skipped = set()
    for name, tensor in source.tensors.items():
        if name not in targets:
            if not name.endswith(_COUNTER):
                raise _misfit(
                    path, source, f"the file's {source.origin[name]} has no place in the model"
                )
        elif tensor.shape != targets[name].shape:
            sizes = f"{tuple(tensor.shape)} in the file, {tuple(targets[name].shape)} in the model"
            if not (allow_new_classes and _other_classes(name, tensor, targets[name])):
                raise _misfit(path, source, f"{source.origin[name]} is {sizes}")
            notes.append(f"{name} is {sizes}: another number of classes, left at its initial value")
            skipped.add(name)
    for name in targets:
        needed = name.startswith(scope) and not _may_be_absent(name, source)
        if needed and name not in source.tensors:
            raise _misfit(path, source, f"the model's {name} is not in the file")
    return skipped


def _other_names(
    source: Source, class_names: Sequence[str], path: Path, allowed: bool, notes: list[str]
) -> set[str]:
    """The entries to leave out since their classes are others; UserError unless that is allowed."""
    pairs = enumerate(zip_longest(source.classes, class_names, fillvalue="nothing"))
    i, (theirs, ours) = next((i, pair) for i, pair in pairs if len(set(pair)) == 2)
    names = f"class {i} is {theirs} in the file, {ours} in the data set"
    if not allowed:
        raise UserError(
            f"{path}: {names}; make the data set's categories and their order the file's"
        )
    notes.append(f"{names}: head.cls_logits.* left at its initial value")
    return {name for name in source.tensors if name.startswith("head.cls_logits.")}


def _other_classes(name: str, tensor: Tensor, target: Tensor) -> bool:
    return name.startswith("head.cls_logits.") and tensor.shape[1:] == target.shape[1:]


def _may_be_absent(name: str, source: Source) -> bool:
    """Batch counters; offsets over a plain backbone; the statistics that Caffe2 folded away."""
    if name.endswith(_COUNTER):
        return True
    if source.backbone_only and ".offset." in name:
        return True
    return source.format == CAFFE2 and name.endswith(_STATISTICS)


def _misfit(path: Path, source: Source, what: str) -> UserError:
    keys = "MODEL.BACKBONE.CONV_BODY and MODEL.RESNETS.*"
    if "cls_logits" in what:
        keys = "the number of classes (MODEL.ATSS.NUM_CLASSES or the data set)"
    elif not source.backbone_only:
        keys += ", MODEL.ATSS.*"
    return UserError(
        f"{path}: wrong architecture ({source.format}): {what}; make {keys} those of the file"
    )


def _check_norm_kind(model: nn.Module, source: Source, path: Path) -> None:
    """Weights of group norm and of folded batch norm differ in sense, not in shape (Caffe2)."""
    names = source.origin.values()
    in_file = any("_gn_" in name for name in names)
    norms = {type(m) for n, m in model.named_modules() if n.endswith(f"{BODY}stem.bn1")}
    if source.format == CAFFE2 and norms and in_file is not (nn.GroupNorm in norms):
        kinds = ("batch norm", "GroupNorm")
        raise _misfit(path, source, f"it has {kinds[in_file]}, the model {kinds[not in_file]}")


def _rename_deformable(source: Source, model: nn.Module, notes: list[str]) -> None:
    """A plain conv2 fills the weights of the deformable convolution that takes its place."""
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
            f"{len(renamed)} plain conv2.weight went to the deformable conv2.conv.weight; "
            "their offsets are at the initial value"
        )


def _fold_epsilon(source: Source, model: nn.Module) -> None:
    """FrozenBN has no epsilon: that of the batch norm that was trained joins the variance."""
    for name, module in model.named_modules():
        var = f"{name}.running_var"
        if not isinstance(module, FrozenBatchNorm2d) or var not in source.tensors:
            continue
        if source.format == TORCHVISION or name + _COUNTER in source.tensors:
            source.tensors[var] = source.tensors[var] + _BATCH_NORM_EPS


def _torchvision_notes(model: nn.Module) -> list[str]:
    notes = [
        "torchvision weights expect RGB pixels in 0..1, less the mean (0.485, 0.456, 0.406), over "
        "(0.229, 0.224, 0.225), not BGR 0..255: set INPUT.TO_BGR255 False, PIXEL_MEAN, PIXEL_STD"
    ]
    if any(getattr(module, "stride_in_1x1", False) for module in model.modules()):
        notes.append(
            "WARNING: torchvision strides in the 3x3 convolutions, the model in the 1x1: "
            "set MODEL.RESNETS.STRIDE_IN_1X1 False"
        )
    return notes
