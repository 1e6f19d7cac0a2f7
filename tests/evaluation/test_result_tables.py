"""Conversion of detections to a table, to COCO results, and back."""

import logging

import numpy as np
import pytest
import torch

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.evaluation.coco import evaluate_coco
from dynamic_atss.evaluation.detection_table import detection_table
from dynamic_atss.evaluation.ground_truth import TruthTable
from dynamic_atss.evaluation.results import as_results, result_table
from dynamic_atss.types import Detections

PLACES = {
    "sizes": {7: (100, 200), 2: (50, 50), 5: (10, 10)},
    "original_sizes": {7: (50, 100), 2: (100, 50), 5: (10, 10)},
}


def detections(*rows):
    """Makes detections of rows x1, y1, x2, y2, score, class."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].long())


def test_a_table_of_three_images_by_hand():
    found = {
        7: detections((10, 20, 30, 60, 0.75, 1), (0, 0, 8, 8, 0.5, 0)),
        2: detections((1, 2, 3, 4, 0.25, 1)),
        5: detections(),
    }
    table = detection_table(found, **PLACES, category_ids=[11, 40])
    expected = [
        (2, 1, 4, 3, 5, 0.25, 40),  # the original is twice as high as the resized image
        (7, 5, 10, 11, 21, 0.75, 40),
        (7, 0, 0, 5, 5, 0.5, 11),
    ]
    assert table.dtype == np.float64
    assert table.tolist() == [list(row) for row in expected]


def test_results_are_scaled_per_axis_then_widened_by_one():
    boxes = torch.tensor([[10.0, 20.0, 29.0, 59.0], [0.0, 0.0, 399.0, 99.0]])
    found = {
        8: Detections(boxes, torch.tensor([0.75, 0.5]), torch.tensor([1, 0])),
        3: Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64)),
    }
    sizes = {8: (100, 400), 3: (5, 5)}
    table = detection_table(
        found, sizes=sizes, original_sizes={8: (50, 800), 3: (5, 5)}, category_ids=[90, 13]
    )
    assert as_results(table) == [
        {"image_id": 8, "category_id": 13, "bbox": [20.0, 10.0, 39.0, 20.5], "score": 0.75},
        {"image_id": 8, "category_id": 90, "bbox": [0.0, 0.0, 799.0, 50.5], "score": 0.5},
    ]


@pytest.mark.parametrize("convention", BoxConvention)
def test_the_legacy_pixel_is_added_or_not(convention):
    one = Detections(
        torch.tensor([[2.0, 3.0, 12.0, 8.0]]),
        torch.ones(1),
        torch.zeros(1, dtype=torch.int64),
        convention,
    )
    places = {"sizes": {1: (9, 20)}, "original_sizes": {1: (18, 10)}}
    (result,) = as_results(detection_table({1: one}, **places, category_ids=[4]))
    assert result["bbox"] == [1, 6, 5 + convention.value, 10 + convention.value]


def test_detections_that_are_not_finite_are_not_written(caplog):
    boxes = torch.tensor([[0.0, 0, 5, 5], [0, 0, float("nan"), 5], [0, 0, 5, 5]])
    one = Detections(
        boxes, torch.tensor([0.5, 0.5, float("inf")]), torch.zeros(3, dtype=torch.int64)
    )
    table = detection_table(
        {1: one}, sizes={1: (9, 9)}, original_sizes={1: (9, 9)}, category_ids=[4]
    )
    assert [r["bbox"] for r in as_results(table)] == [[0, 0, 6, 6]]
    assert "2 detections that are not finite" in caplog.text


def test_results_and_back():
    table = np.array([(2**53 - 1, 0.1, 2, 3, 4, 0.3, 9), (1, 5, 6, 7, 8, 0.5, 2)])
    results = as_results(table)
    assert results[0] == {
        "image_id": 2**53 - 1,
        "category_id": 9,
        "bbox": [0.1, 2.0, 3.0, 4.0],
        "score": 0.3,
    }
    assert all(isinstance(results[0][k], int) for k in ("image_id", "category_id"))
    assert np.array_equal(result_table(results, "here"), table)
    assert result_table(table, "here") is table
    assert as_results(np.zeros((0, 7))) == []


def test_no_image_and_no_detection_give_no_row():
    assert detection_table({}, **PLACES, category_ids=[1]).shape == (0, 7)
    assert detection_table({5: detections()}, **PLACES, category_ids=[1]).shape == (0, 7)


def test_detections_that_are_not_finite_give_one_warning(caplog):
    nan, inf = float("nan"), float("inf")
    found = {5: detections((0, 0, nan, 1, 0.5, 0), (0, 0, 1, 1, inf, 0), (0, 0, 1, 1, 0.5, 0))}
    with caplog.at_level(logging.WARNING):
        table = detection_table(found, **PLACES, category_ids=[1])
    assert table.tolist() == [[5, 0, 0, 2, 2, 0.5, 1]]
    assert [r.message[:14] for r in caplog.records] == ["2 detections t"]


@pytest.mark.parametrize("scorer", ["hotcoco", "pycocotools"])
def test_a_table_scores_as_its_results(scorer):
    rng = np.random.default_rng(0)
    boxes = np.concatenate([rng.uniform(0, 50, (20, 2)), rng.uniform(5, 90, (20, 2))], 1)
    ids, categories = np.arange(20) // 4, np.arange(20) % 2 + 1
    truth = TruthTable(
        source="here",
        images=[{"id": i} for i in range(5)],
        categories=[{"id": c, "name": str(c)} for c in (1, 2)],
        image_ids=ids,
        category_ids=categories,
        boxes=boxes,
        areas=boxes[:, 2] * boxes[:, 3],
        crowd=np.zeros(20, bool),
    )
    moved = boxes + rng.uniform(-4, 4, (20, 4))
    table = np.column_stack([ids, moved, rng.random(20), categories])
    scores = evaluate_coco(truth, table, scorer=scorer)
    assert scores == evaluate_coco(truth, as_results(table), scorer=scorer)
    assert 0.1 < scores.metrics["AP"] < 1
