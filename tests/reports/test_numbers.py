"""Compares the numbers of a report with the scores of the test and with loops."""

import numpy as np
import pytest
from helpers_reports import found, matched, random_set, tables, truth, write_set

from dynamic_atss.engine.evaluator import scoring_task
from dynamic_atss.evaluation.voc import box_iou
from dynamic_atss.reports.detection_matching import match
from dynamic_atss.reports.errors import errors_at
from dynamic_atss.reports.numbers import numbers


def numbers_of(dataset, threshold, max_dets=100):
    boxes, table = tables(dataset)
    errors = errors_at(match(boxes, table, dataset.image_ids, max_dets), threshold)
    return numbers(errors, scoring_task(dataset, table, max_dets).scores())


def confusion_loop(boxes, table, counted, threshold, categories):
    """Computes the confusion matrix in a loop.

    By descending score, a detection takes the free object of its image, of any category, that it
    overlaps most with IoU 0.5 or more.
    """
    place, last = {c: i for i, c in enumerate(categories)}, len(categories)
    matrix = np.zeros((last + 1, last + 1), int)
    taken = set()
    for d in np.argsort(-table[:, 5], kind="stable").tolist():
        if table[d, 5] < threshold or not counted[d]:
            continue
        best, at = 0.5, None
        for t in np.flatnonzero(boxes.image_ids == table[d, 0]).tolist():
            iou = box_iou(table[d : d + 1, 1:5], boxes.boxes[t : t + 1])[0]
            if t not in taken and not boxes.crowd[t] and iou >= best:
                best, at = iou, t
        taken.add(at)
        row = last if at is None else place[boxes.category_ids[at]]
        matrix[row, place[table[d, 6]]] += 1
    for t in np.flatnonzero(~boxes.crowd).tolist():
        if t not in taken:
            matrix[place[boxes.category_ids[t]], last] += 1
    return matrix


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_confusion_matrix(tmp_path, seed, threshold):
    dataset = random_set(tmp_path / "set", seed)
    boxes, table = tables(dataset)
    counted, _, _ = matched(boxes, table)
    ours = numbers_of(dataset, threshold)["confusion"]
    loop = confusion_loop(boxes, table, counted, threshold, [0, 1, 2, 3])
    assert ours["categories"] == ["c0", "c1", "c2", "c3"]  # by id; the file lists c3 first
    assert ours["matrix"] == loop.tolist()
    assert loop[:-1, :-1].sum() > np.trace(loop[:-1, :-1]) > 0  # some are taken for another


@pytest.mark.parametrize("seed", range(4))
def test_calibration(tmp_path, seed):
    """The mean gap between score and share of right detections, in tenths of the score."""
    dataset = random_set(tmp_path / "set", seed)
    boxes, table = tables(dataset)
    counted, right = map(np.array, matched(boxes, table)[:2])
    scores, right = table[counted, 5], right[counted]
    tenth = np.minimum((scores * 10).astype(int), 9)
    gaps = [
        (len(scores[tenth == b]), abs(scores[tenth == b].mean() - right[tenth == b].mean()))
        for b in sorted(set(tenth.tolist()))
    ]
    ours = numbers_of(dataset, 0.5)["calibration"]
    assert ours["num_detections"] == len(scores)
    assert ours["ece"] == pytest.approx(sum(n * gap for n, gap in gaps) / len(scores))
    assert ours["mce"] == pytest.approx(max(gap for _, gap in gaps))
    assert [b["count"] for b in ours["bins"] if b["count"]] == [n for n, _ in gaps]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("max_dets", [2, 100])
def test_scores_are_those_of_the_test(tmp_path, seed, max_dets):
    dataset = random_set(tmp_path / "set", seed)
    ours = numbers_of(dataset, 0.5, max_dets)
    scores = scoring_task(dataset, tables(dataset)[1], max_dets).scores()
    assert ours["coco"] == scores.to_json()
    for name, ap in scores.per_category.items():
        mine = ours["per_category"][name]["AP"]
        assert mine is None if ap == -1 else mine == pytest.approx(ap, rel=1e-12)
    assert ours["errors"]["AP50"] == pytest.approx(scores.metrics["AP50"], rel=1e-9)
    curve = ours["precision_by_recall"]["IoU 0.50"]
    assert np.mean(curve) == pytest.approx(scores.metrics["AP50"], rel=1e-9)
    for size in ("small", "medium", "large"):
        ap = scores.metrics[f"AP{size[0]}"]
        assert ours["per_size"][size]["AP"] == (None if ap == -1 else ap)


@pytest.mark.parametrize("seed", range(3))
def test_parts_add_up(tmp_path, seed):
    ours = numbers_of(random_set(tmp_path / "set", seed), 0.4)
    total, kinds = ours["at_threshold"], ours["errors"]["kinds"]
    for name in ("found", "missed", "false"):
        by_class = [row["at_threshold"][name] for row in ours["per_category"].values()]
        assert sum(by_class) == total[name]
        assert sum(row[name] for row in ours["per_size"].values()) == total[name]
    assert sum(kinds[k]["at_threshold"] for k in kinds if k != "Miss") == total["false"]
    assert total["found"] + total["missed"] == ours["objects"]
    for row in ours["per_category"].values():
        if row["best"]:
            assert row["best"]["f1"] >= (row["at_threshold"]["f1"] or 0)


def test_a_class_without_objects_and_two_of_one_name(tmp_path):
    results = [found(5, 2, (0, 0, 20, 20), 0.9), found(5, 4, (0, 0, 20, 20), 0.8)]
    names = {2: "cat", 4: "dog", 7: "cat"}
    dataset = write_set(tmp_path / "set", [truth(5, 2, (0, 0, 20, 20))], results, names)
    ours = numbers_of(dataset, 0.5)
    assert [*ours["per_category"]] == ["cat#2", "dog", "cat#7"]
    assert {*ours["coco"]["per_category"]} == {"cat#2", "dog", "cat#7"}
    assert ours["per_category"]["dog"]["AP"] is None
    assert ours["per_category"]["dog"]["at_threshold"]["false"] == 1
    assert ours["errors"]["kinds"]["Cls"]["at_threshold"] == 1
    assert ours["precision_by_recall"]["per_category"]["cat#7"] == [None] * 101
