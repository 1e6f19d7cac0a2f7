"""Networks from images to the maps C3, C4, C5."""

from dynamic_atss.modeling.backbones.resnet import ResNet

__all__ = ["ResNet"]
