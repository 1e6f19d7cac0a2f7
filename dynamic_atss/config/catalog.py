"""Names of published backbone weights: `catalog://<name>` in MODEL.WEIGHT."""

from __future__ import annotations

import difflib

from dynamic_atss.errors import UserError

PREFIX = "catalog://"
ROOT = "https://dl.fbaipublicfiles.com/detectron/"

# name below catalog:// -> path below ROOT
WEIGHTS = {
    "ImageNetPretrained/MSRA/R-50": "ImageNetPretrained/MSRA/R-50.pkl",
    "ImageNetPretrained/MSRA/R-50-GN": "ImageNetPretrained/47261647/R-50-GN.pkl",
    "ImageNetPretrained/MSRA/R-101": "ImageNetPretrained/MSRA/R-101.pkl",
    "ImageNetPretrained/MSRA/R-101-GN": "ImageNetPretrained/47592356/R-101-GN.pkl",
    "ImageNetPretrained/FAIR/20171220/X-101-32x8d": "ImageNetPretrained/20171220/X-101-32x8d.pkl",
    "ImageNetPretrained/FAIR/20171220/X-101-64x4d": "ImageNetPretrained/FBResNeXt/X-101-64x4d.pkl",
}


def weight_url(name: str) -> str:
    """The URL of `catalog://<name>`. Raises UserError with the nearest name for an unknown one."""
    key = name.removeprefix(PREFIX).strip("/")
    if key not in WEIGHTS:
        near = difflib.get_close_matches(key, WEIGHTS, n=1, cutoff=0) or list(WEIGHTS)
        raise UserError(f"MODEL.WEIGHT {name}: not in the catalog; nearest: {PREFIX}{near[0]}")
    return ROOT + WEIGHTS[key]
