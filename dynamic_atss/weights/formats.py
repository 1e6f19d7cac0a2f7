"""What a weight file is, told by its content, and its entries under this project's names."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynamic_atss.errors import UserError
from dynamic_atss.weights.backbone_names import BODY, from_timm, from_torchvision, is_torchvision
from dynamic_atss.weights.mmdet_names import from_mmdet, value_from_mmdet
from dynamic_atss.weights.pixels import IMAGENET, Pixels, mmdet_pixels, mmdet_stride_in_1x1

PROJECT = "dynamic_atss checkpoint"
PUBLISHED = "published maskrcnn-benchmark checkpoint"
MMDET = "published DSLA checkpoint (mmdetection)"
CAFFE2 = "Caffe2 backbone"
TORCHVISION = "torchvision backbone"
TIMM = "timm backbone"
WITH_EPSILON = (MMDET, TORCHVISION)  # whose batch norms, frozen or not, have an epsilon

_MMDET = re.compile(r"(bbox_head|neck)\.|backbone\.(?!body\.|fpn\.)")


@dataclass
class Source:
    """A weight file in this project's names.

    tensors, by our name · origin, our name -> the file's name · ignored, by the file's name, what
    no detector has a place for (classifier, anchors, momenta) · classes, the names of the classes
    where the file tells them (this project's and mmdetection's do) · pixels and
    stride_in_1x1, what the network was trained with, where the file tells it
    """

    format: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    ignored: dict[str, Any] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    pixels: Pixels | None = None
    stride_in_1x1: bool | None = None

    @property
    def backbone_only(self) -> bool:
        return all(name.startswith(BODY) for name in self.tensors)


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
    name = bare(name)
    if name.startswith("rpn.anchor_generator."):
        return None
    if not name.startswith("rpn.head."):
        return name
    return "head." + re.sub(r"^centerness\.", "quality.", name.removeprefix("rpn.head."))


def _to_published(name: str) -> str:
    if not name.startswith("head."):
        return name
    return "rpn.head." + re.sub(r"^quality\.", "centerness.", name.removeprefix("head."))


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


def identify(content: Any, path: object, timm_names: Collection[str] = ()) -> Source:
    """The format of a file's content and its entries by our names.

    timm_names: the entries of the model's body if it is one of timm, whose files cannot be told by
    their content alone. Raises UserError for content that is none of the known formats; it shows
    the first entry.
    """
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: holds a {type(content).__name__}, not weights by name")
    blobs = content.get("blobs", content)
    if isinstance(blobs, dict) and any(isinstance(v, np.ndarray) for v in blobs.values()):
        return _translate(Source(CAFFE2), blobs, _from_caffe2, path)
    state = entries(content)
    names = [bare(name) for name in state]
    if "format" in content and isinstance(content.get("model"), dict):
        source = Source(PROJECT, classes=class_names(content))
        return _translate(source, state, lambda name: name, path)
    if any(name.startswith((BODY, "rpn.head.")) for name in names):
        source = Source(PUBLISHED, classes=class_names(content))
        return _translate(source, state, _from_published, path)
    if any(map(_MMDET.match, names)):
        return _translate(_mmdet(content), state, from_mmdet(names), path, value_from_mmdet)
    if timm_names:
        return _translate(Source(TIMM), state, from_timm(timm_names), path)
    if is_torchvision(names):
        # torchvision's own files are bare; a wrapped one is of somebody else's training.
        theirs = state.keys() == content.keys()
        source = (
            Source(TORCHVISION, pixels=IMAGENET, stride_in_1x1=False)
            if theirs
            else Source(TORCHVISION)
        )
        return _translate(source, state, from_torchvision(names), path)
    first = names[0] if names else "nothing"
    raise UserError(
        f"{path}: its entries ({first}, ...) are of no known format (dynamic_atss, "
        "maskrcnn-benchmark, Caffe2, torchvision, mmdetection's DSLA): convert the names; a file "
        'of timm needs MODEL.BACKBONE.CONV_BODY "timm/<name>", or --body timm/<name> to convert it'
    )


def entries(content: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a file, which stand under "model", "state_dict" or at its top."""
    for key in ("model", "state_dict"):
        if isinstance(content.get(key), dict):
            return content[key]
    return dict(content)


def bare(name: object) -> str:
    """The name without the prefix of DistributedDataParallel."""
    return str(name).removeprefix("module.")


def class_names(content: Mapping[str, Any]) -> list[str]:
    """The names of the classes, in the order of the logits; empty if the file does not tell."""
    for named in (content.get("classes"), nested(content, "meta").get("CLASSES")):
        if isinstance(named, (list, tuple)) and named:
            return [str(name) for name in named]
    return []


def nested(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The dictionary under `key`; empty if there is none."""
    value = content.get(key)
    return value if isinstance(value, dict) else {}


def _mmdet(content: Mapping[str, Any]) -> Source:
    config = str(nested(content, "meta").get("config", ""))
    return Source(
        MMDET,
        classes=class_names(content),
        pixels=mmdet_pixels(config),
        stride_in_1x1=mmdet_stride_in_1x1(config),
    )


def _translate(
    source: Source,
    state: Mapping[str, Any],
    rename: Callable[[str], str | None],
    path: object,
    value_of: Callable[[str, Tensor], Tensor] = lambda name, value: value,
) -> Source:
    for name, value in state.items():
        ours = rename(bare(name))
        if ours is None:
            source.ignored[str(name)] = value
            continue
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value)
        if not isinstance(value, Tensor):
            raise UserError(f"{path}: {name} is a {type(value).__name__}, not a tensor")
        if ours in source.tensors:
            raise UserError(f"{path}: {name} and {source.origin[ours]} are the same weight")
        try:
            source.tensors[ours] = value_of(ours, value)
        except (RuntimeError, IndexError):  # not the sizes of such a weight
            raise UserError(f"{path}: {name} has the shape {tuple(value.shape)}") from None
        source.origin[ours] = str(name)
    return source
