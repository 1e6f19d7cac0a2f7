"""Converts weight files between formats. Keeps the weights to the bit, or raises an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynamic_atss.config.record import USAGE
from dynamic_atss.errors import UserError
from dynamic_atss.files import CHECKPOINT_FORMAT, write_atomically
from dynamic_atss.weights.backbone_names import BODY, TIMM_BODY, from_torchvision, to_torchvision
from dynamic_atss.weights.check_shapes import RULE
from dynamic_atss.weights.epsilon import add_epsilon, frozen_variances, take_epsilon
from dynamic_atss.weights.find_weights import bare, find_state
from dynamic_atss.weights.formats import (
    CAFFE2,
    MMDET,
    PROJECT,
    PUBLISHED,
    WITH_EPSILON,
    Source,
    class_names,
    entries,
    from_published,
    identify,
    nested,
    to_published,
)
from dynamic_atss.weights.loading import check_finite, read_file
from dynamic_atss.weights.mmdet_names import from_mmdet, to_mmdet, value_to_mmdet
from dynamic_atss.weights.object_builders import plain
from dynamic_atss.weights.safe_pickle import Skipped
from dynamic_atss.weights.timm import TimmNames, check_timm

_SAME = {PROJECT: "project", PUBLISHED: "published", MMDET: "mmdet"}
_OURS = (BODY, "backbone.fpn.", "head.", RULE)
_REWRITTEN_KEYS = ("format", "model", "state_dict", "classes", "unmapped", "blobs")


@dataclass(frozen=True)
class Converted:
    """Holds a converted file.

    Attributes:
        content: the content to write.
        source: the file as read.
        left_out: the entries that were not converted.
    """

    content: dict[str, Any]
    source: Source
    left_out: list[str]

    def summary(self) -> str:
        """Describes the conversion in a few lines."""
        state = entries(self.content)
        lines = [f"read: {self.source.format}, {len(self.source.tensors)} entries"]
        lines.append(f"written: {len(state)} entries, {len(class_names(self.content))} class names")
        if self.left_out:
            lines.append(f"left out: {len(self.left_out)} ({_few(self.left_out)})")
        lines += [f"note: {note}" for note in self.source.notes]
        if self.source.pixels is not None:
            lines.append(f"note: the network expects {self.source.pixels.settings()}")
        return "\n".join(lines)


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def convert_file(
    src: Path,
    dst: Path,
    to: str,
    *,
    body: TimmNames | None = None,
    strip: bool = False,
    force: bool = False,
    overwrite: bool,
) -> Converted:
    """Converts the file `src` by `convert`, and writes `dst` completely or not at all.

    Raises UserError, with nothing written, as `convert` does. Raises it, too, if `dst` is `src` or
    exists (unless `overwrite`).
    """
    if dst.exists() and src.exists() and dst.samefile(src):
        raise UserError(f"{dst}: is the input file; give another name for the output")
    if dst.is_dir() or (dst.exists() and not overwrite):
        raise UserError(f"{dst}: exists already; give another name, or --overwrite for a file")
    converted = convert(read_file(src), src, to, body=body, strip=strip, force=force)
    write_atomically(dst, lambda file: torch.save(converted.content, file))
    return converted


def detector_format(path: Path) -> str:
    """Returns the name of the format of a detector's checkpoint, as `convert` calls it.

    Raises UserError for a file that cannot be read or holds no detector.
    """
    kind = identify(read_file(path), path).format
    if kind not in _SAME:
        raise UserError(f"{path}: is a {kind}; solver states are only in checkpoints of detectors")
    return _SAME[kind]


def convert(
    content: Any,
    path: object,
    to: str,
    *,
    body: TimmNames | None = None,
    strip: bool = False,
    force: bool = False,
) -> Converted:
    """Converts the content of a file to the format `to`.

    Args:
        content: the content of the file.
        path: the file, for messages.
        to: "project", "published" (maskrcnn-benchmark) and "mmdet" (DSLA) hold complete detectors.
            "backbone" holds only the body, under "state_dict" in torchvision's names. With `body`
            it is bare, in timm's plain names. (A bare file in torchvision's names would be taken
            for one of torchvision, whose pixels are known.)
        body: the names of the timm model, which cannot be recognised by the entries of a file.
        strip: drops all other entries (optimizer, anchors, ...). Without it they are kept, so that
            converting back restores them.
        force: leaves out entries that `to` has no place for, and rounds numbers that it cannot
            hold.

    Raises UserError for an unknown format, for numbers that are not finite, and for entries that
    need `force`.
    """
    source = identify(content, path, body.ours if body else ())
    _refuse_unknown(source, path)
    check_finite(source, path)
    if body:
        check_timm(source, body, path)
    elif to == "backbone" and any(name.startswith(TIMM_BODY) for name in source.tensors):
        raise UserError(f"{path}: its body is a timm model: give --body timm/<name>, its CONV_BODY")
    ours, lost = _with_norms_of(to, source)
    state, left_out = _renamed(to, ours, body)
    if to == "backbone":  # entries outside of the body are left out on purpose
        lost += [name for name in left_out if not _outside_body(name)]
    else:
        lost += left_out
    if lost and not force:
        raise UserError(
            f"{path}: {len(lost)} entries have no exact place in a {to} file ({_few(lost)}); "
            "--force leaves them out or rounds them"
        )
    unmapped = _unmapped(content, source, strip)
    state |= {n: unmapped.pop(n) for n in list(unmapped) if _is_native(to, n, body)}
    if to == "backbone":
        left_out += list(unmapped)
        unmapped = {}
    if to != "backbone" or not body:
        state = _wrap(to, state, content, unmapped, strip)
    return Converted(state, source, left_out)


def _renamed(
    to: str, ours: Mapping[str, Tensor], body: TimmNames | None
) -> tuple[dict[str, Tensor], list[str]]:
    """Returns the entries in the names and layout of `to`, and the names that `to` lacks."""
    rename, state, nameless = _renamer(to, ours, body), {}, []
    for name, value in ours.items():
        theirs = None if name.startswith(RULE) and to != "project" else rename(name)
        if theirs is None or theirs in state:
            nameless.append(name)
        else:
            try:
                state[theirs] = value_to_mmdet(name, value) if to == "mmdet" else value
            except (RuntimeError, IndexError):  # the shape is wrong for such a weight
                nameless.append(name)
    return state, nameless


def _refuse_unknown(source: Source, path: object) -> None:
    unknown = [source.origin[name] for name in source.tensors if not name.startswith(_OURS)]
    if unknown:
        raise UserError(
            f"{path}: {source.format} with {len(unknown)} entries that are no part of a detector "
            f"of this project ({unknown[0]}, ...); give a file of one of its heads or a backbone"
        )


def _with_norms_of(to: str, source: Source) -> tuple[dict[str, Tensor], list[str]]:
    """Moves the epsilon of frozen norms to where the format `to` has it (see `epsilon`).

    Returns the entries, and the names of variances that are too small to keep their bits.
    """
    ours = dict(source.tensors)
    if source.format == CAFFE2:
        ours |= _folded_statistics(ours)
    had, has = source.format in WITH_EPSILON, to in ("mmdet", "backbone")
    frozen = [n for n in frozen_variances(ours) if not n.startswith(TIMM_BODY) and had != has]
    rounded = []
    for name in frozen:
        before = ours[name]
        ours[name] = take_epsilon(before) if has else add_epsilon(before)
        if has and not add_epsilon(ours[name]).equal(before):
            rounded.append(name)
    return ours, rounded


def _folded_statistics(ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns mean 0 and variance 1 for all batch norms. Caffe2 folds both into the weights."""
    statistics = {}
    for name, value in ours.items():
        if name.endswith(".bias"):  # it is a norm's, because no convolution of a body has a bias
            statistics[name.removesuffix("bias") + "running_mean"] = torch.zeros_like(value)
            statistics[name.removesuffix("bias") + "running_var"] = torch.ones_like(value)
    return statistics


