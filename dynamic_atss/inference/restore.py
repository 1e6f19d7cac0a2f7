"""A trained detector from a run's folder or a file, with what using it needs. Nothing that the file
names is run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

from dynamic_atss.builders.model import build_model
from dynamic_atss.builders.values import check_values
from dynamic_atss.config.code import refuse_code
from dynamic_atss.config.load import load_config, parse_config
from dynamic_atss.config.record import NAME
from dynamic_atss.data.frames import Reading
from dynamic_atss.engine.newest import LAST, find_newest
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.detector import Detector
from dynamic_atss.reading import YAML_BYTES
from dynamic_atss.weights.classes import COCO, class_count
from dynamic_atss.weights.download import weight_file
from dynamic_atss.weights.formats import identify
from dynamic_atss.weights.loading import load_content, read_file
from dynamic_atss.weights.wrappers import split_key


@dataclass(frozen=True)
class Restored:
    """detector, in evaluation mode, with the weights that a test would have · cfg, the whole
    configuration, as trained · class_names, in the order of the detector's classes · reading, how
    picture files become pixels; its exif is "apply" or "ignore" · path, of the weights · device"""

    detector: Detector
    cfg: CfgNode
    class_names: list[str]
    reading: Reading
    path: Path
    device: torch.device


def restore(
    path: str | os.PathLike[str],
    *,
    device: str | torch.device = "auto",
    config_file: str | os.PathLike[str] = "",
    overrides: Sequence[str] = (),
    class_names: Sequence[str] = (),
    allow_code: bool = False,
) -> Restored:
    """The detector of a run's folder (its newest checkpoint), or of a file of any format that
    MODEL.WEIGHT takes.

    The configuration is `config_file`, else that in the file, else the config.yaml beside it, each
    with `overrides` (KEY VALUE KEY VALUE ...). The label assignment rule, losses, augmentations and
    data sets are not used: those of the user's own need not be there.

    Args:
        device: "auto" is a GPU if there is one.
        class_names: in the order of the file's classes; for files that do not tell them.
        allow_code: run the head or body of the user's own that the configuration names.

    Raises:
        UserError: no such weights; no configuration; no class names; code that is not allowed;
        weights that do not fit.
    """
    where = _device(device)
    file = _weights_of(path)
    content = read_file(file)
    cfg = _config(file, content, config_file, overrides, allow_code=True)  # none of it is run
    used = for_prediction(cfg)
    if not allow_code:
        refuse_code(used, {*overrides[::2]}, str(config_file or file))
    check_values(used)
    names = _names_in(content, file, class_names)
    detector = build_model(used, len(names), losses=False)
    report = load_content(detector, content, file, class_names=names, allow_new_classes=False)
    if any(name.startswith("head.") for name in report.initial):
        raise UserError(f"{file}: weights of a backbone only; give those of a whole detector")
    detector.to(where).eval().requires_grad_(False)
    exif = _exif(cfg, content, "INPUT.EXIF" in overrides[::2])
    reading = Reading(exif=exif, max_pixels=cfg.INPUT.MAX_PIXELS, bits=cfg.INPUT.BITS)
    return Restored(detector, cfg, names, reading, file, where)


def recorded_config(
    path: str | os.PathLike[str], overrides: Sequence[str] = (), *, allow_code: bool = False
) -> CfgNode:
    """The configuration of a run's folder or of a file, with overrides, as `load_config` has it.

    Raises:
        UserError: as `restore`, and for code that only the configuration names.
    """
    file = _weights_of(path)
    return _config(file, read_file(file), "", overrides, allow_code=allow_code)


def for_prediction(cfg: CfgNode) -> CfgNode:
    """A copy without what only training reads: no rule, loss or data set of the user's own is left,
    nor a device that is not there."""
    used = cfg.clone()
    used.defrost()
    used.MODEL.ASSIGNER.NAME, used.MODEL.ASSIGNER.ARGS = "", CfgNode()
    if used.MODEL.ONE_TO_ONE.NAME:  # the branch is there, whatever has taught it
        used.MODEL.ONE_TO_ONE.NAME, used.MODEL.ONE_TO_ONE.ARGS = "poto", CfgNode()
    used.MODEL.BOX_LOSS = used.MODEL.CLASS_LOSS = used.MODEL.CLASS_LOSS_DIVISOR = ""
    used.INPUT.AUGMENTATIONS = used.DATASETS.TRAIN = used.DATASETS.TEST = ()
    used.MODEL.DEVICE, used.MODEL.COMPILE = "auto", False  # compiling takes longer than a folder
    used.freeze()
    return used


def _device(device: str | torch.device) -> torch.device:
    """Raises UserError: there is no such device."""
    if str(device) == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch without CUDA
        unknown = str(error).startswith("Expected one of")  # PyTorch lists twenty kinds
        reason = "there is no such kind" if unknown else str(error).split("\n")[0]
        raise UserError(f"device {str(device)!r}: {reason}; auto or cpu works everywhere") from None


def _weights_of(path: str | os.PathLike[str]) -> Path:
    """The file; of a folder the newest checkpoint."""
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise UserError(f"weights {path!r}: give the path of a run's folder or of a .pth file")
    given = os.fspath(path)
    folder = Path(given).expanduser()
    if not folder.is_dir():
        file = weight_file(given, None)
        if not split_key(file)[0].exists():
            raise UserError(f"{given}: no such weights: give a run's folder or a .pth file")
        return file
    found = find_newest(folder)
    if found is None:
        runs = sorted(pointer.parent for pointer in folder.glob(f"*/{LAST}"))
        near = f": did you mean {runs[0]}?" if runs else ""
        raise UserError(f"{given}: the folder holds no checkpoint (model_*.pth){near}")
    return found.path


def _config(
    file: Path,
    content: Any,
    config_file: str | os.PathLike[str],
    overrides: Sequence[str],
    *,
    allow_code: bool,
) -> CfgNode:
    if config_file:
        return load_config(os.fspath(config_file), overrides, allow_code=allow_code)
    text = content.get("config") if isinstance(content, dict) else None
    if isinstance(text, str) and len(text) <= YAML_BYTES:
        return parse_config(text, f"{file}, its configuration", overrides, allow_code=allow_code)
    beside = file.with_name(NAME)
    if beside.is_file():
        return load_config(beside, overrides, allow_code=allow_code)
    raise UserError(
        f"{file}: does not hold its configuration, and there is no {NAME} beside it: give the YAML "
        "file by --config-file (in Python config_file=)"
    )


def _names_in(content: Any, file: Path, given: Sequence[str]) -> list[str]:
    """The classes by the names `given`, else those that the file tells; 80 without names are
    COCO's."""
    source = identify(content, file)
    count = class_count(source)
    if given and count and len(given) != count:
        raise UserError(
            f"{file}: has {count} classes, but --names (in Python class_names=) gives {len(given)}"
        )
    if given:
        return list(given)
    names = source.classes or (list(COCO) if count == len(COCO) else [])
    if not names:
        raise UserError(
            f"{file}: tells no class names ({count or 'no'} classes): give them in its order by "
            "--names a,b,c (in Python class_names=)"
        )
    return names


def _exif(cfg: CfgNode, content: Mapping[str, Any], given: bool) -> str:
    """What was asked for, else the frame of the pictures that the model learnt, else as viewers
    show them."""
    asked, recorded = cfg.INPUT.EXIF, content.get("exif")
    if asked != "auto" and (given or recorded not in ("apply", "ignore")):
        return asked
    return recorded if recorded in ("apply", "ignore") else "apply"
