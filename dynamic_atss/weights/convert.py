"""Weight files from one format into another: the same weights to the bit, or an error."""

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
from dynamic_atss.weights.epsilon import add_epsilon, frozen_variances, take_epsilon
from dynamic_atss.weights.fit import RULE
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
from dynamic_atss.weights.inert import Skipped
from dynamic_atss.weights.known import plain
from dynamic_atss.weights.loading import check_finite, read_file
from dynamic_atss.weights.mmdet_names import from_mmdet, to_mmdet, value_to_mmdet
from dynamic_atss.weights.timm import TimmNames, check_timm
from dynamic_atss.weights.wrappers import bare, find_state

_SAME = {PROJECT: "project", PUBLISHED: "published", MMDET: "mmdet"}
_OURS = (BODY, "backbone.fpn.", "head.", RULE)
_OWN_KEYS = ("format", "model", "state_dict", "classes", "unmapped", "blobs")


@dataclass(frozen=True)
class Converted:
    """content, to be written · source, what was read · left_out, entries that are not in it"""

    content: dict[str, Any]
    source: Source
    left_out: list[str]

    def summary(self) -> str:
        """A few lines for the user."""
        state = entries(self.content)
        lines = [f"read: {self.source.format}, {len(self.source.tensors)} entries"]
        lines.append(f"written: {len(state)} entries, {len(class_names(self.content))} class names")
        if self.left_out:
            lines.append(f"left out: {len(self.left_out)} ({_few(self.left_out)})")
        lines += [f"note: {note}" for note in self.source.notes]
        if self.source.pixels is not None:
            lines.append(f"note: its network expects {self.source.pixels.settings()}")
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
    """Converts a file; `dst` is at no time half a file. See `convert`.

    Raises UserError, with nothing written, also if `dst` is `src`, or exists without `overwrite`.
    """
    if dst.exists() and src.exists() and dst.samefile(src):
        raise UserError(f"{dst}: is the file that is read; give another name")
    if dst.is_dir() or (dst.exists() and not overwrite):
        raise UserError(f"{dst}: exists already; give another name, or --overwrite for a file")
    converted = convert(read_file(src), src, to, body=body, strip=strip, force=force)
    write_atomically(dst, lambda file: torch.save(converted.content, file))
    return converted


def own_format(path: Path) -> str:
    """What `convert` calls the format that the file has already.

    Raises UserError for a file that is no checkpoint of a detector, or cannot be read.
    """
    kind = identify(read_file(path), path).format
    if kind not in _SAME:
        raise UserError(f"{path}: is a {kind}, which has no solver's state")
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
    """The content of a file in the format `to`.

    project, published (maskrcnn-benchmark) and mmdet (DSLA) hold whole detectors; what else the
    file has (optimizer, anchors, ...) is carried along, so that the way back gives it again, unless
    `strip`. backbone: the body alone, in the names of torchvision under "state_dict" (a bare file
    would pass for torchvision's own, of known pixels), or bare in timm's plain names.
    body: the model of timm's files and of bodies from there, which their entries do not tell.
    Raises UserError for a file of no known format, for numbers that are not finite, and for entries
    that `to` cannot hold, or not to the bit, unless `force` leaves them out or rounds them.
    """
    source = identify(content, path, body.ours if body else ())
    _refuse_unknown(source, path)
    check_finite(source, path)
    if body:
        check_timm(source, body, path)
    elif to == "backbone" and any(name.startswith(TIMM_BODY) for name in source.tensors):
        raise UserError(f"{path}: its body is one of timm: give --body timm/<name>, its CONV_BODY")
    ours, lost = _with_norms_of(to, source)
    state, left_out = _renamed(to, ours, body)
    if to == "backbone":  # its purpose is to leave the rest behind
        lost += [name for name in left_out if not _beside_body(name)]
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
    """The entries under the names and in the layout of `to`, and those without a name there."""
    rename, state, nameless = _renamer(to, ours, body), {}, []
    for name, value in ours.items():
        theirs = None if name.startswith(RULE) and to != "project" else rename(name)
        if theirs is None or theirs in state:
            nameless.append(name)
        else:
            try:
                state[theirs] = value_to_mmdet(name, value) if to == "mmdet" else value
            except (RuntimeError, IndexError):  # of no size that such a weight has
                nameless.append(name)
    return state, nameless


def _refuse_unknown(source: Source, path: object) -> None:
    unknown = [source.origin[name] for name in source.tensors if not name.startswith(_OURS)]
    if unknown:
        raise UserError(
            f"{path}: {source.format} with {len(unknown)} entries that are no part of a detector "
            f"of this project ({unknown[0]}, ...)"
        )


def _with_norms_of(to: str, source: Source) -> tuple[dict[str, Tensor], list[str]]:
    """The entries with the epsilon of frozen norms where `to` has it (see engine.epsilon), and the
    variances that are too small for that."""
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
    """Mean 0 and variance 1 of the batch norms, which Caffe2's files have in their weights."""
    statistics = {}
    for name, value in ours.items():
        if name.endswith(".bias"):  # no convolution of a body has one
            statistics[name.removesuffix("bias") + "running_mean"] = torch.zeros_like(value)
            statistics[name.removesuffix("bias") + "running_var"] = torch.ones_like(value)
    return statistics


def _renamer(
    to: str, ours: Mapping[str, Tensor], body: TimmNames | None
) -> Callable[[str], str | None]:
    """A function: our name -> the one in the format, or None."""
    if to == "mmdet":
        return to_mmdet(ours)
    if to == "published":
        return lambda name: next(iter(to_published({name: ours[name]})))
    if to == "project":
        return lambda name: name
    return body.renamer() if body else to_torchvision(ours)


def _beside_body(name: str) -> bool:
    return not name.startswith(BODY) or name.startswith(f"{BODY}norms.")


def _unmapped(content: Mapping[str, Any], source: Source, strip: bool) -> dict[str, Tensor]:
    """The entries that are no weights of a detector: anchors, averages, the classifier."""
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
    """True for an entry that files of this format have although no detector reads it."""
    if to == "published":
        return not from_published({name: torch.empty(0)})
    if to == "mmdet":
        return from_mmdet([])(name) is None
    theirs = name in body.plain if body else from_torchvision([])(name) is None
    return to == "backbone" and theirs


def _wrap(
    to: str,
    state: dict[str, Tensor],
    content: Mapping[str, Any],
    unmapped: dict[str, Tensor],
    strip: bool,
) -> dict[str, Any]:
    """The state with what stood beside it in the file; `strip` keeps the classes, meta and what
    using the model needs alone."""
    keys = find_state(content, "").keys
    beside = {k: v for k, v in content.items() if keys and k not in (*_OWN_KEYS, keys[0])}
    rest = plain({k: v for k, v in beside.items() if not isinstance(v, Skipped)})
    classes, meta = class_names(content), dict(nested(rest, "meta"))
    rest.pop("meta", None)
    meta.pop("CLASSES", None)
    if to == "backbone":
        rest = {}
    elif strip:
        rest = {k: v for k, v in rest.items() if k in USAGE and isinstance(v, str)}
    if classes and to == "mmdet":
        meta["CLASSES"] = tuple(classes)
    elif classes or to == "project":
        rest["classes"] = classes
    if meta or to == "mmdet":
        rest["meta"] = meta
    if unmapped:
        rest["unmapped"] = unmapped
    if to == "project":
        return {"format": CHECKPOINT_FORMAT, **rest, "model": state}
    return {**rest, "model" if to == "published" else "state_dict": state}
