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
from dynamic_atss.quoting import printable
from dynamic_atss.weights.backbone_names import BODY, from_timm, from_torchvision, is_torchvision
from dynamic_atss.weights.efficientnet_names import is_efficientnet, to_timm_names
from dynamic_atss.weights.mmdet_names import from_mmdet, value_from_mmdet
from dynamic_atss.weights.pixels import IMAGENET, Pixels, mmdet_pixels, mmdet_stride_in_1x1
from dynamic_atss.weights.wrappers import (
    bare,
    bare_names,
    find_state,
    refuse_object,
    what_is,
)

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
    stride_in_1x1, what the network was trained with, where the file tells it · notes, which of
    several weights were taken
    """

    format: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    ignored: dict[str, Any] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    pixels: Pixels | None = None
    stride_in_1x1: bool | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def backbone_only(self) -> bool:
        """It fills no head. A Caffe2 file may have convolutions of the FPN, too."""
        return self.format == CAFFE2 or all(name.startswith(BODY) for name in self.tensors)


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
_CAFFE2_FPN = re.compile(r"fpn_(inner_)?res([3-5])_\d+_sum(?:_lateral)?_([wb])")


def _from_caffe2(name: str) -> str | None:
    """`res3_1_branch2b_bn_s` -> `layer2.1.bn2.weight`; None for momenta, classifier, biases.

    Of Detectron's own models also the FPN: `fpn_inner_res5_2_sum_w` -> `fpn_inner4.weight`.
    """
    kinds = {"s": "weight", "b": "bias", "w": "weight"}
    if fpn := _CAFFE2_FPN.fullmatch(name):
        kind = "inner" if fpn[1] else "layer"
        return f"backbone.fpn.fpn_{kind}{int(fpn[2]) - 1}.{kinds[fpn[3]]}"
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
    their content alone. Raises UserError for content that is none of the known formats, and for
    weights that only code of the file's could unpack; it shows the first entry.
    """
    if not isinstance(content, dict):
        raise refuse_object(content, path)
    found = find_state(content, path)
    bare_of, notes = bare_names(found.entries, path)
    names = [name for name in bare_of.values() if name]
    own = not found.keys and names == list(found.entries)
    reading = _reading(content, names, own, timm_names)
    if reading is None:
        raise UserError(
            f"{path}: its entries ({next(iter(names), 'nothing')}, ...) are of no known format "
            "(dynamic_atss, maskrcnn-benchmark, Caffe2, torchvision, mmdetection's DSLA): convert "
            "the names; a file of timm or of an EfficientNet needs MODEL.BACKBONE.CONV_BODY "
            '"timm/<name>", or --body timm/<name> to convert it'
        )
    reading.source.notes += [*found.notes, *notes]
    return _translate(reading, found.entries, bare_of, path)


@dataclass(frozen=True)
class _Reading:
    """How a format is read. rename: a bare name -> ours, None for what no detector has · value_of:
    our name and the file's value -> ours"""

    source: Source
    rename: Callable[[str], str | None]
    value_of: Callable[[str, Tensor], Tensor] = lambda name, value: value


def _reading(
    content: Mapping[str, Any], names: list[str], own: bool, timm_names: Collection[str]
) -> _Reading | None:
    """The format of these bare names; own: nothing wraps them, as in files of their library."""
    if any(map(_from_caffe2, names)):
        return _Reading(Source(CAFFE2), _from_caffe2)
    if "format" in content and isinstance(content.get("model"), dict):
        return _Reading(Source(PROJECT, classes=class_names(content)), lambda name: name)
    if any(name.startswith((BODY, "rpn.head.")) for name in names):
        return _Reading(Source(PUBLISHED, classes=class_names(content)), _from_published)
    if any(map(_MMDET.match, names)):
        return _Reading(_mmdet(content), from_mmdet(names), value_from_mmdet)
    if timm_names:
        return _Reading(Source(TIMM), _from_timm(names, timm_names))
    if is_torchvision(names):
        # A wrapped file is of somebody else's training, whose pixels it does not tell.
        source = Source(TORCHVISION)
        if own:
            source.pixels, source.stride_in_1x1 = IMAGENET, False
        return _Reading(source, from_torchvision(names))
    return None


def _from_timm(names: list[str], timm_names: Collection[str]) -> Callable[[str], str | None]:
    ours = from_timm(timm_names)
    if not is_efficientnet(names):
        return ours
    theirs = to_timm_names(names, timm_names)
    return lambda name: ours(theirs(name))


def entries(content: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a file, under whichever key they stand; see `find_state`."""
    return find_state(content, "the file").entries


def class_names(content: Mapping[str, Any]) -> list[str]:
    """The names of the classes, in the order of the logits; empty if the file does not tell."""
    for named in (content.get("classes"), nested(content, "meta").get("CLASSES")):
        if isinstance(named, (list, tuple)) and named:
            return [printable(str(name)) for name in named]
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
    reading: _Reading, state: Mapping[str, Any], bare_of: Mapping[str, str | None], path: object
) -> Source:
    source = reading.source
    for name, value in state.items():
        bare_name = bare_of[str(name)]
        ours = None if bare_name is None else reading.rename(bare_name)
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value)
        if ours is None or _is_no_weight(str(name), value):
            source.ignored[str(name)] = value
            continue
        if not isinstance(value, Tensor):
            raise UserError(f"{path}: refused: {name} is {what_is(value)}, not a tensor")
        if ours in source.tensors:
            raise UserError(f"{path}: {name} and {source.origin[ours]} are the same weight")
        try:
            source.tensors[ours] = reading.value_of(ours, value)
        except (RuntimeError, IndexError):  # not the sizes of such a weight
            raise UserError(f"{path}: {name} has the shape {tuple(value.shape)}") from None
        source.origin[ours] = str(name)
    return source


def _is_no_weight(name: str, value: Any) -> bool:
    """What trainers put beside the weights: a name without a module, such as `epoch` or `args`."""
    return not isinstance(value, Tensor) and ("." not in name or name.endswith("._extra_state"))
