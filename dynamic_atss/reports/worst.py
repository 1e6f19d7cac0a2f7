"""Chooses the images, false detections and missed objects that a report shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynamic_atss.reports.errors import Errors

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ByImage:
    """Holds numbers of found objects, missed objects and false detections by image, (N,) each."""

    found: Ints
    missed: Ints
    false: Ints

    def worst(self, most: int) -> list[int]:
        """Returns at most `most` images with errors, the most errors first.

        Of images with equally many errors, those with fewer found objects come first.
        """
        errors = self.missed + self.false
        order = np.lexsort((self.found, -errors))[:most]
        return order[errors[order] > 0].tolist()


def by_image(errors: Errors) -> ByImage:
    truth, number = errors.matches.truth.image_ids, len(errors.matches.file_ids)
    images = truth[errors.found], truth[errors.missed], errors.matches.image_index[errors.false]
    found, missed, false = (np.bincount(indices, minlength=number) for indices in images)
    return ByImage(found, missed, false)


def most_confident_false(errors: Errors, most: int) -> list[int]:
    """Returns at most `most` places in `errors.false`, by descending score."""
    scores = errors.matches.scores[errors.false]
    return np.argsort(-scores, kind="stable")[:most].tolist()


def largest_missed(errors: Errors, most: int) -> list[int]:
    """Returns at most `most` rows of missed objects in the truth, by descending area."""
    rows = errors.missed
    return rows[np.argsort(-errors.matches.truth.areas[rows], kind="stable")][:most].tolist()
