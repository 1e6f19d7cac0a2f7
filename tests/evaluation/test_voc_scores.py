"""VOC's AP: closed forms, and comparison with a plain double loop."""

import json
from fractions import Fraction

import numpy as np
import pytest

from dynamic_atss.data.voc import VocDataset
from dynamic_atss.errors import UserError
from dynamic_atss.evaluation.coco import evaluate_coco, write_results
from dynamic_atss.evaluation.ground_truth import TruthTable, truth_table
from dynamic_atss.evaluation.scores import METRICS, CocoScores, VocScores
from dynamic_atss.evaluation.voc import all_point_ap, eleven_point_ap, evaluate_voc


def found(image, category, box, score):
    return {"image_id": image, "category_id": category, "bbox": list(box), "score": score}


def table(rows, categories=(1, 2), images=(1, 2)):
    """Makes ground truth of rows (image, category, x y w h, difficult)."""
    boxes = np.array([row[2] for row in rows], np.float64).reshape(-1, 4)
    return TruthTable(
        source="truth",
        images=[{"id": i} for i in images],
        categories=[{"id": c, "name": f"c{c}"} for c in categories],
        image_ids=np.array([row[0] for row in rows], np.int64),
        category_ids=np.array([row[1] for row in rows], np.int64),
        boxes=boxes,
        areas=boxes[:, 2] * boxes[:, 3],
        crowd=np.array([row[3] for row in rows], bool),
    )


