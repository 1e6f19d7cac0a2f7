"""Which images, false detections and missed objects a report shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynamic_atss.reports.errors import Errors

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ByImage:
    """Objects found, objects missed and false detections of each of n images, (n,) each."""

    found: Ints
    missed: Ints
    false: Ints

    def worst(self, most: int) -> list[int]:
        """The images with the most errors; of equal ones first those that find less. None without
        an error, at most so many."""
        errors = self.missed + self.false
        order = np.lexsort((self.found, -errors))[:most]
        return order[errors[order] > 0].tolist()


def by_image(errors: Errors) -> ByImage:
    truth, number = errors.matches.truth.image_ids, len(errors.matches.file_ids)
    images = truth[errors.found], truth[errors.missed], errors.matches.image[errors.false]
    return ByImage(*(np.bincount(of, minlength=number) for of in images))


def most_confident_false(errors: Errors, most: int) -> list[int]:
    """Places in `errors.false`, by descending score."""
    scores = errors.matches.scores[errors.false]
    return np.argsort(-scores, kind="stable")[:most].tolist()


def largest_missed(errors: Errors, most: int) -> list[int]:
    """Rows of the truth, by descending area."""
    rows = errors.missed
    return rows[np.argsort(-errors.matches.truth.areas[rows], kind="stable")][:most].tolist()
