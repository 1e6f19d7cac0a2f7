"""Recognises the format of a weight file by its content and renames its entries to ours."""

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
from dynamic_atss.weights.find_weights import (
    bare,
    bare_names,
    find_state,
    refuse_object,
    type_name,
)
from dynamic_atss.weights.mmdet_names import from_mmdet, value_from_mmdet
from dynamic_atss.weights.pixels import IMAGENET, Pixels, mmdet_pixels, mmdet_stride_in_1x1

PROJECT = "dynamic_atss checkpoint"
PUBLISHED = "published maskrcnn-benchmark checkpoint"
MMDET = "published DSLA checkpoint (mmdetection)"
CAFFE2 = "Caffe2 backbone"
TORCHVISION = "torchvision backbone"
TIMM = "timm backbone"
WITH_EPSILON = (MMDET, TORCHVISION)  # formats whose batch norms, frozen or not, add an epsilon

_MMDET = re.compile(r"(bbox_head|neck)\.|backbone\.(?!body\.|fpn\.)")


@dataclass
class Source:
    """Holds the content of a weight file in this project's names.

    Attributes:
        format: the name of the format.
        tensors: our name -> weight.
        origin: our name -> the file's name.
        ignored: entries that no detector has (classifier, anchors, momenta), by the file's name.
        classes: class names. Only files of this project and of mmdetection have them.
        pixels, stride_in_1x1: how the network was trained. None if the file does not say.
        notes: lines for the user, such as which of several weights were taken.
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
        """Returns True for a file that fills no head. A Caffe2 file may also fill an FPN."""
        return self.format == CAFFE2 or all(name.startswith(BODY) for name in self.tensors)


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames published entries to ours.

    Drops `module.`, and renames `rpn.head.X` to `head.X` and centerness to quality. Drops anchor
    buffers, which the model computes.
    """
    renamed = {_from_published(name): tensor for name, tensor in state.items()}
    return {name: tensor for name, tensor in renamed.items() if name is not None}


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames our entries to published ones. It is the inverse of `from_published`."""
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
    """Renames `res3_1_branch2b_bn_s` to `layer2.1.bn2.weight`.

    Renames the FPN of Detectron's models as well: `fpn_inner_res5_2_sum_w` -> `fpn_inner4.weight`.
    Returns None for momenta, the classifier and biases of convolutions.
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
    """Recognises the format of a file's content and renames its entries to ours.

    Args:
        content: the content of the file.
        path: the file, for messages.
        timm_names: entries of the model's body if it is a timm model. Their files cannot be
            recognised by content.

    Raises UserError for an unknown format, with the first entry. Raises it for weights that only
    code from the file could unpack.
    """
    if not isinstance(content, dict):
        raise refuse_object(content, path)
    found = find_state(content, path)
    bare_of, notes = bare_names(found.entries, path)
    names = [name for name in bare_of.values() if name]
    unwrapped = not found.keys and names == list(found.entries)
    reading = _reading(content, names, unwrapped, timm_names)
    if reading is None:
        raise UserError(
            f"{path}: its entries ({next(iter(names), 'nothing')}, ...) are of no known format "
            "(dynamic_atss, maskrcnn-benchmark, Caffe2, torchvision, mmdetection's DSLA): rename "
            "them; a file of timm or of an EfficientNet needs MODEL.BACKBONE.CONV_BODY "
            '"timm/<name>", or --body timm/<name> to convert it'
        )
    reading.source.notes += [*found.notes, *notes]
    return _translate(reading, found.entries, bare_of, path)


@dataclass(frozen=True)
class _Reading:
    """Describes how to read a format.

    Attributes:
        source: the format, with the facts that are known of it.
        rename: bare name -> our name. None for an entry that no detector has.
        value_of: our name and the file's value -> our value.
    """

    source: Source
    rename: Callable[[str], str | None]
    value_of: Callable[[str, Tensor], Tensor] = lambda name, value: value


def _reading(
    content: Mapping[str, Any], names: list[str], unwrapped: bool, timm_names: Collection[str]
) -> _Reading | None:
    """Recognises the format of these bare names. Returns None if it is unknown.

    Args:
        content: the content of the file.
        names: the bare names.
        unwrapped: True if the names were bare in the file, as in files that torchvision publishes.
        timm_names: see `identify`.
    """
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
        # A wrapped file is from another training, whose pixels are unknown.
        source = Source(TORCHVISION)
        if unwrapped:
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
    """Returns the weights of a file's content. `find_state` describes where it looks."""
    return find_state(content, "the file").entries


def class_names(content: Mapping[str, Any]) -> list[str]:
    """Returns the class names in the order of the logits. Returns [] if the file has none."""
    for names in (content.get("classes"), nested(content, "meta").get("CLASSES")):
        if isinstance(names, (list, tuple)) and names:
            return [printable(str(name)) for name in names]
    return []


def nested(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Returns the dictionary under `key`. Returns an empty one if there is none."""
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
            raise UserError(f"{path}: refused: {name} is {type_name(value)}, not a tensor")
        if ours in source.tensors:
            raise UserError(f"{path}: {name} and {source.origin[ours]} are the same weight")
        try:
            source.tensors[ours] = reading.value_of(ours, value)
        except (RuntimeError, IndexError):  # the shape is wrong for such a weight
            raise UserError(
                f"{path}: {name} has the wrong shape {tuple(value.shape)}: fetch the file again"
            ) from None
        source.origin[ours] = str(name)
    return source


def _is_no_weight(name: str, value: Any) -> bool:
    """Returns True for a value of a trainer that is no weight, such as `epoch` or `args`.

    Its name has no module, or ends with `._extra_state`.
    """
    return not isinstance(value, Tensor) and ("." not in name or name.endswith("._extra_state"))