def overlap(a, b):
    """Computes the devkit's IoU: corners belong to the box, sides are x2 - x1 + 1."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = a, b
    width = min(ax + aw - 1, bx + bw - 1) - max(ax, bx) + 1
    height = min(ay + ah - 1, by + bh - 1) - max(ay, by) + 1
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (aw * ah + bw * bh - width * height)


def judged(rows, results, category):
    """Judges each detection, best first: True, False, or None if it is ignored."""
    taken, verdicts = set(), []
    mine = [r for r in results if r["category_id"] == category]
    for result in sorted(mine, key=lambda r: -r["score"]):  # stable, as the devkit's sort
        best_iou, best_row = 0.0, None
        for number, (image, row_category, box, _) in enumerate(rows):
            if image == result["image_id"] and row_category == category:
                iou = overlap(result["bbox"], box)
                if iou > best_iou:
                    best_iou, best_row = iou, number
        if best_iou < 0.5:
            verdicts.append(False)
        elif rows[best_row][3]:
            verdicts.append(None)
        else:
            verdicts.append(best_row not in taken)
            taken.add(best_row)
    return verdicts


def reference(rows, results, category):
    """Computes (all-point, eleven-point) AP; None without ground truth."""
    total = sum(1 for row in rows if row[1] == category and not row[3])
    if not total:
        return None
    verdicts = [v for v in judged(rows, results, category) if v is not None]
    points = []
    for count in range(1, len(verdicts) + 1):
        right = sum(verdicts[:count])
        points.append((Fraction(right, total), Fraction(right, count)))

    def best(recall):
        return max((p for r, p in points if r >= recall), default=Fraction(0))

    area = sum((best(Fraction(k, total)) for k in range(1, total + 1)), Fraction(0)) / total
    eleven = sum((best(Fraction(t, 10)) for t in range(11)), Fraction(0)) / 11
    return float(area), float(eleven)


def assert_same(rows, results, categories):
    scores = evaluate_voc(table(rows, categories, range(99)), results)
    known = []
    for category in categories:
        expected = reference(rows, results, category)
        name = f"c{category}"
        got = scores.all_points[name], scores.eleven_points[name]
        assert got == pytest.approx(expected or (-1, -1), abs=1e-12)
        known += [expected] if expected else []
    means = tuple(np.mean(known, axis=0)) if known else (-1, -1)
    assert tuple(scores.metrics.values()) == pytest.approx(means, abs=1e-12)


def scene(seed, images=8, categories=(4, 9, 2)):
    """Makes boxes of integers, many of them equal, and detections with equal scores.

    One category has no boxes, one has no detections.
    """
    rng = np.random.default_rng(seed)
    rows, results = [], []
    for image in range(images):
        for _ in range(rng.integers(0, 7)):
            box = [*rng.integers(0, 12, 2).tolist(), *rng.integers(1, 14, 2).tolist()]
            category = int(rng.choice([4, 9, 5]))
            rows.append((image, category, box, bool(rng.random() < 0.25)))
            for _ in range(rng.integers(0, 4)):
                near = np.maximum(np.array(box) + rng.integers(-2, 3, 4), [-5, -5, 1, 1])
                shown = category if category != 5 else 2
                results.append(found(image, shown, near.tolist(), round(rng.random(), 1)))
    order = rng.permutation(len(results))
    return rows, [results[i] for i in order], (*categories, 5)


@pytest.mark.parametrize("seed", range(25))
def test_equal_to_a_double_loop(seed):
    assert_same(*scene(seed))


def test_closed_forms():
    # 4 boxes, found by the 1st and the 3rd of four detections.
    correct = np.cumsum([1, 0, 1, 0])
    assert all_point_ap(correct, 4) == pytest.approx(0.25 * 1 + 0.25 * 2 / 3)
    assert eleven_point_ap(correct, 4) == pytest.approx((3 * 1 + 3 * 2 / 3) / 11)
    # 3 of 10 boxes reach recall 0.3, but not in floating point.
    assert eleven_point_ap(np.cumsum([1, 1, 1]), 10) == pytest.approx(4 / 11)
    nothing = np.cumsum(np.zeros(0, np.int64))
    assert all_point_ap(nothing, 3) == eleven_point_ap(nothing, 3) == 0
    assert all_point_ap(correct, 0) == eleven_point_ap(correct, 0) == -1


def test_an_iou_of_one_half_counts():
    rows = [(1, 1, [0, 0, 10, 10], False)]
    assert evaluate_voc(table(rows), [found(1, 1, [0, 0, 10, 5], 1)]).all_points["c1"] == 1
    assert evaluate_voc(table(rows), [found(1, 1, [0, 0, 10, 4.99], 1)]).all_points["c1"] == 0


def test_a_detection_belongs_to_the_box_of_largest_overlap():
    """COCO would match the second detection with the other box."""
    rows = [(1, 1, [0, 0, 10, 10], False), (1, 1, [0, 2, 10, 10], False)]
    results = [found(1, 1, [0, 0, 10, 10], 0.9), found(1, 1, [0, 0, 10, 11], 0.8)]
    assert evaluate_voc(table(rows), results).all_points["c1"] == 0.5
    assert_same(rows, results, (1,))


def test_difficult_boxes_are_ignored():
    rows = [(1, 1, [0, 0, 9, 9], True), (1, 1, [20, 0, 9, 9], False)]
    results = [found(1, 1, [0, 0, 9, 9], s) for s in (0.9, 0.8)] + [found(1, 1, [20, 0, 9, 9], 0.7)]
    scores = evaluate_voc(table(rows), results)
    assert scores.metrics == {"VOC_mAP": 1, "VOC07_mAP": 1}
    assert evaluate_voc(table(rows[:1]), results).metrics == {"VOC_mAP": -1, "VOC07_mAP": -1}


def test_equal_overlaps_go_to_the_first_box():
    twins = [(1, 1, [0, 0, 9, 9], True), (1, 1, [0, 0, 9, 9], False)]
    one = [found(1, 1, [0, 0, 9, 9], 0.5)]
    assert evaluate_voc(table(twins), one).all_points["c1"] == 0
    assert evaluate_voc(table(twins[::-1]), one).all_points["c1"] == 1
    assert_same(twins, one, (1,))


def test_equal_scores_keep_their_order():
    rows = [(1, 1, [0, 0, 9, 9], False)]
    pair = [found(1, 1, [0, 0, 9, 9], 0.5), found(1, 1, [50, 0, 9, 9], 0.5)]
    assert evaluate_voc(table(rows), pair).all_points["c1"] == 1
    assert evaluate_voc(table(rows), pair[::-1]).all_points["c1"] == 0.5


@pytest.mark.parametrize("rows", [[], [(1, 1, [0, 0, 5, 5], False)]])
def test_nothing_found(rows):
    assert_same(rows, [], (1, 2))


def test_malformed_results():
    with pytest.raises(UserError, match="not in the COCO results format"):
        evaluate_voc(table([]), [{"image_id": 1}])


def test_files_and_table(tmp_path):
    rows = [(1, 1, [0, 0, 9, 9], False)]
    voc = evaluate_voc(table(rows), [found(1, 1, [0, 0, 9, 9], 0.5)])
    scores = CocoScores(dict.fromkeys(METRICS, 0.5), {}, voc)
    assert scores.numbers == {**scores.metrics, "VOC_mAP": 1.0, "VOC07_mAP": 1.0}
    write_results(tmp_path, [], scores)
    written = json.loads((tmp_path / "voc_metrics.json").read_text())
    assert written["VOC_mAP"] == 1 and written["per_category"]["c2"] == {"AP": -1, "AP07": -1}
    assert [line.split() for line in voc.table().split("\n")] == [
        ["category", "AP", "AP07"],
        ["mean", "1.000", "1.000"],
        ["c1", "1.000", "1.000"],
        ["c2", "-", "-"],
    ]
    write_results(tmp_path, [], None)
    assert [p.name for p in tmp_path.iterdir()] == ["bbox.json"]


def test_real_boxes(shared):
    """Scores detections around the real boxes of BCCD; COCO's AP50 of them is close."""
    data = VocDataset(shared / "data/bccd", "test", training=False)
    truth = truth_table(data.read(), "bccd")
    rng = np.random.default_rng(0)
    rows = [
        (int(i), int(c), box.tolist(), bool(d))
        for i, c, box, d in zip(
            truth.image_ids, truth.category_ids, truth.boxes, truth.crowd, strict=True
        )
    ]
    results = [
        found(i, c, (np.array(box) + rng.normal(0, 0.12, 4) * (box[2:] * 2)).tolist(), s)
        for i, c, box, _ in rows
        for s in rng.random(1).round(2).tolist()
    ]
    scores = evaluate_voc(truth, results)
    for category in truth.categories:
        expected = reference(rows, results, category["id"])
        name = category["name"]
        got = scores.all_points[name], scores.eleven_points[name]
        assert got == pytest.approx(expected, abs=1e-12) and 0.2 < expected[0] < 0.95
    assert abs(scores.metrics["VOC_mAP"] - evaluate_coco(truth, results).metrics["AP50"]) < 0.08


def test_large_sets():
    rng = np.random.default_rng(0)
    boxes = np.concatenate([rng.uniform(0, 300, (12_000, 2)), rng.uniform(20, 200, (12_000, 2))], 1)
    rows = [(i // 3, i % 20, box, i % 9 == 0) for i, box in enumerate(boxes.tolist())]
    results = [found(i, c, box, i % 97) for i, c, box, _ in rows for _ in range(8)]
    truth = table(rows, range(20), range(4000))
    scores = evaluate_voc(truth, results)
    assert 0.1 < scores.metrics["VOC_mAP"] < 1


def test_table_of_many_categories_has_the_mean_and_both_ends():
    aps = {f"c{i}": i / 100 for i in range(30)}
    lines = VocScores(aps, aps).table().split("\n")
    assert lines[1].split() == ["mean", "0.145", "0.145"]
    assert lines[3] == "30 categories" and lines[5].split() == ["c29", "0.290", "c4", "0.040"]
    assert len(lines) == 10
