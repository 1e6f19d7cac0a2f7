"""Compares the F1 of every threshold with its definition."""

import numpy as np
import pytest

from dynamic_atss.reports.thresholds import THRESHOLDS, sweep


@pytest.mark.parametrize("seed", range(3))
def test_f1_is_highest_at_the_best_threshold(seed):
    rng = np.random.default_rng(seed)
    right, false, objects = rng.beta(4, 2, 60), rng.beta(2, 4, 90), 75
    ours = sweep(right, false, objects)

    def f1(threshold):
        tp, fp = (right >= threshold).sum(), (false >= threshold).sum()
        return 2 * tp / (2 * tp + fp + (objects - tp))

    assert ours.f1 == pytest.approx([f1(t) for t in THRESHOLDS])
    assert f1(ours.best) == pytest.approx(max(map(f1, [*right, *false])), abs=0.02)  # between steps
    at = ours.at(ours.best)
    assert at["precision"] == at["found"] / (at["found"] + at["false"])
    assert at["recall"] == at["found"] / objects and at["missed"] == objects - at["found"]


def test_between_right_and_false_it_is_in_the_middle():
    ours = sweep(np.array([0.8, 0.9]), np.array([0.2, 0.4]), 2)
    assert 0.55 < ours.best < 0.65 and ours.at(ours.best)["f1"] == 1.0


def test_a_detection_of_just_this_score_counts():
    ours = sweep(np.array([0.5]), np.array([0.25]), 1)
    assert ours.at(0.5)["found"] == 1 and ours.at(0.501)["found"] == 0
    assert ours.at(0.25)["false"] == 1 and ours.at(0.251)["false"] == 0


@pytest.mark.parametrize("objects", [0, 3])
def test_without_right_detections_there_is_none(objects):
    ours = sweep(np.zeros(0), np.array([0.3]), objects)
    assert ours.best is None
    assert ours.at(0.5) == {
        "threshold": 0.5,
        "found": 0,
        "missed": objects,
        "false": 0,
        "precision": None,
        "recall": 0.0 if objects else None,
        "f1": 0.0 if objects else None,
    }
