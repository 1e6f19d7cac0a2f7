"""What is done to annotations before anything is trained on: checks, sizes, unusable boxes."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import numpy as np

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.data.annotations import Annotations
from dynamic_atss.data.header import image_header
from dynamic_atss.errors import UserError


def clean_boxes(
    xywh: np.ndarray,
    sizes: np.ndarray,
    crowd: np.ndarray,
    convention: BoxConvention = BoxConvention.LEGACY,
    keep_crowds: bool = False,
) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Boxes as annotated -> boxes to train on.

    xywh (A, 4) · sizes (A, 2) height, width of each box's image · crowd (A,) bool · convention:
    LEGACY: x2 = x + w - 1, boxes of one pixel have no extent; EXACT: x2 = x + w ·
    keep_crowds: crowds are kept by the rules of the other boxes
    -> xyxy (A, 4) float32 clipped to the image, kept (A,) bool, counts by
    reason
    """
    beyond = convention.value
    valid = np.isfinite(xywh).all(axis=1) & (np.nan_to_num(xywh[:, 2:]) > 0).all(axis=1)
    xy, wh = np.where(valid[:, None], xywh, 0.0)[:, :2], np.where(valid[:, None], xywh, 0.0)[:, 2:]
    raw = np.concatenate([xy, xy + np.maximum(wh - beyond, 0)], axis=1)
    boxes = np.clip(raw, 0, np.tile(sizes[:, ::-1] - beyond, 2))
    large = ((wh >= 1) & (wh > beyond)).all(axis=1)
    inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    wanted = np.ones_like(crowd) if keep_crowds else ~crowd
    kept = wanted & valid & large & inside
    counts = {
        "crowd": crowd,
        "invalid": wanted & ~valid,
        "tiny": wanted & valid & ~large,
        "outside": wanted & valid & large & ~inside,
        "clipped": kept & (boxes != raw).any(axis=1),
    }
    return boxes.astype(np.float32), kept, {k: int(v.sum()) for k, v in counts.items()}


def complete_sizes(content: Annotations, folder: Path) -> np.ndarray:
    """(n, 2) height, width; what the annotations lack is read from the image files' headers."""
    sizes = content.sizes.copy()
    for i in np.flatnonzero((sizes == 0).any(axis=1)):
        sizes[i] = image_header(folder / str(content.names[i]))[:2]
    return sizes


def check_files(annotations: Path, folder: Path, content: Annotations) -> None:
    """Every image is there: told before the training starts, by listing each folder once."""
    names = content.names.tolist()
    if "" in names:
        unnamed = content.image_ids[names.index("")]
        raise UserError(f"{annotations}: image id {unnamed} has no file_name: add it")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such image folder: check the path")
    wanted: dict[str, list[str]] = defaultdict(list)
    for name in names:
        head, tail = os.path.split(name)
        wanted[head].append(tail)
    missing = []
    for head, tails in wanted.items():
        directory = folder / head
        present = set(os.listdir(directory)) if directory.is_dir() else set()
        missing += [os.path.join(head, tail) for tail in tails if tail not in present]
    if missing:
        raise UserError(
            f"{folder / missing[0]}: no such image ({len(missing)} of the {len(names)} that "
            f"{annotations} names are missing): check the image folder"
        )
