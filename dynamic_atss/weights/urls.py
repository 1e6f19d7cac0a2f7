"""Lists the published backbone weights, which MODEL.WEIGHT calls `catalog://<name>`."""

from __future__ import annotations

from dynamic_atss.errors import UserError
from dynamic_atss.suggest import hint

PREFIX = "catalog://"
ROOT = "https://dl.fbaipublicfiles.com/detectron/"
TORCHVISION = "https://download.pytorch.org/models/"
OPEN_MMLAB = "https://download.openmmlab.com/pretrain/third_party/"

# Maps the name below catalog:// to a URL, or to a path below ROOT.
WEIGHTS = {
    "ImageNetPretrained/MSRA/R-50": "ImageNetPretrained/MSRA/R-50.pkl",
    "ImageNetPretrained/MSRA/R-50-GN": "ImageNetPretrained/47261647/R-50-GN.pkl",
    "ImageNetPretrained/MSRA/R-101": "ImageNetPretrained/MSRA/R-101.pkl",
    "ImageNetPretrained/MSRA/R-101-GN": "ImageNetPretrained/47592356/R-101-GN.pkl",
    "ImageNetPretrained/FAIR/20171220/X-101-32x8d": "ImageNetPretrained/20171220/X-101-32x8d.pkl",
    "ImageNetPretrained/FAIR/20171220/X-101-64x4d": "ImageNetPretrained/FBResNeXt/X-101-64x4d.pkl",
    # These are torchvision's. -V2 is their second training recipe (IMAGENET1K_V2).
    "torchvision/R-18": TORCHVISION + "resnet18-f37072fd.pth",
    "torchvision/R-34": TORCHVISION + "resnet34-b627a593.pth",
    "torchvision/R-50": TORCHVISION + "resnet50-0676ba61.pth",
    "torchvision/R-50-V2": TORCHVISION + "resnet50-11ad3fa6.pth",
    "torchvision/R-101": TORCHVISION + "resnet101-63fe2227.pth",
    "torchvision/R-101-V2": TORCHVISION + "resnet101-cd907fc2.pth",
    "torchvision/R-152": TORCHVISION + "resnet152-394f9c45.pth",
    "torchvision/X-101-32x8d": TORCHVISION + "resnext101_32x8d-8ba56ff5.pth",
    "torchvision/X-101-64x4d": TORCHVISION + "resnext101_64x4d-173b62eb.pth",
    "torchvision/Swin-T": TORCHVISION + "swin_t-704ceda3.pth",
    "torchvision/Swin-S": TORCHVISION + "swin_s-5e29d889.pth",
    "torchvision/Swin-B": TORCHVISION + "swin_b-68c6b09e.pth",
    "torchvision/MNV2": TORCHVISION + "mobilenet_v2-b0353104.pth",
    "torchvision/MNV2-V2": TORCHVISION + "mobilenet_v2-7ebf99e0.pth",
    # mmdetection calls it open-mmlab://resnext101_64x4d. DSLA's X-101 starts from it.
    "open-mmlab/X-101-64x4d": OPEN_MMLAB + "resnext101_64x4d-ee2c6f71.pth",
}


def weight_url(name: str) -> str:
    """Returns the URL of `catalog://<name>`.

    Raises UserError, with the nearest name, if the name is unknown.
    """
    key = name.removeprefix(PREFIX).strip("/")
    if key not in WEIGHTS:
        near = hint(key, WEIGHTS, f"; nearest: {PREFIX}{{}}")
        names = near or f", which has {', '.join(WEIGHTS)}"
        raise UserError(f"MODEL.WEIGHT {name}: not in the catalog{names}")
    place = WEIGHTS[key]
    return place if place.startswith("https://") else ROOT + place
