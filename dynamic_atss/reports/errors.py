"""Finds the kind of error of each false detection, after TIDE (Bolya et al., ECCV 2020).

hotcoco only counts the kinds. The drawings need the kind of each detection.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynamic_atss.evaluation.voc import box_iou
from dynamic_atss.reports.detection_matching import MIN_IOU, Matches

Ints = NDArray[np.int64]
BACKGROUND_IOU = 0.1
KINDS = {  # TIDE's names in the order of the tests, and the words that the report shows
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
    "Dupe": "a detection with a higher score has already found the object",
    "Bkg": f"overlaps no object by IoU {BACKGROUND_IOU} or more",
    "Both": f"overlaps an object of another class by IoU {BACKGROUND_IOU} to {MIN_IOU}",
    "Miss": "an object that no detection of any class overlaps well",
}


@dataclass(frozen=True)
class Errors:
    """Holds the F false detections and the missed objects at a threshold of the score.

    Attributes:
        matches: the matches of all detections.
        threshold: the least score of a detection that counts.
        false: (F,) rows of the detections.
        kind: (F,) keys of `KINDS`.
        overlapped_category: (F,) the category of the object of another class that the detection
            overlaps most, or -1 if there is none.
    """

    matches: Matches
    threshold: float
    false: Ints
    kind: NDArray[np.str_]
    overlapped_category: Ints

    @property
    def missed(self) -> Ints:
        """Returns the rows of the missed objects in the truth."""
        return np.flatnonzero(self.matches.missed_at(self.threshold))

    @property
    def found(self) -> Ints:
        """Returns the rows of the found objects in the truth."""
        return np.flatnonzero(self.matches.found_at(self.threshold))

    @property
    def right(self) -> Ints:
        """Returns the rows of the detections that find an object."""
        matches = self.matches
        return np.flatnonzero(matches.right & (matches.scores >= self.threshold))


def errors_at(matches: Matches, threshold: float) -> Errors:
    """Finds the kind of each false detection with at least this score."""
    rows = np.flatnonzero(matches.false_at(threshold))
    place, box = _pairs(matches, rows)
    iou = box_iou(matches.table[rows[place], 1:5], matches.truth.boxes[box])
    same = matches.category_index[rows[place]] == matches.truth.category_ids[box]
    same_class, _ = _best(place[same], iou[same], box[same], len(rows))
    other_class, other_box = _best(place[~same], iou[~same], box[~same], len(rows))
    kinds = {
        "Loc": (same_class >= BACKGROUND_IOU) & (same_class < MIN_IOU),
        "Cls": other_class >= MIN_IOU,
        "Dupe": same_class >= MIN_IOU,
        "Bkg": np.maximum(same_class, other_class) < BACKGROUND_IOU,
    }
    kind = np.select([*kinds.values()], [*kinds], default="Both")
    categories = np.append(matches.truth.category_ids, -1)  # the last entry serves the index -1
    return Errors(matches, threshold, rows, kind, categories[other_box])


def _pairs(matches: Matches, rows: Ints) -> tuple[Ints, Ints]:
    """Pairs each detection with each object of its image. Returns places in `rows`, and boxes."""
    boxes = np.flatnonzero(matches.objects)
    boxes = boxes[np.argsort(matches.truth.image_ids[boxes], kind="stable")]
    images = matches.truth.image_ids[boxes]
    first = np.searchsorted(images, matches.image_index[rows], side="left")
    count = np.searchsorted(images, matches.image_index[rows], side="right") - first
    place = np.repeat(np.arange(len(rows)), count)
    k = np.arange(len(place)) - np.repeat(np.cumsum(count) - count, count)
    return place, boxes[first[place] + k]


def _best(
    place: Ints, iou: NDArray[np.float64], box: Ints, count: int
) -> tuple[NDArray[np.float64], Ints]:
    """Returns the highest IoU of each place and its box, (count,) each.

    A place without a box has 0 and -1.
    """
    best, which = np.zeros(count), np.full(count, -1, np.int64)
    order = np.argsort(iou, kind="stable")
    best[place[order]], which[place[order]] = iou[order], box[order]
    return best, which
