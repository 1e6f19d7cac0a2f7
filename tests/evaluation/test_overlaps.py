"""Explanations of detections that score 0."""

from dataclasses import replace

import numpy as np
import pytest

from dynamic_atss.evaluation.ground_truth import TruthTable
from dynamic_atss.evaluation.overlaps import why_no_match

CAT, DOG, COW = 10, 7, 9


def truth(*rows) -> TruthTable:
    """Makes ground truth of rows image, category, x, y, w, h."""
    table = np.array(rows, np.float64)
    return TruthTable(
        source="a.json",
        images=[{"id": 1}, {"id": 2}],
        categories=[{"id": i, "name": n} for i, n in ((CAT, "cat"), (DOG, "dog"), (COW, "cow"))],
        image_ids=table[:, 0].astype(np.int64),
        category_ids=table[:, 1].astype(np.int64),
        boxes=table[:, 2:],
        areas=table[:, 4] * table[:, 5],
        crowd=np.zeros(len(table), bool),
    )


def table(*rows):
    """Makes detections of rows image, category, x, y, w, h."""
    return np.array([(i, x, y, w, h, 0.5, c) for i, c, x, y, w, h in rows], np.float64)


BOXES = truth((1, CAT, 0, 0, 10, 10), (1, DOG, 50, 50, 10, 10), (2, DOG, 0, 0, 20, 20))


def test_no_explanation_without_detections_or_for_correct_ones():
    assert why_no_match(BOXES, np.zeros((0, 7))) is None
    assert why_no_match(BOXES, table((1, CAT, 0, 0, 10, 10), (2, CAT, 0, 0, 20, 20))) is None


def test_boxes_that_overlap_too_little_are_reported_with_the_best_iou():
    """The best has 5 of 15 columns. Boxes of the other image do not count."""
    found = why_no_match(BOXES, table((1, CAT, 5, 0, 10, 10), (2, CAT, 50, 50, 10, 10)))
    assert "none of 2 detections has IoU 0.5" in found and "(the best has 0.33)" in found


def test_detections_far_from_all_boxes():
    assert "(the best has 0.00)" in why_no_match(BOXES, table((2, DOG, 100, 100, 5, 5)))


def test_crowds_do_not_count_as_boxes():
    crowd = replace(BOXES, crowd=np.array([False, True, True]))
    assert "(the best has 0.00)" in why_no_match(crowd, table((1, DOG, 50, 50, 10, 10)))


def test_exchanged_classes_are_named():
    boxes = [(1, CAT, 50, 50, 10, 10), (2, CAT, 0, 0, 20, 20), (1, DOG, 0, 0, 10, 10)]
    found = why_no_match(BOXES, table(*boxes, (1, COW, 80, 80, 5, 5)))
    assert found.startswith("only 0 of 3 detections with IoU 0.5")
    assert "'cat' was detected on boxes of 'dog'" in found


@pytest.mark.parametrize(("right", "explained"), [(1, True), (2, False)])
def test_few_correct_classes_do_not_hide_exchanged_ones(right, explained):
    """One of eleven is less than a tenth, two are more."""
    wrong = [(1, CAT, 50, 50, 10, 10)] * (11 - right)
    found = why_no_match(BOXES, table(*wrong, *[(1, DOG, 50, 50, 10, 10)] * right))
    assert (found is not None) == explained
