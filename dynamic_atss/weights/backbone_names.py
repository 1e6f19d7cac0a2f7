"""Entries of torchvision's and timm's backbones under this project's names, and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable

BODY = "backbone.body."
TIMM_BODY = f"{BODY}net."  # where the adapter of timm's models has them

_CLASSIFIERS = ("fc.", "head.", "norm.", "classifier.", "features.18.")
_MOBILE = re.compile(r"(features\.(\d+)\.conv)\.([\d.]+)\.(\w+)")
# torchvision nests the convolution and norm of a block, the FCOS release (and the file of
# tonylins that it starts from) counts them with the ReLU6. The first block does not expand.
_FIRST = {"0.0": "0", "0.1": "1", "1": "3", "2": "4"}
_OTHERS = {"0.0": "0", "0.1": "1", "1.0": "3", "1.1": "4", "2": "6", "3": "7"}


def is_torchvision(names: Iterable[str]) -> bool:
    """True for the names of a ResNet, a Swin transformer or a MobileNetV2."""
    names = set(names)
    resnet = {"conv1.weight", "layer1.0.conv1.weight"}
    swin = {"features.0.0.weight", "features.1.0.attn.qkv.weight"}
    mobile = {"features.0.0.weight", "features.1.conv.1.weight"}
    return any(needed <= names for needed in (resnet, swin, mobile))


def from_torchvision(names: Iterable[str]) -> Callable[[str], str | None]:
    """A function: torchvision's name -> ours, for a file of these `names`; None for a classifier.

    MobileNetV2's last convolution feeds the classifier alone and goes with it.
    """
    nested = any("." in match[3] for match in map(_MOBILE.fullmatch, names) if match)

    def rename(name: str) -> str | None:
        if name.startswith(_CLASSIFIERS):
            return None
        if name.startswith(("conv1.", "bn1.")):
            return f"{BODY}stem.{name}"
        mobile = _MOBILE.fullmatch(name) if nested else None
        if mobile:
            block, number, place, entry = mobile.groups()
            place = (_FIRST if number == "1" else _OTHERS).get(place, place)
            name = f"{block}.{place}.{entry}"
        return BODY + name

    return rename


def to_torchvision(names: Iterable[str]) -> Callable[[str], str | None]:
    """The inverse of `from_torchvision`; None for what torchvision's models have no place for.

    The weights of a deformable convolution go to the plain one; its offsets have no place.
    """
    plain = {name: name.replace(".conv2.conv.", ".conv2.") for name in names}

    def rename(name: str) -> str | None:
        if not name.startswith(BODY) or ".offset." in name:
            return None
        name = plain.get(name, name).removeprefix(BODY)
        if mobile := _MOBILE.fullmatch(name):
            block, number, place, entry = mobile.groups()
            table = _FIRST if number == "1" else _OTHERS
            nest = {flat: nested for nested, flat in table.items()}
            return f"{block}.{nest[place]}.{entry}" if place in nest else None
        name = name.removeprefix("stem.")
        known = re.match(r"(conv1|bn1|layer\d+|features)\.", name)
        return name if known else None

    return rename


def from_timm(body: Collection[str]) -> Callable[[str], str | None]:
    """A function: name in a file of timm -> ours, for a model with these names of its `body`.

    The file has the names of the plain model or of the `features_only` one. None for parts that
    the body lacks altogether (classifier, last norm).
    """
    ours = _by_flat_name(body)
    parts = {_part(name.removeprefix("model.")) for name in ours.values()}

    def rename(name: str) -> str | None:
        if _flat(name) in ours:
            return TIMM_BODY + ours[_flat(name)]
        computed = name.endswith(("relative_position_index", "attn_mask"))
        return TIMM_BODY + name if _part(name) in parts and not computed else None

    return rename


def to_timm(body: Collection[str], plain: Collection[str]) -> Callable[[str], str | None]:
    """The inverse of `from_timm`, into the names of the `plain` model; None for what it lacks."""
    ours = _by_flat_name(body)
    theirs = {TIMM_BODY + ours[_flat(name)]: name for name in plain if _flat(name) in ours}
    return theirs.get


def _by_flat_name(body: Collection[str]) -> dict[str, str]:
    """Flat name -> the body's name without TIMM_BODY, also without what wraps the whole model.

    timm's `features_only` models call `stages.0` `stages_0` and `stem.conv1` `stem_conv1`, or wrap
    everything in `model` or `body`.
    """
    names = [name.removeprefix(TIMM_BODY) for name in body]
    flat = {_flat(name): name for name in names}
    for wrapper in ("model.", "body."):
        flat = {_flat(name.removeprefix(wrapper)): name for name in names} | flat
    return flat


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _part(name: str) -> str:
    """The first module: `stages` of `stages_0.blocks` and of `stages.0.blocks`."""
    return re.split(r"\.|_\d", name)[0]
