"""Defines networks that compute C3, C4, C5 of images. `out_channels` lists the maps' channels."""

from dynamic_atss.modeling.backbones.mobilenet import MobileNetV2
from dynamic_atss.modeling.backbones.resnet import ResNet
from dynamic_atss.modeling.backbones.swin import Swin
from dynamic_atss.modeling.backbones.timm_body import TimmBody

__all__ = ["MobileNetV2", "ResNet", "Swin", "TimmBody"]
