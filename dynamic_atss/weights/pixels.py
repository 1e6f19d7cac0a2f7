"""Compares the pixels that a file's network was trained with and those that the model gets."""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import nn

_NUMBERS = r"(\[[\d., \n]*\])"
_NORM = re.compile(rf"dict\(\s*mean={_NUMBERS},\s*std={_NUMBERS},\s*to_rgb=(True|False)")


@dataclass(frozen=True)
class Pixels:
    """Describes the normalisation of pixels.

    Attributes:
        rgb: False for BGR.
        mean, std: three numbers each, in the order of the channels, for pixels in 0..255.
    """

    rgb: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def settings(self) -> str:
        """Returns the configuration keys and values for such pixels. For RGB, they are in 0..1."""
        scale = 255.0 if self.rgb else 1.0
        mean, std = ([float(f"{v / scale:.7g}") for v in part] for part in (self.mean, self.std))
        return f"INPUT.TO_BGR255 {not self.rgb}, INPUT.PIXEL_MEAN {mean}, INPUT.PIXEL_STD {std}"


IMAGENET = Pixels(True, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


def mmdet_pixels(config: str) -> Pixels | None:
    """Finds the pixels in the text of an mmdetection configuration. Returns None if it has none."""
    match = _NORM.search(config)
    if match is None:
        return None
    mean, std = (tuple(map(float, re.findall(r"\d+(?:\.\d+)?", match[i]))) for i in (1, 2))
    return Pixels(match[3] == "True", mean, std) if len(mean) == len(std) == 3 else None


def mmdet_stride_in_1x1(config: str) -> bool | None:
    """Returns True if the ResNet of an mmdetection configuration has its stride in the 1x1.

    Returns False for the 3x3 convolution, and None if it is unknown.
    """
    style = re.search(r"style='(caffe|pytorch)'", config)
    return style[1] == "caffe" if style else None


def timm_pixels(model: nn.Module) -> Pixels | None:
    """Returns the pixels in timm's description of the model's body.

    Returns None if there is no description.
    """
    net = getattr(getattr(getattr(model, "backbone", None), "body", None), "net", None)
    described = getattr(net, "pretrained_cfg", None) or {}
    if not {"mean", "std"} <= set(described):
        return None
    mean, std = (tuple(255 * v for v in described[key]) for key in ("mean", "std"))
    return Pixels(True, mean, std)


def pixel_notes(expected: Pixels, kind: str, model: nn.Module) -> list[str]:
    """Returns a note if the model gets other pixels than the file's network was trained with."""
    if given_pixels(model) == expected.settings():
        return []
    order = "RGB in 0..1" if expected.rgb else "BGR in 0..255"
    return [f"{kind}: the network expects {order}: set {expected.settings()}"]


def given_pixels(model: nn.Module) -> str:
    """Returns the settings of the model. Returns "" for a model that does not normalise."""
    if not {"bgr255", "mean", "std"} <= set(dir(model)):
        return ""
    mean, std = (tuple(getattr(model, key).flatten().tolist()) for key in ("mean", "std"))
    return Pixels(not model.bgr255, mean, std).settings()
