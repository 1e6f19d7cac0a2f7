"""Makes small detectors to export."""

from pathlib import Path

import pytest
import torch
from helpers_run import ROOT, TINY
from torch import nn
from yacs.config import CfgNode

from dynamic_atss import builders
from dynamic_atss.config.defaults import default_config
from dynamic_atss.data.orientation import ReadOptions
from dynamic_atss.inference.restore import Restored

CLASSES = 4
PLAIN = (
    *("MODEL.BACKBONE.CONV_BODY", f"{ROOT}/examples/plain_body.py:PlainBody"),
    *("MODEL.BACKBONE.ARGS.width", 8),
)
ENDS = 0, 4  # the finest and the coarsest level


def restored(*options, body=PLAIN):
    """Makes a small detector whose scores and boxes differ from location to location."""
    cfg = default_config()
    cfg.merge_from_other_cfg(CfgNode.load_cfg(TINY))
    for key, value in zip(options[::2], options[1::2], strict=True):
        set_key(cfg, key, value)
    for key, value in zip(body[::2], body[1::2], strict=True):
        set_key(cfg, key, value)
    torch.manual_seed(0)
    detector = builders.build_model(cfg, CLASSES).eval().requires_grad_(False)
    for name, parameter in detector.head.named_parameters():
        if "cls_logits" in name:
            parameter.mul_(40) if parameter.ndim == 4 else parameter.fill_(-2.0)
        elif "bbox_pred.weight" in name:
            parameter.mul_(20)
        elif "branches.weight" in name:
            parameter.mul_(8)
        elif "branches.bias" in name:
            parameter[:CLASSES] = -2.0
    names = [f"class {k}" for k in range(CLASSES)]
    return Restored(detector, cfg, names, ReadOptions(exif="apply"), Path("x"), torch.device("cpu"))


def set_key(cfg, key, value):
    section, _, name = key.rpartition(".")
    for part in section.split("."):
        cfg = cfg[part]
    cfg[name] = value


class Ends(nn.Module):
    def forward(self, maps):
        return [maps[level] for level in ENDS]


def two_levels(model):
    """Keeps two of the detector's five levels, which halves the time of an export."""
    detector = model.detector
    detector.backbone = nn.Sequential(detector.backbone, Ends())
    detector.priors.strides = tuple(detector.priors.strides[level] for level in ENDS)
    detector.priors.cells = [detector.priors.cells[level] for level in ENDS]
    if getattr(detector.head, "scales", None):
        detector.head.scales = nn.ModuleList(detector.head.scales[level] for level in ENDS)
    return model


def need_onnx():
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install it")
