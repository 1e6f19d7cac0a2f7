"""Detects objects in overlapping tiles of a large picture and joins the detections by one NMS."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.inference.detect import Rows
from dynamic_atss.ops.nms import multiclass_nms

Window = tuple[int, int, int, int]  # left, top, right, bottom in pixels, the last two exclusive

# A box this near to an inner edge of its tile (part of the tile's side) may be cut.
_EDGE = 0.01
# A cut box with more than this part of its area inside a box of its class is part of that object,
_COVERED = 0.5
# if that box has at least this part of its score.
_MIN_SCORE_RATIO = 0.5


def windows(height: int, width: int, tile: int, overlap: float) -> list[Window]:
    """Covers a picture with evenly spaced tiles of at most `tile` pixels a side.

    Neighbours overlap by at least `overlap` of a side.
    """
    tops, lefts = _starts(height, tile, overlap), _starts(width, tile, overlap)
    return [
        (left, top, min(left + tile, width), min(top + tile, height))
        for top in tops
        for left in lefts
    ]


def _starts(side: int, tile: int, overlap: float) -> list[int]:
    if side <= tile:
        return [0]
    step = max(1.0, tile * (1 - overlap))
    count = math.ceil((side - tile) / step) + 1
    return [int(start) for start in np.linspace(0, side - tile, count)]


def detect_in_tiles(
    detect: Callable[[Sequence[Tensor]], list[Rows]],
    image: Tensor,
    *,
    tile: int,
    overlap: float,
    threshold: float,
    batch: int,
) -> Rows:
    """Detects objects in the tiles of a picture and in the full picture.

    The full picture is needed for objects that every tile cuts. A picture no larger than a tile is
    not cut.

    Args:
        threshold: IoU of the NMS that joins the detections.
        batch: tiles per batch.
    """
    height, width = image.shape[1:]
    tiles = windows(height, width, tile, overlap)
    if len(tiles) == 1:
        return detect([image])[0]
    tiles.append((0, 0, width, height))
    parts: list[Rows] = []
    cut: list[NDArray[np.bool_]] = []
    for chunk in _chunks(tiles, batch):
        crops = [image[:, top:bottom, left:right] for left, top, right, bottom in chunk]
        for window, rows in zip(chunk, detect(crops), strict=True):
            cut.append(_is_cut(rows.xywh, window, height, width))
            offset = np.array([*window[:2], 0, 0])
            parts.append(Rows(rows.xywh + offset, rows.scores, rows.labels))
    return _joined(parts, np.concatenate(cut), threshold)


def _chunks(tiles: Sequence[Window], size: int) -> Iterator[Sequence[Window]]:
    for start in range(0, len(tiles), size):
        yield tiles[start : start + size]


def _is_cut(
    xywh: NDArray[np.float64], window: Window, height: int, width: int
) -> NDArray[np.bool_]:
    """Flags (D,) the boxes, in pixels of the tile, that reach an edge inside the picture."""
    left, top, right, bottom = window
    near = _EDGE * max(right - left, bottom - top)
    low, high = xywh[:, :2], xywh[:, :2] + xywh[:, 2:]
    extent = np.array([right - left, bottom - top])
    before = np.array([left > 0, top > 0]) & (low < near)
    behind = np.array([right < width, bottom < height]) & (high > extent - near)
    cut: NDArray[np.bool_] = np.any(before | behind, axis=1)
    return cut


def _joined(parts: Sequence[Rows], cut: NDArray[np.bool_], threshold: float) -> Rows:
    """Joins the detections of all tiles by NMS.

    First drops cut boxes that are part of a complete box. A cut box may have the higher score, so
    NMS alone could keep it.
    """
    rows = Rows(
        np.concatenate([part.xywh for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )
    keep = ~cut
    keep[cut] = ~_covered(rows[cut], rows[~cut])
    rows = rows[keep]
    boxes = torch.from_numpy(rows.xywh).clone()
    boxes[:, 2:] += boxes[:, :2]
    scores, labels = torch.from_numpy(rows.scores).double(), torch.from_numpy(rows.labels)
    best = multiclass_nms(boxes, scores, labels, threshold, BoxConvention.EXACT)
    return rows[best.numpy()]


def _covered(cut: Rows, complete: Rows) -> NDArray[np.bool_]:
    """Flags (D,) the cut boxes that lie mostly inside a complete box of their class."""
    covered = np.zeros(len(cut.scores), bool)
    low, high = complete.xywh[:, :2], complete.xywh[:, :2] + complete.xywh[:, 2:]
    for i, (x, y, w, h) in enumerate(cut.xywh):  # a matrix of all pairs could be too large
        sides = np.minimum(high, (x + w, y + h)) - np.maximum(low, (x, y))
        inside = sides.clip(min=0).prod(axis=1) > _COVERED * w * h
        certain = complete.scores >= _MIN_SCORE_RATIO * cut.scores[i]
        covered[i] = bool((inside & certain & (complete.labels == cut.labels[i])).any())
    return covered
