"""Tests the conversion of numbers per image into numbers per box."""

import pytest

from dynamic_atss.engine.per_box import per_box
from dynamic_atss.modeling.assignment_metrics import SIZES


def test_per_box_by_size_and_branch():
    small, large = SIZES[0], SIZES[-1]
    line = {
        "loss": 1.0,
        "positives": 9.0,
        "boxes_without_positive": 0.5,
        f"boxes_{small}": 2.0,
        f"positives_{small}": 5.0,
        f"boxes_without_positive_{small}": 0.5,
        f"boxes_{large}": 0.0,
        f"positives_{large}": 0.0,
        f"boxes_without_positive_{large}": 0.0,
        f"one/boxes_{large}": 0.5,
        f"one/positives_{large}": 0.5,
        f"one/boxes_without_positive_{large}": 0.0,
        "boxes_of_mine": 3.0,  # a metric of the user
    }
    assert per_box(line) == {
        f"positives_per_box/{small}": pytest.approx(2.5),
        f"share_without_positive/{small}": pytest.approx(0.25),
        f"one/positives_per_box/{large}": pytest.approx(1.0),
        f"one/share_without_positive/{large}": pytest.approx(0.0),
    }
