"""Large pictures in overlapping tiles, whose detections one NMS joins."""

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

_EDGE = 0.01  # of a tile's side: a box that comes so near to an inner edge may go on beyond it
_COVERED = 0.5  # of a cut box's area inside another box of its class: it is a part of that object
_SURE = 0.5  # of the cut box's score: a box that is less sure does not stand in for it


def windows(height: int, width: int, tile: int, overlap: float) -> list[Window]:
    """Tiles of at most `tile` pixels a side that cover a picture, evenly spaced; neighbours share
    at least `overlap` of a side."""
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
    """The detections of a picture from its tiles and from the whole picture, which has the objects
    that no tile has whole. A picture no larger than a tile: as usual.

    threshold: IoU of the NMS that joins them · batch: tiles that are looked at together
    """
    height, width = image.shape[1:]
    places = windows(height, width, tile, overlap)
    if len(places) == 1:
        return detect([image])[0]
    places.append((0, 0, width, height))
    found: list[Rows] = []
    cut: list[NDArray[np.bool_]] = []
    for part in _chunks(places, batch):
        crops = [image[:, top:bottom, left:right] for left, top, right, bottom in part]
        for window, rows in zip(part, detect(crops), strict=True):
            cut.append(_is_cut(rows.xywh, window, height, width))
            offset = np.array([*window[:2], 0, 0])
            found.append(Rows(rows.xywh + offset, rows.scores, rows.labels))
    return _joined(found, np.concatenate(cut), threshold)


def _chunks(places: Sequence[Window], size: int) -> Iterator[Sequence[Window]]:
    for start in range(0, len(places), size):
        yield places[start : start + size]


def _is_cut(
    xywh: NDArray[np.float64], window: Window, height: int, width: int
) -> NDArray[np.bool_]:
    """(D,): the boxes, in pixels of the tile, that reach an edge of it which is none of the
    picture."""
    left, top, right, bottom = window
    near = _EDGE * max(right - left, bottom - top)
    low, high = xywh[:, :2], xywh[:, :2] + xywh[:, 2:]
    extent = np.array([right - left, bottom - top])
    before = np.array([left > 0, top > 0]) & (low < near)
    behind = np.array([right < width, bottom < height]) & (high > extent - near)
    cut: NDArray[np.bool_] = np.any(before | behind, axis=1)
    return cut


def _joined(parts: Sequence[Rows], cut: NDArray[np.bool_], threshold: float) -> Rows:
    """What is left of all tiles: a cut box that is a part of a whole one goes first, for it may
    have the higher score; then NMS."""
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


def _covered(fragments: Rows, whole: Rows) -> NDArray[np.bool_]:
    """(F,): the fragments that lie mostly in a whole box of their class that is sure enough."""
    found = np.zeros(len(fragments.scores), bool)
    low, high = whole.xywh[:, :2], whole.xywh[:, :2] + whole.xywh[:, 2:]
    for i, (x, y, w, h) in enumerate(fragments.xywh):  # no P x T matrix of large scenes
        sides = np.minimum(high, (x + w, y + h)) - np.maximum(low, (x, y))
        inside = sides.clip(min=0).prod(axis=1) > _COVERED * w * h
        sure = whole.scores >= _SURE * fragments.scores[i]
        found[i] = bool((inside & sure & (whole.labels == fragments.labels[i])).any())
    return found
