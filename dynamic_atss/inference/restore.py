"""Restores a trained detector from the folder of a run or a file.

Code that the file names is not run, unless the caller allows it.
"""

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
from dynamic_atss.data.orientation import ReadOptions
from dynamic_atss.engine.newest_checkpoint import LAST, find_newest
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.detector import Detector
from dynamic_atss.reading import YAML_BYTES
from dynamic_atss.suggest import path_advice
from dynamic_atss.weights.classes import COCO, class_count
from dynamic_atss.weights.download import weight_file
from dynamic_atss.weights.find_weights import split_key
from dynamic_atss.weights.formats import identify
from dynamic_atss.weights.loading import load_content, read_file


@dataclass(frozen=True)
class Restored:
    """Holds a trained detector and all that its use needs.

    Attributes:
        detector: in evaluation mode, with the weights that a test uses.
        cfg: the complete configuration of the training.
        class_names: the names in the order of the detector's classes.
        reading: says how picture files become pixels; its exif is "apply" or "ignore".
        path: path of the weights.
        device: the device of the detector.
    """

    detector: Detector
    cfg: CfgNode
    class_names: list[str]
    reading: ReadOptions
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
    """Restores the detector of a run's folder (its newest checkpoint), or of a weight file.

    The configuration is `config_file`, else that in the file, else the config.yaml in its folder.
    The label assignment rule, losses, augmentations and data sets are not used. If they are custom
    code, that code need not exist.

    Args:
        path: a folder of a run, or a file of any format that MODEL.WEIGHT takes.
        device: "auto" chooses a GPU if there is one.
        overrides: KEY VALUE KEY VALUE ... that replace values of the configuration.
        class_names: in the order of the file's classes, for files without names.
        allow_code: runs a custom head or body that the configuration names.

    Raises:
        UserError: the weights, the configuration or the class names are missing, code is not
            allowed, or the weights do not fit the configuration.
    """
    target = _device(device)
    file = _weights_of(path)
    content = read_file(file)
    cfg = _config(file, content, config_file, overrides, allow_code=True)  # runs no code yet
    used = for_prediction(cfg)
    if not allow_code:
        refuse_code(used, {*overrides[::2]}, str(config_file or file))
    check_values(used)
    names = _names_in(content, file, class_names)
    detector = build_model(used, len(names), losses=False)
    report = load_content(detector, content, file, class_names=names, allow_new_classes=False)
    if any(name.startswith("head.") for name in report.initial):
        raise UserError(f"{file}: contains a backbone only; give the weights of a detector")
    detector.to(target).eval().requires_grad_(False)
    exif = _exif(cfg, content, "INPUT.EXIF" in overrides[::2])
    reading = ReadOptions(exif=exif, max_pixels=cfg.INPUT.MAX_PIXELS, bits=cfg.INPUT.BITS)
    return Restored(detector, cfg, names, reading, file, target)


def recorded_config(
    path: str | os.PathLike[str], overrides: Sequence[str] = (), *, allow_code: bool = False
) -> CfgNode:
    """Returns the configuration of a run's folder or of a file, with overrides.

    Raises:
        UserError: as `restore`, and if only the configuration names code, without `allow_code`.
    """
    file = _weights_of(path)
    return _config(file, read_file(file), "", overrides, allow_code=allow_code)


def for_prediction(cfg: CfgNode) -> CfgNode:
    """Returns a copy without the parts that only training uses: custom rules, losses and data sets.

    The device is "auto", because the training's may not exist.
    """
    used = cfg.clone()
    used.defrost()
    used.MODEL.ASSIGNER.NAME, used.MODEL.ASSIGNER.ARGS = "", CfgNode()
    if used.MODEL.ONE_TO_ONE.NAME:  # keeps the branch; any one-to-one rule will do
        used.MODEL.ONE_TO_ONE.NAME, used.MODEL.ONE_TO_ONE.ARGS = "poto", CfgNode()
    used.MODEL.BOX_LOSS = used.MODEL.CLASS_LOSS = used.MODEL.CLASS_LOSS_DIVISOR = ""
    used.INPUT.AUGMENTATIONS = used.DATASETS.TRAIN = used.DATASETS.TEST = ()
    used.MODEL.DEVICE = "auto"
    # Compiling and recording take longer than they save.
    used.MODEL.COMPILE = used.MODEL.CUDA_GRAPHS = False
    used.freeze()
    return used


def _device(device: str | torch.device) -> torch.device:
    """Returns the device. Raises UserError if it does not exist."""
    if str(device) == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch without CUDA
        unknown = str(error).startswith("Expected one of")  # PyTorch's list is long
        reason = "there is no such kind" if unknown else str(error).split("\n")[0]
        raise UserError(f"device {str(device)!r}: {reason}; auto or cpu works everywhere") from None


def _weights_of(path: str | os.PathLike[str]) -> Path:
    """Returns the weight file; for a folder, its newest checkpoint."""
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise UserError(f"weights {path!r}: give the path of a run's folder or of a .pth file")
    given = os.fspath(path)
    folder = Path(os.path.expanduser(given))
    if not folder.is_dir():
        file = weight_file(given, None)
        if not split_key(file)[0].exists():
            advice = path_advice(folder, "give a run's folder or a .pth file")
            raise UserError(f"{given}: no such weights: {advice}")
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
    recorded = file.with_name(NAME)
    if recorded.is_file():
        return load_config(recorded, overrides, allow_code=allow_code)
    raise UserError(
        f"{file}: contains no configuration, and its folder has no {NAME}: give the YAML file by "
        "--config-file (in Python config_file=)"
    )


def _names_in(content: Any, file: Path, given: Sequence[str]) -> list[str]:
    """Returns the class names: `given`, else those in the file, else COCO's for 80 classes."""
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
            f"{file}: contains no class names ({count or 'no'} classes): give them in its order by "
            "--names a,b,c (in Python class_names=)"
        )
    return names


def _exif(cfg: CfgNode, content: Mapping[str, Any], given: bool) -> str:
    """Returns how to treat EXIF orientation: as given, else as in training, else "apply"."""
    configured, recorded = cfg.INPUT.EXIF, content.get("exif")
    if configured != "auto" and (given or recorded not in ("apply", "ignore")):
        return configured
    return recorded if recorded in ("apply", "ignore") else "apply"
