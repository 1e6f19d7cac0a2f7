"""Compares the matches and errors with loops and with hotcoco's counts."""

import numpy as np
import pytest
from helpers_reports import found, matched, random_set, tables, truth, write_set

from dynamic_atss.evaluation.voc import box_iou
from dynamic_atss.reports.detection_matching import match
from dynamic_atss.reports.errors import errors_at


def matches_of(dataset, max_dets=100):
    return match(*tables(dataset), dataset.image_ids, max_dets)


@pytest.mark.parametrize("seed", range(6))
def test_detections_and_objects_are_matched_as_in_the_loop(tmp_path, seed):
    dataset = random_set(tmp_path / "set", seed)
    boxes, table = tables(dataset)
    counted, right, taken = matched(boxes, table)
    ours = matches_of(dataset)
    assert ours.counted.tolist() == counted and ours.right.tolist() == right
    assert not all(counted) and any(right)
    assert ours.objects.tolist() == (~boxes.crowd).tolist()
    assert {t: s for t, s in enumerate(ours.found_by) if s > -np.inf} == taken
    for threshold in (0.2, 0.7):
        kept = table[:, 5] >= threshold
        assert ours.found_at(threshold).sum() == sum(s >= threshold for s in taken.values())
        assert (
            ours.missed_at(threshold).sum() + ours.found_at(threshold).sum() == ours.objects.sum()
        )
        assert ours.false_at(threshold).sum() == (kept & counted & ~np.array(right)).sum()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("threshold", [0.0, 0.4, 0.8])
def test_kinds_of_all_detections_add_up_to_tide(tmp_path, seed, threshold):
    matches = matches_of(random_set(tmp_path / "set", seed))
    errors = errors_at(matches, threshold)
    counts = matches.evaluation_at(threshold).tide_errors()["counts"]
    assert {kind: (errors.kind == kind).sum() for kind in counts if kind != "Miss"} == {
        kind: count for kind, count in counts.items() if kind != "Miss"
    }
    assert counts["Miss"] <= len(errors.missed)


def test_each_kind_by_hand(tmp_path):
    """Makes a detection of each kind for two objects."""
    big, small = (0, 0, 40, 40), (100, 100, 20, 20)
    results = {
        "right": found(5, 1, big, 0.95),
        "Dupe": found(5, 1, (0, 0, 40, 36), 0.9),
        "Loc": found(5, 1, (0, 0, 40, 12), 0.8),  # IoU 0.3
        "Cls": found(5, 2, (0, 0, 40, 38), 0.7),
        "Both": found(5, 2, (0, 0, 40, 10), 0.6),
        "Bkg": found(5, 1, (100, 10, 20, 20), 0.5),
        "low": found(5, 1, (10, 100, 20, 20), 0.1),
    }
    boxes = [truth(5, 1, big), truth(9, 2, small)]
    dataset = write_set(tmp_path / "set", boxes, [*results.values()], {1: "one", 2: "two"})
    errors = errors_at(matches_of(dataset), 0.3)
    assert errors.kind.tolist() == ["Dupe", "Loc", "Cls", "Both", "Bkg"]
    assert errors.false.tolist() == [1, 2, 3, 4, 5] and errors.right.tolist() == [0]
    assert errors.overlapped_category[2:4].tolist() == [0, 0]  # the first category
    assert errors.missed.tolist() == [1] and errors.found.tolist() == [0]
    assert box_iou(np.array([big], float), np.array([[0, 0, 40, 12]], float)) == pytest.approx(0.3)


def test_only_the_best_of_an_image_and_a_category_count(tmp_path):
    results = [found(5, 1, (i, 0, 20, 20), 0.9 - i / 10) for i in range(4)]
    results += [found(5, 2, (0, 0, 20, 20), 0.1)]
    dataset = write_set(
        tmp_path / "set", [truth(5, 1, (2, 0, 20, 20))], results, {1: "one", 2: "two"}
    )
    assert matches_of(dataset, 2).counted.tolist() == [True, True, False, False, True]
    assert matches_of(dataset, 100).counted.all()
