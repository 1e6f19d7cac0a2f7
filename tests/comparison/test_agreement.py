"""Compares the agreement of scores and IoUs with a loop over all detections."""

import numpy as np
import pytest

from dynamic_atss.comparison.agreement import BINS, agreement, best_ious
from dynamic_atss.comparison.statistics import pearson, spearman
from dynamic_atss.evaluation.ground_truth import TruthTable


def overlap(a, b):
    """Gives the intersection and the area of each box."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0), a[2] * a[3], b[2] * b[3]


def truth(images, categories, boxes, crowd) -> TruthTable:
    boxes = np.array(boxes, float).reshape(-1, 4)
    return TruthTable(
        "made up",
        [{"id": i} for i in range(5)],
        [{"id": c, "name": str(c)} for c in range(3)],
        np.array(images, np.int64),
        np.array(categories, np.int64),
        boxes,
        boxes[:, 2:].prod(1),
        np.array(crowd, bool),
    )


def random_case(seed: int):
    generator = np.random.default_rng(seed)
    boxes = generator.uniform(5, 30, (30, 4))
    known = truth(
        *(generator.integers(0, 4, 30), generator.integers(0, 3, 30), boxes),
        generator.random(30) < 0.3,
    )
    near = boxes[generator.integers(0, 30, 200)] + generator.normal(0, 3, (200, 4))
    table = np.column_stack(
        [generator.integers(0, 5, 200), near, generator.random(200), generator.integers(0, 3, 200)]
    )
    table[:, 3:5] = np.abs(table[:, 3:5])
    return table, known


@pytest.mark.parametrize("seed", range(3))
def test_agreement_equals_that_of_a_loop(seed):
    table, known = random_case(seed)
    scores, ious, left_out = [], [], 0
    for image, *box, score, category in table:
        best, covered = 0.0, False
        for place in range(len(known)):
            if known.image_ids[place] != image or known.category_ids[place] != category:
                continue
            inter, area, other = overlap(box, known.boxes[place])
            if known.crowd[place]:
                covered |= inter >= 0.5 * area
            else:
                best = max(best, inter / (area + other - inter))
        if covered and best < 0.5:
            left_out += 1
            continue
        scores.append(score)
        ious.append(best)
    found = agreement(table, known)
    scores, ious = np.array(scores), np.array(ious)
    good = ious >= 0.5
    assert left_out > 5 and good.sum() > 5
    assert (found.detections, found.left_out, found.matched) == (len(ious), left_out, good.sum())
    assert found.pearson == pytest.approx(pearson(scores, ious))
    assert found.spearman == pytest.approx(spearman(scores, ious))
    assert found.pearson_matched == pytest.approx(pearson(scores[good], ious[good]))
    assert found.spearman_matched == pytest.approx(spearman(scores[good], ious[good]))
    for place in range(BINS):
        inside = (scores >= place / BINS) & (scores < (place + 1) / BINS)
        assert found.counts[place] == inside.sum()
        assert found.ious[place] == pytest.approx(ious[inside].mean())


def test_the_class_and_the_image_count():
    known = truth([0, 0, 1], [1, 2, 1], [[0, 0, 10, 10]] * 3, [False, False, False])
    table = np.array([[0, 0, 0, 10, 5, 0.9, 1], [0, 0, 0, 10, 10, 0.8, 0], [2, 0, 0, 9, 9, 1.0, 1]])
    best, covered = best_ious(table, known)
    assert best.tolist() == [0.5, 0, 0] and not covered.any()
    found = agreement(table, known)
    assert found.matched == 1 and found.counts[-1] == 2 and found.ious[0] is None


@pytest.mark.parametrize("crowd", [[], [True]])
def test_without_detections_or_objects(crowd):
    known = truth([0] * len(crowd), [0] * len(crowd), [[0, 0, 10, 10]] * len(crowd), crowd)
    assert agreement(np.zeros((0, 7)), known)[:4] == (0, 0, 0, None)
    one = np.array([[0, 0, 0, 4, 4, 0.5, 0]])
    found = agreement(one, known)
    assert (found.detections, found.left_out) == ((0, 1) if crowd else (1, 0))
    assert found.pearson is None
