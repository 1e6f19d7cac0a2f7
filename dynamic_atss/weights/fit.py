"""Whether a weight file fits a model: names and shapes, all or nothing, in one line."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from torch import Tensor

from dynamic_atss.errors import UserError
from dynamic_atss.weights.backbone_names import BODY
from dynamic_atss.weights.classes import of_logits
from dynamic_atss.weights.epsilon import COUNTER
from dynamic_atss.weights.formats import CAFFE2, MMDET, PUBLISHED, Source

_STATISTICS = (".running_mean", ".running_var")
RULE = "criterion."  # what a rule that learns has learnt: the file's rule may be another one


def check_fit(
    source: Source,
    targets: dict[str, Tensor],
    path: Path,
    allow_new_classes: bool,
    notes: list[str],
) -> set[str]:
    """Raises UserError at the first entry that does not fit; returns those to leave out."""
    scope = BODY if source.backbone_only else ""
    if source.format in (PUBLISHED, MMDET):
        # Buffers that a model of ours adds beside its published parts need not be in the file.
        targets = {n: t for n, t in targets.items() if n.startswith(("backbone.", "head."))}
    skipped = set()
    for name, tensor in source.tensors.items():
        if name not in targets:
            if not name.endswith(COUNTER) and not name.startswith(RULE):
                what = f"the file's {source.origin[name]} has no place in the model"
                raise misfit(path, source, what, name)
        elif tensor.shape != targets[name].shape:
            sizes = f"{tuple(tensor.shape)} in the file, {tuple(targets[name].shape)} in the model"
            why = _reason_to_skip(name, tensor, targets[name], allow_new_classes)
            if not why:
                raise misfit(path, source, f"{source.origin[name]} is {sizes}", name)
            notes.append(f"{name} is {sizes}: {why}, left at its initial value")
            skipped.add(name)
    for name in targets:
        needed = name.startswith(scope) and not _may_be_absent(name, source)
        if needed and name not in source.tensors:
            raise misfit(path, source, f"the model's {name} is not in the file", name)
    return skipped


def check_names(
    source: Source, class_names: Sequence[str], path: Path, allowed: bool, notes: list[str]
) -> set[str]:
    """The entries to leave out since their classes are others; UserError unless that is allowed."""
    if not source.classes or not class_names or source.classes == list(class_names):
        return set()
    pairs = enumerate(zip_longest(source.classes, class_names, fillvalue="nothing"))
    i, (theirs, ours) = next((i, pair) for i, pair in pairs if len(set(pair)) == 2)
    names = f"class {i} is {theirs} in the file, {ours} in the data set"
    if not allowed:
        raise UserError(
            f"{path}: {names}; make the data set's categories and their order the file's"
        )
    notes.append(f"{names}: head.cls_logits.* left at its initial value")
    return {name for name in source.tensors if of_logits(name)}


def _reason_to_skip(name: str, tensor: Tensor, target: Tensor, allow_new_classes: bool) -> str:
    """Why an entry of another size may be left out; "": it may not."""
    if name.startswith(RULE):
        return "another rule"
    other_classes = of_logits(name) and tensor.shape[1:] == target.shape[1:]
    return "another number of classes" if allow_new_classes and other_classes else ""


def _may_be_absent(name: str, source: Source) -> bool:
    """Counters and tables that follow from the model; what a rule learns; what a backbone file has
    not learnt."""
    if name.endswith((COUNTER, ".relative_position_index")) or name.startswith(RULE):
        return True
    if source.backbone_only and (".offset." in name or name.startswith(f"{BODY}norms.")):
        return True
    return source.format == CAFFE2 and name.endswith(_STATISTICS)


def misfit(path: Path, source: Source, what: str, name: str) -> UserError:
    """The error of entry `name` (ours), with the keys that decide on it."""
    mend = f"make {_keys(name, source)} those of the file"
    if "top_blocks.p6.weight" in name and name in source.tensors:
        c_out, c_in = source.tensors[name].shape[:2]
        mend = f"set MODEL.RETINANET.USE_C5 {c_in != c_out} (the file makes P6 from "
        mend += "C5)" if c_in != c_out else "P5)"
    return UserError(f"{path}: wrong architecture ({source.format}): {what}; {mend}")


def _keys(name: str, source: Source) -> str:
    if of_logits(name) and name in source.tensors:
        return "the number of classes (MODEL.ATSS.NUM_CLASSES or the data set)"
    keys = "MODEL.BACKBONE.CONV_BODY and MODEL.RESNETS.*"
    if name.startswith(BODY) or source.backbone_only:
        return keys
    return keys + ", the rule and its head (MODEL.ATSS.*, FCOS.*, DSLA.* or RETINANET.*)"
