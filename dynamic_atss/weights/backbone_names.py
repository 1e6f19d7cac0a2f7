"""Renames the entries of torchvision's and timm's backbones to this project's names, and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable

BODY = "backbone.body."
TIMM_BODY = f"{BODY}net."  # prefix in a model whose body is the adapter of timm's models

_CLASSIFIERS = ("fc.", "head.", "norm.", "classifier.", "features.18.")
_MOBILE = re.compile(r"(features\.(\d+)\.conv)\.([\d.]+)\.(\w+)")
# torchvision nests convolution and norm of a block. The FCOS release (and tonylins' file, from
# which it starts) counts convolution, norm and ReLU6. The first block has no expansion.
_FIRST = {"0.0": "0", "0.1": "1", "1": "3", "2": "4"}
_OTHERS = {"0.0": "0", "0.1": "1", "1.0": "3", "1.1": "4", "2": "6", "3": "7"}


def is_torchvision(names: Iterable[str]) -> bool:
    """Returns True for the names of a ResNet, a Swin transformer or a MobileNetV2."""
    names = set(names)
    resnet = {"conv1.weight", "layer1.0.conv1.weight"}
    swin = {"features.0.0.weight", "features.1.0.attn.qkv.weight"}
    mobile = {"features.0.0.weight", "features.1.conv.1.weight"}
    return any(needed <= names for needed in (resnet, swin, mobile))


def from_torchvision(names: Iterable[str]) -> Callable[[str], str | None]:
    """Makes a function from torchvision's names to ours, for a file with these `names`.

    The function returns None for the classifier. MobileNetV2's last convolution counts as part of
    the classifier, because nothing else reads it.
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
    """Makes the inverse of `from_torchvision`.

    The function returns None for an entry that torchvision's models lack. The weights of a
    deformable convolution get the name of the plain one. Its offsets get None.
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
    """Makes a function from timm's names to ours, for a model whose `body` has these names.

    timm's names are those of the plain model or of the `features_only` one. The function returns
    None for modules that the body lacks (classifier, last norm).
    """
    ours = _by_flat_name(body)
    modules = {_first_module(name.removeprefix("model.")) for name in ours.values()}

    def rename(name: str) -> str | None:
        if _flat(name) in ours:
            return TIMM_BODY + ours[_flat(name)]
        computed = name.endswith(("relative_position_index", "attn_mask"))
        return TIMM_BODY + name if _first_module(name) in modules and not computed else None

    return rename


def to_timm(body: Collection[str], plain: Collection[str]) -> Callable[[str], str | None]:
    """Makes the inverse of `from_timm`, to the names of the `plain` model.

    The function returns None for an entry that the plain model lacks.
    """
    ours = _by_flat_name(body)
    theirs = {TIMM_BODY + ours[_flat(name)]: name for name in plain if _flat(name) in ours}
    return theirs.get


def _by_flat_name(body: Collection[str]) -> dict[str, str]:
    """Maps flat names, with and without a wrapper, to the body's names without TIMM_BODY.

    timm's `features_only` models write `stages_0` for `stages.0` and `stem_conv1` for `stem.conv1`,
    or wrap the model in `model` or `body`.
    """
    names = [name.removeprefix(TIMM_BODY) for name in body]
    flat = {_flat(name): name for name in names}
    for wrapper in ("model.", "body."):
        flat = {_flat(name.removeprefix(wrapper)): name for name in names} | flat
    return flat


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _first_module(name: str) -> str:
    """Returns `stages` for `stages_0.blocks` and for `stages.0.blocks`."""
    return re.split(r"\.|_\d", name)[0]
