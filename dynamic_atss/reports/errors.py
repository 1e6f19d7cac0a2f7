"""Why a detection is false: the kinds of TIDE (Bolya et al., ECCV 2020), for each one.

hotcoco counts them; here each detection is told its own, to be drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynamic_atss.evaluation.voc import box_iou
from dynamic_atss.reports.matching import MIN_IOU, Matches

Ints = NDArray[np.int64]
BACKGROUND_IOU = 0.1
KINDS = {  # TIDE's names, in the order in which they are asked; the words that are shown
    "Loc": "misplaced",
    "Cls": "wrong class",
    "Dupe": "duplicate",
    "Bkg": "no object",
    "Both": "misplaced, wrong class",
    "Miss": "missed",
}
MEANINGS = {
    "Loc": f"overlaps an object of its class by IoU {BACKGROUND_IOU} to {MIN_IOU}",
    "Cls": f"overlaps an object of another class by IoU {MIN_IOU} or more",
    "Dupe": "its object is already found by a detection of a higher score",
    "Bkg": f"overlaps no object by IoU {BACKGROUND_IOU}",
    "Both": f"overlaps an object of another class by IoU {BACKGROUND_IOU} to {MIN_IOU}",
    "Miss": "an object that no detection overlaps well, neither with its class nor another",
}


@dataclass(frozen=True)
class Errors:
    """The errors at a threshold of the score: F false detections and the objects that are missed.

    false (F,) int64 rows of the detections · kind (F,) str, keys of `KINDS` · instead (F,) int64,
    the category of the object of another class that it overlaps most, -1 without any
    """

    matches: Matches
    threshold: float
    false: Ints
    kind: NDArray[np.str_]
    instead: Ints

    @property
    def missed(self) -> Ints:
        """Rows of the truth."""
        return np.flatnonzero(self.matches.missed_at(self.threshold))

    @property
    def found(self) -> Ints:
        """Rows of the truth."""
        return np.flatnonzero(self.matches.found_at(self.threshold))

    @property
    def right(self) -> Ints:
        """Rows of the detections that find an object."""
        matches = self.matches
        return np.flatnonzero(matches.right & (matches.scores >= self.threshold))


def errors_at(matches: Matches, threshold: float) -> Errors:
    """Each false detection of at least this score with its kind."""
    rows = np.flatnonzero(matches.false_at(threshold))
    place, box = _pairs(matches, rows)
    iou = box_iou(matches.table[rows[place], 1:5], matches.truth.boxes[box])
    same = matches.category[rows[place]] == matches.truth.category_ids[box]
    own, _ = _best(place[same], iou[same], box[same], len(rows))
    other, which = _best(place[~same], iou[~same], box[~same], len(rows))
    kinds = {
        "Loc": (own >= BACKGROUND_IOU) & (own < MIN_IOU),
        "Cls": other >= MIN_IOU,
        "Dupe": own >= MIN_IOU,
        "Bkg": np.maximum(own, other) < BACKGROUND_IOU,
    }
    kind = np.select([*kinds.values()], [*kinds], default="Both")
    instead = np.append(matches.truth.category_ids, -1)[which]  # the last entry where `which` is -1
    return Errors(matches, threshold, rows, kind, instead)


def _pairs(matches: Matches, rows: Ints) -> tuple[Ints, Ints]:
    """(place in `rows`, box) of each with each object of its image."""
    boxes = np.flatnonzero(matches.objects)
    boxes = boxes[np.argsort(matches.truth.image_ids[boxes], kind="stable")]
    images = matches.truth.image_ids[boxes]
    first = np.searchsorted(images, matches.image[rows], side="left")
    count = np.searchsorted(images, matches.image[rows], side="right") - first
    place = np.repeat(np.arange(len(rows)), count)
    k = np.arange(len(place)) - np.repeat(np.cumsum(count) - count, count)
    return place, boxes[first[place] + k]


def _best(
    place: Ints, iou: NDArray[np.float64], box: Ints, count: int
) -> tuple[NDArray[np.float64], Ints]:
    """(count,) the highest IoU of each place, and its box; 0 and -1 without any."""
    best, which = np.zeros(count), np.full(count, -1, np.int64)
    order = np.argsort(iou, kind="stable")
    best[place[order]], which[place[order]] = iou[order], box[order]
    return best, which
