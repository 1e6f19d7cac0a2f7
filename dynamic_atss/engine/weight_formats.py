"""What a weight file is, told by its content, and its entries under this project's names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynamic_atss.errors import UserError

BODY = "backbone.body."
PROJECT = "dynamic_atss checkpoint"
PUBLISHED = "published maskrcnn-benchmark checkpoint"
CAFFE2 = "Caffe2 backbone"
TORCHVISION = "torchvision backbone"


@dataclass
class Source:
    """A weight file in this project's names.

    tensors, by our name · origin, our name -> the file's name · ignored, the file's names that no
    detector has a place for (classifier, anchors, momenta) · classes, the names of the detector's
    classes where the file tells them (this project's do)
    """

    format: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)

    @property
    def backbone_only(self) -> bool:
        return self.format in (CAFFE2, TORCHVISION)


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published names -> ours: no `module.`, `rpn.head.X` -> `head.X`, centerness -> quality.

    Anchor buffers are dropped: the model computes its own.
    """
    renamed = {_from_published(name): tensor for name, tensor in state.items()}
    return {name: tensor for name, tensor in renamed.items() if name is not None}


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names -> published ones; `from_published` of it is the same dict again."""
    return {_to_published(name): tensor for name, tensor in state.items()}


def _from_published(name: str) -> str | None:
    name = name.removeprefix("module.")
    if name.startswith("rpn.anchor_generator."):
        return None
    if not name.startswith("rpn.head."):
        return name
    return "head." + re.sub(r"^centerness\.", "quality.", name.removeprefix("rpn.head."))


def _to_published(name: str) -> str:
    if not name.startswith("head."):
        return name
    return "rpn.head." + re.sub(r"^quality\.", "centerness.", name.removeprefix("head."))


def _from_torchvision(name: str) -> str | None:
    if name.startswith("fc."):
        return None
    return BODY + ("stem." if name.startswith(("conv1.", "bn1.")) else "") + name


_CAFFE2_STEM = re.compile(r"(?:res_)?conv1_(?:(w)|[bg]n_([sb]))")
_CAFFE2_BLOCK = re.compile(r"res([2-5])_(\d+)_branch(?:(1)|2([abc]))_(?:(w)|[bg]n_([sb]))")


def _from_caffe2(name: str) -> str | None:
    """`res3_1_branch2b_bn_s` -> `layer2.1.bn2.weight`; None for momenta, classifier, biases."""
    kinds = {"s": "weight", "b": "bias"}
    if stem := _CAFFE2_STEM.fullmatch(name):
        return BODY + ("stem.conv1.weight" if stem[1] else f"stem.bn1.{kinds[stem[2]]}")
    if not (block := _CAFFE2_BLOCK.fullmatch(name)):
        return None
    stage, index, shortcut, part, weight, affine = block.groups()
    if shortcut:
        module = "downsample.0" if weight else "downsample.1"
    else:
        module = ("conv" if weight else "bn") + str("abc".index(part) + 1)
    entry = "weight" if weight else kinds[affine]
    return f"{BODY}layer{int(stage) - 1}.{index}.{module}.{entry}"


def identify(content: Any, path: object) -> Source:
    """The format of a file's content and its entries by our names.

    Raises UserError for content that is none of the known formats; it shows the first entry.
    """
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: holds a {type(content).__name__}, not weights by name")
    if "format" in content and isinstance(content.get("model"), dict):
        source = _translate(PROJECT, content["model"], lambda name: name, path)
        return replace(source, classes=list(content.get("classes", [])))
    blobs = content.get("blobs", content)
    if isinstance(blobs, dict) and any(isinstance(v, np.ndarray) for v in blobs.values()):
        return _translate(CAFFE2, blobs, _from_caffe2, path)
    state = content["model"] if isinstance(content.get("model"), dict) else content
    names = [str(name).removeprefix("module.") for name in state]
    if any(name.startswith((BODY, "rpn.head.")) for name in names):
        return _translate(PUBLISHED, state, _from_published, path)
    if {"conv1.weight", "layer1.0.conv1.weight"} <= set(names):
        bare = {str(name).removeprefix("module."): tensor for name, tensor in state.items()}
        return _translate(TORCHVISION, bare, _from_torchvision, path)
    first = names[0] if names else "nothing"
    raise UserError(
        f"{path}: its entries ({first}, ...) are of no known format (dynamic_atss, "
        "maskrcnn-benchmark, Caffe2, torchvision): convert the names"
    )


def _translate(
    kind: str, entries: Mapping[str, Any], rename: Callable[[str], str | None], path: object
) -> Source:
    source = Source(kind)
    for name, value in entries.items():
        ours = rename(str(name))
        if ours is None:
            source.ignored.append(str(name))
            continue
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value)
        if not isinstance(value, Tensor):
            raise UserError(f"{path}: {name} is a {type(value).__name__}, not a tensor")
        if ours in source.tensors:
            raise UserError(f"{path}: {name} and {source.origin[ours]} are the same weight")
        source.tensors[ours] = value
        source.origin[ours] = str(name)
    return source
