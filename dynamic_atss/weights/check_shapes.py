"""Checks names and shapes of a weight file against a model, and refuses a file that differs."""

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
RULE = "criterion."  # state that a rule has learnt; file and model may have different rules


def check_fit(
    source: Source,
    targets: dict[str, Tensor],
    path: Path,
    allow_new_classes: bool,
    notes: list[str],
) -> set[str]:
    """Compares all entries of a file with those of the model. Returns the names to skip.

    Args:
        source: the content of the file.
        targets: the entries of the model.
        path: the file, for messages.
        allow_new_classes: skips the class logits if the number of classes differs.
        notes: gets a note for each skipped entry.

    Raises UserError at the first entry that does not fit.
    """
    scope = BODY if source.backbone_only else ""
    if source.format in (PUBLISHED, MMDET):
        # Other programs do not save the buffers that our models have outside of these two parts.
        targets = {n: t for n, t in targets.items() if n.startswith(("backbone.", "head."))}
    skipped = set()
    for name, tensor in source.tensors.items():
        if name not in targets:
            if not name.endswith(COUNTER) and not name.startswith(RULE):
                problem = f"the file's {source.origin[name]} has no place in the model"
                raise misfit(path, source, problem, name)
        elif tensor.shape != targets[name].shape:
            shapes = f"{tuple(tensor.shape)} in the file, {tuple(targets[name].shape)} in the model"
            reason = _reason_to_skip(name, tensor, targets[name], allow_new_classes)
            if not reason:
                raise misfit(path, source, f"{source.origin[name]} is {shapes}", name)
            notes.append(f"{name} is {shapes}: {reason}, left at its initial value")
            skipped.add(name)
    for name in targets:
        needed = name.startswith(scope) and not _may_be_absent(name, source)
        if needed and name not in source.tensors:
            raise misfit(path, source, f"the model's {name} is not in the file", name)
    return skipped


def check_names(
    source: Source, class_names: Sequence[str], path: Path, allowed: bool, notes: list[str]
) -> set[str]:
    """Compares the class names of file and data set. Returns the names of entries to skip.

    Raises UserError if the names differ, unless `allowed` is True.
    """
    if not source.classes or not class_names or source.classes == list(class_names):
        return set()
    pairs = enumerate(zip_longest(source.classes, class_names, fillvalue="nothing"))
    i, (theirs, ours) = next((i, pair) for i, pair in pairs if len(set(pair)) == 2)
    names = f"class {i} is {theirs} in the file, {ours} in the data set"
    if not allowed:
        raise UserError(
            f"{path}: {names}; give the data set the file's categories, in the file's order"
        )
    notes.append(f"{names}: head.cls_logits.* left at its initial value")
    return {name for name in source.tensors if of_logits(name)}


def _reason_to_skip(name: str, tensor: Tensor, target: Tensor, allow_new_classes: bool) -> str:
    """Returns why an entry of another shape may be skipped. Returns "" if it may not."""
    if name.startswith(RULE):
        return "another rule"
    other_classes = of_logits(name) and tensor.shape[1:] == target.shape[1:]
    return "another number of classes" if allow_new_classes and other_classes else ""


def _may_be_absent(name: str, source: Source) -> bool:
    """Returns True for entries that may be missing in a file."""
    if name.endswith((COUNTER, ".relative_position_index")) or name.startswith(RULE):
        return True  # counters, tables that the model computes, and the state of a rule
    if source.backbone_only and (".offset." in name or name.startswith(f"{BODY}norms.")):
        return True
    return source.format == CAFFE2 and name.endswith(_STATISTICS)


def misfit(path: Path, source: Source, problem: str, name: str) -> UserError:
    """Makes the error for our entry `name`. It names the configuration keys to change."""
    advice = f"set {_keys(name, source)} as in the file's training"
    if "top_blocks.p6.weight" in name and name in source.tensors:
        c_out, c_in = source.tensors[name].shape[:2]
        advice = f"set MODEL.RETINANET.USE_C5 {c_in != c_out} (the file makes P6 from "
        advice += "C5)" if c_in != c_out else "P5)"
    return UserError(f"{path}: wrong architecture ({source.format}): {problem}; {advice}")


def _keys(name: str, source: Source) -> str:
    if of_logits(name) and name in source.tensors:
        return "the number of classes (MODEL.ATSS.NUM_CLASSES or the data set)"
    keys = "MODEL.BACKBONE.CONV_BODY and MODEL.RESNETS.*"
    if name.startswith(BODY) or source.backbone_only:
        return keys
    return keys + ", the rule and its head (MODEL.ATSS.*, FCOS.*, DSLA.* or RETINANET.*)"