def _renamer(
    to: str, ours: Mapping[str, Tensor], body: TimmNames | None
) -> Callable[[str], str | None]:
    """Makes a function from our names to those of the format `to`.

    The function returns None for an entry that the format lacks.
    """
    if to == "mmdet":
        return to_mmdet(ours)
    if to == "published":
        return lambda name: next(iter(to_published({name: ours[name]})))
    if to == "project":
        return lambda name: name
    return body.renamer() if body else to_torchvision(ours)


def _outside_body(name: str) -> bool:
    return not name.startswith(BODY) or name.startswith(f"{BODY}norms.")


def _unmapped(content: Mapping[str, Any], source: Source, strip: bool) -> dict[str, Tensor]:
    """Returns the tensors that are not weights of a detector: anchors, averages, the classifier."""
    carried = {bare(name): value for name, value in source.ignored.items()}
    carried |= nested(content, "unmapped")
    tensors = {
        name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        for name, value in carried.items()
    }
    return {
        name: value
        for name, value in tensors.items()
        if isinstance(value, Tensor) and not (strip and name.startswith("ema_"))
    }


def _is_native(to: str, name: str, body: TimmNames | None) -> bool:
    """Returns True for an entry that files of the format `to` have but no detector reads."""
    if to == "published":
        return not from_published({name: torch.empty(0)})
    if to == "mmdet":
        return from_mmdet([])(name) is None
    in_backbone_file = name in body.plain if body else from_torchvision([])(name) is None
    return to == "backbone" and in_backbone_file


def _wrap(
    to: str,
    state: dict[str, Tensor],
    content: Mapping[str, Any],
    unmapped: dict[str, Tensor],
    strip: bool,
) -> dict[str, Any]:
    """Puts the weights into the content of a file, with the other entries of the old file.

    With `strip` it keeps, of the other entries, only classes, meta and those that are needed to use
    the model.
    """
    keys = find_state(content, "").keys
    others = {k: v for k, v in content.items() if keys and k not in (*_REWRITTEN_KEYS, keys[0])}
    others = plain({k: v for k, v in others.items() if not isinstance(v, Skipped)})
    classes, meta = class_names(content), dict(nested(others, "meta"))
    others.pop("meta", None)
    meta.pop("CLASSES", None)
    if to == "backbone":
        others = {}
    elif strip:
        others = {k: v for k, v in others.items() if k in USAGE and isinstance(v, str)}
    if classes and to == "mmdet":
        meta["CLASSES"] = tuple(classes)
    elif classes or to == "project":
        others["classes"] = classes
    if meta or to == "mmdet":
        others["meta"] = meta
    if unmapped:
        others["unmapped"] = unmapped
    if to == "project":
        return {"format": CHECKPOINT_FORMAT, **others, "model": state}
    return {**others, "model" if to == "published" else "state_dict": state}
