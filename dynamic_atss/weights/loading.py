"""Loads weights into a model, by exact names, completely or not at all, with a report."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from dynamic_atss.errors import UserError
from dynamic_atss.reading import SAFETENSORS_HEADER, WEIGHT_BYTES, open_file
from dynamic_atss.weights.adapt import adapt
from dynamic_atss.weights.backbone_names import TIMM_BODY
from dynamic_atss.weights.check_shapes import check_fit, check_names
from dynamic_atss.weights.checksum_warning import unchecked
from dynamic_atss.weights.classes import arrange
from dynamic_atss.weights.download import weight_file
from dynamic_atss.weights.epsilon import COUNTER
from dynamic_atss.weights.find_weights import choose, split_key
from dynamic_atss.weights.foreign import foreign
from dynamic_atss.weights.formats import Source, identify
from dynamic_atss.weights.unpickle import read_weights

_NO_WEIGHTS = {
    b"<": "a web page",
    b"version https://git-lfs": "a Git LFS pointer (run git lfs pull)",
    b"": "an empty file",
}


@dataclass(frozen=True)
class LoadReport:
    """Reports which entries were loaded from a weight file.

    Attributes:
        file, format: the file and its format.
        loaded: the model's entries that were filled.
        initial: the model's entries that were left at their initial value.
        unused: the file's entries that were not used, by the file's names.
        notes: lines for the user.
    """

    file: str
    format: str
    loaded: list[str]
    initial: list[str]
    unused: list[str]
    notes: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """Describes the report in a few lines, with the number of entries by module."""
        lines = [f"weights: {self.file} ({self.format})", f"  loaded: {_by_module(self.loaded)}"]
        if self.initial:
            lines.append(f"  left at the initial value: {_by_module(self.initial)}")
        if self.unused:
            shown = ", ".join(self.unused[:4]) + (", ..." if len(self.unused) > 4 else "")
            lines.append(f"  not used from the file: {len(self.unused)} ({shown})")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def _by_module(names: Iterable[str]) -> str:
    """Counts entries by module, as in `backbone.body 159, head 43`."""
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

    The file must fill the complete model, a backbone file the body, and no entry may be left over.
    There are two exceptions: the state of a rule (`criterion.*`), and deformable offsets for a
    backbone file.

    Args:
        model: the model, which is changed.
        weight: a path, `catalog://...` or a URL. The content decides on the format.
        cache_dir: see `weight_file`.
        class_names: the classes of the data set. Logits are reordered if file and data set have the
            same names in another order.
        allow_new_classes: leaves `head.cls_logits.*` at the initial value if the classes differ in
            number or name. False makes that an error.

    Raises UserError, and leaves the model as it was, for a file that is missing, damaged, of an
    unknown format or of another architecture, or that holds code or numbers that are not finite.
    """
    path = weight_file(weight, cache_dir)
    report = load_content(
        model,
        read_file(path),
        path,
        class_names=class_names,
        allow_new_classes=allow_new_classes,
    )
    if "://" not in str(weight):  # packages and downloads are checked by their digests
        report.notes.extend(unchecked(split_key(path)[0]))
    return report


def load_content(
    model: nn.Module,
    content: Any,
    path: Path,
    *,
    class_names: Sequence[str] = (),
    allow_new_classes: bool = True,
) -> LoadReport:
    """Fills `model` as `load_weights` does, from content that `read_file` returned."""
    targets = model.state_dict()
    timm_names = [name for name in targets if name.startswith(TIMM_BODY)]
    source = identify(content, path, timm_names)
    check_finite(source, path)
    notes = source.notes + adapt(source, model, path)
    skipped = check_fit(source, targets, path, allow_new_classes, notes)
    notes += arrange(source, class_names)
    skipped |= check_names(source, class_names, path, allow_new_classes, notes)
    loaded = [name for name in targets if name in source.tensors and name not in skipped]
    if not loaded:
        raise UserError(f"{path}: none of its entries ({source.format}) fits the model")
    with torch.no_grad():
        for name in loaded:
            targets[name].copy_(source.tensors[name])
    unused = [source.origin[n] for n in source.tensors if n not in targets or n in skipped]
    unused.sort(key=lambda name: name.endswith(COUNTER))  # counters matter least
    initial = [name for name in targets if name not in set(loaded)]
    return LoadReport(str(path), source.format, loaded, initial, [*source.ignored, *unused], notes)


def check_finite(source: Source, path: object) -> None:
    """Raises UserError if weights are NaN or infinite, as after a training that diverged."""
    damaged = [name for name, tensor in source.tensors.items() if not _is_finite(tensor)]
    if damaged:
        first = source.tensors[damaged[0]]
        wrong = int((~first.isfinite()).sum())
        raise UserError(
            f"{path}: {len(damaged)} of {len(source.tensors)} entries hold NaN or infinity, first "
            f"{source.origin[damaged[0]]}, {wrong:,} of its {first.numel():,} numbers: training "
            "diverged or the file is damaged; use an earlier checkpoint"
        )


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def read_file(path: Path) -> Any:
    """Reads a weight file of torch, Caffe2 or safetensors. Runs no code from it.

    `file.pth#key` reads the weights under that key of a file that has several (see `choose`).
    Raises UserError for a file that is missing or damaged, or has no such key.
    """
    path, key = split_key(path)
    return choose(_read_all(path), key, path)


def _read_all(path: Path) -> Any:
    try:
        with open_file(path, WEIGHT_BYTES) as file:
            _refuse_other_downloads(file, path)
            _check_header(file, path)
            other = "" if path.suffix == ".safetensors" else foreign(file)
    except OSError:
        return read_weights(path)  # it raises the error for the user
    if other:
        raise UserError(f"{path}: {other}")
    if path.suffix != ".safetensors":
        return read_weights(path)
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise UserError(f"{path}: needs the package safetensors: pip install safetensors") from None
    try:
        return load_file(path)
    except Exception as error:  # the class of safetensors' error is not public
        raise UserError(f"{path}: truncated or damaged: fetch or copy it again") from error


def _check_header(file: BinaryIO, path: Path) -> None:
    """Raises UserError for a `.safetensors` file whose header is too long."""
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if path.suffix == ".safetensors" and length > SAFETENSORS_HEADER:
        raise UserError(
            f"{path}: truncated or damaged: its header claims {length:,} bytes, the limit is "
            f"{SAFETENSORS_HEADER:,}: fetch or copy it again"
        )


def _refuse_other_downloads(file: BinaryIO, path: Path) -> None:
    """Raises UserError for content that a failed download leaves in place of weights."""
    head = file.read(64).lstrip().lower()
    for start, kind in _NO_WEIGHTS.items():
        if head.startswith(start) and (start or not head):
            raise UserError(f"{path}: {kind}, not weights: fetch the file again")
