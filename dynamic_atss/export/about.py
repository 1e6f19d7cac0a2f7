"""Describes an exported file by texts that the file contains."""

from __future__ import annotations

import json

import torch

from dynamic_atss.export.module import INPUTS, OUTPUTS
from dynamic_atss.inference.restore import Restored
from dynamic_atss.modeling.postprocess import PostProcess
from dynamic_atss.version import __version__

RESIZE = (
    "short side min_size, or round(max_size * short / long) if the long side would exceed "
    "max_size; other side int(size * long / short); bilinear with antialias, as in Pillow"
)


def about(restored: Restored, process: PostProcess) -> dict[str, str]:
    """Gives the texts by name. Lists are JSON."""
    cfg = restored.cfg
    return {
        "producer": f"dynamic_atss {__version__}, torch {torch.__version__}",
        "inputs": json.dumps(INPUTS),
        "outputs": json.dumps(OUTPUTS),
        "class_names": json.dumps(restored.class_names),
        "pixels": "images (N, 3, H, W) uint8 RGB 0..255, not normalised, padded by 0 at the right "
        "and the bottom to multiples of size_divisibility",
        "sizes": "sizes and original_sizes (N, 2) int64: height, width of each resized picture "
        "without padding, and of each original picture",
        "min_size": str(cfg.INPUT.MIN_SIZE_TEST),
        "max_size": str(cfg.INPUT.MAX_SIZE_TEST),
        "resize": RESIZE,
        "size_divisibility": str(max(cfg.DATALOADER.SIZE_DIVISIBILITY, 1)),
        "exif": restored.reading.exif,
        "boxes": "x1, y1, x2, y2 in pixels of the original picture, width x2 - x1, best first; "
        "counts holds the number of filled rows of each image",
        "score_threshold": str(process.score_threshold),
        "nms_threshold": str(process.nms_threshold) if process.nms else "none: no NMS",
    }
