"""COCO scores: hotcoco against pycocotools, closed forms, malformed files, and tables."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from dynamic_atss.errors import UserError
from dynamic_atss.evaluation.coco import evaluate_coco, write_results
from dynamic_atss.evaluation.scores import METRICS, CocoScores

SHARED = Path(__file__).parents[2].parent / "shared"
real_data = pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="no ../shared/data here")


def write(path, annotations, images=(1,), categories=(1,)):
    content = {
        "images": [{"id": i, "width": 640, "height": 480} for i in images],
        "categories": [
            c if isinstance(c, dict) else {"id": c, "name": f"c{c}"} for c in categories
        ],
        "annotations": annotations,
    }
    path.write_text(json.dumps(content))
    return path


def truth(image, category, box, **fields):
    return {"image_id": image, "category_id": category, "bbox": list(box), **fields}


def found(image, category, box, score):
    return {"image_id": image, "category_id": category, "bbox": list(box), "score": score}


def random_boxes(rng, count):
    """Makes boxes x y w h of all COCO sizes, from 4 to 300 pixels a side."""
    sides = np.exp(rng.uniform(np.log(4), np.log(300), (count, 2)))
    return np.concatenate([rng.uniform(0, 340, (count, 2)), sides], 1)


def random_scene(seed, path, images=12, categories=(3, 4, 9, 20)):
    """Writes ground truth with crowds, and areas other than w * h; makes detections near it.

    Adds detections anywhere: over 100 in some images, none in others. Scores occur repeatedly.
    Category 20 has no ground truth.
    """
    rng = np.random.default_rng(seed)
    annotations, results = [], []
    for image in range(images):
        boxes = random_boxes(rng, rng.integers(0, 12))
        for i, box in enumerate(boxes.tolist()):
            fields = {
                "iscrowd": int(rng.random() < 0.15),
                "area": box[2] * box[3] * rng.uniform(0.4, 1),
            }
            category = int(rng.choice(categories[:-1]))
            annotations.append(truth(image, category, box, id=len(annotations), **fields))
            for _ in range(rng.integers(0, 4)):
                near = boxes[i] + rng.normal(0, 0.1, 4) * boxes[i, [2, 3, 2, 3]]
                near[2:] = np.abs(near[2:])
                results.append(found(image, category, near.tolist(), round(rng.random(), 1)))
        for box in random_boxes(rng, rng.choice([0, 20, 600])).tolist():
            category = int(rng.choice(categories))
            results.append(found(image, category, box, round(rng.random(), 2)))
    return write(path, annotations, range(images), categories), results


def jittered(annotation_file, seed=0):
    rng = np.random.default_rng(seed)
    content = json.loads(annotation_file.read_text())
    categories = [c["id"] for c in content["categories"]]
    results = []
    for a in content["annotations"]:
        for _ in range(rng.integers(0, 4)):
            x, y, w, h = a["bbox"]
            noise = rng.normal(0, 0.08, 4) * [w, h, w, h]
            category = a["category_id"] if rng.random() < 0.9 else int(rng.choice(categories))
            box = [x + noise[0], y + noise[1], abs(w + noise[2]), abs(h + noise[3])]
            results.append(found(a["image_id"], category, box, round(rng.random(), 2)))
    return results


def assert_same_scores(found, expected):
    """Allows rounding: the libraries sum means in different orders."""
    for name in ("metrics", "per_category"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-12), name


def assert_scorers_agree(annotations, results, **options):
    rust = evaluate_coco(annotations, results, scorer="hotcoco", **options)
    reference = evaluate_coco(annotations, results, scorer="pycocotools", **options)
    assert_same_scores(rust, reference)
    return rust


@pytest.mark.parametrize("seed", range(6))
def test_hotcoco_equals_pycocotools_on_random_scenes(tmp_path, seed):
    path, results = random_scene(seed, tmp_path / "a.json")
    scores = assert_scorers_agree(path, results)
    assert 0 < scores.metrics["AP"] < 1
    assert scores.per_category["c20"] == -1
    defined = [v for v in scores.per_category.values() if v >= 0]
    assert np.mean(defined) == pytest.approx(scores.metrics["AP"], abs=1e-12)
    assert_scorers_agree(path, results, image_ids=[1, 5, 7])


@real_data
@pytest.mark.parametrize(
    "file", ["coco_mini/annotations/instances_val2017.json", "bccd/coco/instances_test.json"]
)
def test_hotcoco_equals_pycocotools_on_real_annotations(file):
    path = SHARED / "data" / file
    scores = assert_scorers_agree(path, jittered(path))
    assert 0.15 < scores.metrics["AP"] < scores.metrics["AP50"] < 1


def test_numbers_are_those_that_pycocotools_prints(tmp_path, capsys):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    path, results = random_scene(11, tmp_path / "a.json")
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        annotation["id"] += 1  # pycocotools counts an id of 0 as unmatched: see the next test
    path.write_text(json.dumps(content))
    gt = COCO(path)
    evaluation = COCOeval(gt, gt.loadRes([dict(r) for r in results]), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    capsys.readouterr()
    for scorer in ("hotcoco", "pycocotools"):
        scores = evaluate_coco(path, results, scorer=scorer)
        assert [*scores.metrics.values()] == pytest.approx(evaluation.stats.tolist(), rel=1e-12)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("scorer", ["hotcoco", "pycocotools"])
def test_perfect_detections_score_one_also_with_annotation_id_0(tmp_path, scorer):
    boxes = {0: (10, 10, 20, 20), 1: (50, 50, 60, 60), 2: (100, 100, 200, 200)}
    path = write(tmp_path / "a.json", [truth(1, 1, b, id=i) for i, b in boxes.items()])
    scores = evaluate_coco(path, [found(1, 1, b, 0.5) for b in boxes.values()], scorer=scorer)
    assert scores.metrics["AR1"] == pytest.approx(1 / 3)
    assert all(v == pytest.approx(1, abs=1e-12) for k, v in scores.metrics.items() if k != "AR1")


@pytest.mark.parametrize("scorer", ["hotcoco", "pycocotools"])
def test_average_precision_worked_out_by_hand(tmp_path, scorer):
    """Two boxes; the detections are the first box, a wrong one, and the second with IoU 0.8.

    At 7 of 10 IoU thresholds (up to 0.8), precision is 1 up to recall 0.5 (51 of 101 points), then
    2/3 (50 points). At the others the second box is missed: precision is 1 at 51 points, then 0.
    """
    path = write(tmp_path / "a.json", [truth(1, 1, (0, 0, 50, 50)), truth(1, 1, (200, 0, 50, 50))])
    results = [
        found(1, 1, (0, 0, 50, 50), 0.9),
        found(1, 1, (400, 300, 50, 50), 0.8),
        found(1, 1, (200, 0, 50, 40.00001), 0.7),
    ]
    low, high = (51 + 50 * 2 / 3) / 101, 51 / 101
    metrics = evaluate_coco(path, results, scorer=scorer).metrics
    assert metrics["AP50"] == pytest.approx(low, abs=1e-9)
    assert metrics["AP"] == pytest.approx((7 * low + 3 * high) / 10, abs=1e-9)
    assert metrics["AR100"] == pytest.approx((7 * 1 + 3 * 0.5) / 10)
    assert metrics["AR1"] == pytest.approx(0.5)
    assert metrics["APs"] == metrics["APl"] == -1


@pytest.mark.parametrize("flags", [{"ignore": 1}, {"ignore": True, "iscrowd": 0}])
@pytest.mark.parametrize("scorer", ["hotcoco", "pycocotools"])
def test_ignored_boxes_are_crowds(tmp_path, scorer, flags):
    """Any number of detections in an ignored box is no error, and the box cannot be missed."""
    boxes = [truth(1, 1, (0, 0, 50, 50)), truth(1, 1, (200, 100, 90, 90))]
    results = [found(1, 1, (200 + 9 * i, 110, 30, 40), 0.9) for i in range(7)]
    results.append(found(1, 1, (0, 0, 50, 50), 0.5))

    def scores(*annotations):
        path = write(tmp_path / "a.json", list(annotations))
        return evaluate_coco(path, results, scorer=scorer).metrics

    ignored = scores(boxes[0], {**boxes[1], **flags})
    assert ignored == scores(boxes[0], {**boxes[1], "iscrowd": 1})
    assert ignored["AP"] == pytest.approx(1)
    assert scores(*boxes)["AP"] < 0.1 and scores(boxes[0])["AP"] < 0.2


@pytest.mark.parametrize("scorer", ["hotcoco", "pycocotools"])
def test_no_detections_score_zero(tmp_path, scorer, caplog):
    path = write(tmp_path / "a.json", [truth(1, 1, (0, 0, 50, 50))], images=(1, 2))
    scores = evaluate_coco(path, [], scorer=scorer)
    assert scores.metrics["AP"] == scores.metrics["AR100"] == scores.per_category["c1"] == 0
    assert "no detections" in caplog.text


def test_nothing_to_score_against(tmp_path, caplog):
    path = write(tmp_path / "a.json", [])
    assert evaluate_coco(path, [found(1, 1, (0, 0, 5, 5), 0.5)]) is None
    content = json.loads(path.read_text())
    del content["annotations"]
    path.write_text(json.dumps(content))
    assert evaluate_coco(path, []) is None
    assert caplog.text.count("nothing can be scored") == 2


def test_unusable_boxes_are_left_out_and_missing_fields_filled_in(tmp_path, caplog):
    good = [truth(1, 1, (0, 0, 50, 50)), truth(1, 1, (100, 100, 0, 10)), truth(2, 2, (1, 1, 9, 9))]
    good += [truth(2, 1, (1, 1, 9, 9), area=area) for area in (None, "9", 10**400)]
    bad = [
        truth(1, 1, (float("nan"), 0, 50, 50)),
        truth(1, 1, (0, 0, -5, 50)),
        truth(1, 1, (0, 0, 10**400, 50)),
    ]
    sizes = {"images": (1, 2, 3), "categories": (1, 2)}
    results = [found(1, 1, (0, 0, 50, 50), 0.9), found(2, 2, (1, 1, 9, 9), 0.9)]
    scores = assert_scorers_agree(write(tmp_path / "bad.json", good + bad, **sizes), results)
    assert scores == assert_scorers_agree(write(tmp_path / "good.json", good, **sizes), results)
    # One of five boxes is found: not the one with a side of 0, nor those of image 2.
    assert scores.per_category["c1"] == pytest.approx(21 / 101)
    assert "3 annotations with an unusable box" in caplog.text


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([found(9, 1, (0, 0, 5, 5), 0.5)], "image 9 is not in"),
        ([found(1, 8, (0, 0, 5, 5), 0.5)], "category 8 is not in"),
        ([{"image_id": 1, "category_id": 1, "score": 1}], "bbox"),
        ([found(1, 1, (0, 0, 5), 0.5)], "COCO results format"),
        ([found(1, 1, (0, 0, 5, float("nan")), 0.5)], "not finite"),
        ([found(1, 1, (0, 0, 5, 10**400), 0.5)], "COCO results format"),
        ([found(2**70, 1, (0, 0, 5, 5), 0.5)], "image 1180591620717411303424 is not in"),
        ({"a": 1}, "COCO results format"),
        ("nowhere.json", "nowhere.json: no such JSON file"),
    ],
)
def test_wrong_results_get_one_clear_line(tmp_path, results, message):
    path = write(tmp_path / "a.json", [truth(1, 1, (0, 0, 50, 50))])
    with pytest.raises(UserError, match=message) as error:
        evaluate_coco(path, results)
    assert "\n" not in str(error.value)


def test_broken_annotation_files(tmp_path):
    path = tmp_path / "a.json"
    for text in ('{"images": [', '{"images": []}', "[]", '{"images": [1], "categories": []}'):
        path.write_text(text)
        with pytest.raises(UserError, match=r"a\.json"):
            evaluate_coco(path, [])


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (truth(77, 1, (0, 0, 5, 5)), "image_id 77 is not among"),
        (truth(1, 77, (0, 0, 5, 5)), "category_id 77 is not among"),
        (truth(1, 1, ()), r"bbox \[\] is not four numbers"),
        ({"image_id": 1, "category_id": 1, "bbox": None}, "bbox None is not four numbers"),
        (truth(1, 1, (0, 0, 5, 5), iscrowd="x"), "iscrowd 'x' is neither 0 nor 1"),
        (truth(1, 1, (0, 0, 5, 5), ignore="maybe"), "ignore 'maybe' is neither 0 nor 1"),
    ],
)
def test_scoring_refuses_the_annotations_that_training_refuses(tmp_path, annotation, message):
    path = write(tmp_path / "a.json", [truth(1, 1, (0, 0, 50, 50)), annotation])
    with pytest.raises(UserError, match=rf"a\.json: annotation number 1: {message}"):
        evaluate_coco(path, [])


@pytest.mark.parametrize(
    "ids", [{"images": (1, 2**70)}, {"categories": (1, 2**70)}, {"images": (1, 1)}]
)
def test_invalid_ids(tmp_path, ids):
    with pytest.raises(UserError, match=r"a\.json: .*(make it an integer|occurs 2 times)"):
        evaluate_coco(write(tmp_path / "a.json", [truth(1, 1, (0, 0, 50, 50))], **ids), [])


def test_the_order_of_images_and_annotations_in_the_file_does_not_matter(tmp_path):
    path, results = random_scene(5, tmp_path / "a.json")
    expected = assert_scorers_agree(path, results)
    content = json.loads(path.read_text())
    content["images"].reverse()
    content["annotations"].sort(key=lambda a: -a["image_id"])
    path.write_text(json.dumps(content))
    assert_same_scores(assert_scorers_agree(path, results), expected)


def test_categories_of_one_name_keep_their_entries(tmp_path):
    categories = [{"id": 7, "name": "cell"}, {"id": 2, "name": "cell"}, {"id": 5, "name": "other"}]
    path = write(tmp_path / "a.json", [truth(1, 2, (0, 0, 50, 50))], categories=categories)
    scores = assert_scorers_agree(path, [found(1, 2, (0, 0, 50, 50), 0.9)])
    assert list(scores.per_category) == ["cell#7", "cell#2", "other"]
    assert scores.per_category["cell#7"] == scores.per_category["other"] == -1
    assert scores.per_category["cell#2"] == pytest.approx(1)


def test_pycocotools_is_used_when_hotcoco_is_missing(tmp_path, monkeypatch):
    path, results = random_scene(3, tmp_path / "a.json")
    expected = evaluate_coco(path, results, scorer="hotcoco")
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert_same_scores(evaluate_coco(path, results), expected)


def dense_scene(path, count=300):
    """Writes `count` boxes of one image and makes perfect detections with descending scores."""
    boxes = [(20 * (i % 30), 20 * (i // 30), 14, 14) for i in range(count)]
    write(path, [truth(1, 1, box, area=196) for box in boxes])
    return path, [found(1, 1, box, 1 - i / 1000) for i, box in enumerate(boxes)]


@pytest.mark.slow
@pytest.mark.parametrize("scorer", ["hotcoco", "pycocotools"])
def test_detections_beyond_coco_s_cap(tmp_path, scorer):
    path, results = dense_scene(tmp_path / "a.json")
    plain = evaluate_coco(path, results, scorer=scorer)
    scores = evaluate_coco(path, results, scorer=scorer, max_dets=300)
    assert scores.metrics["AP"] == scores.metrics["ARs"] == scores.metrics["AR300"] == 1
    assert scores.metrics["AR100"] == pytest.approx(1 / 3) == scores.at_100["AR100"]
    assert scores.per_category == {"c1": 1} and scores.numbers["AP@100"] == plain.metrics["AP"]
    assert scores.at_100 == plain.metrics and plain.at_100 is None
    assert plain.metrics["AP"] == pytest.approx(34 / 101)  # recall 0 .. 0.33 of 0 .. 1


@pytest.mark.slow
@pytest.mark.parametrize("scorer", ["hotcoco", "pycocotools"])
@pytest.mark.parametrize("cap", [1, 10, 50, 100, 1000])
def test_a_cap_keeps_the_best_detections(tmp_path, scorer, cap):
    path, results = dense_scene(tmp_path / "a.json")
    scores = evaluate_coco(path, results, scorer=scorer, max_dets=cap)
    best = evaluate_coco(path, results[:cap], scorer=scorer, max_dets=1000)
    for name in ("AP", "AP50", "AP75", "APs", "ARs"):
        assert scores.metrics[name] == best.metrics[name]
    assert scores.metrics[f"AR{cap}"] == best.metrics["AR1000"]


@pytest.mark.parametrize("seed", range(3))
def test_both_scorers_agree_beyond_the_cap(tmp_path, seed):
    path, results = random_scene(seed, tmp_path / "a.json")
    rust = evaluate_coco(path, results, scorer="hotcoco", max_dets=300)
    reference = evaluate_coco(path, results, scorer="pycocotools", max_dets=300)
    assert rust == reference
    assert rust.at_100 == evaluate_coco(path, results, scorer="hotcoco").metrics


def test_the_file_and_the_table_show_the_cap(tmp_path):
    path, results = dense_scene(tmp_path / "a.json")
    scores = evaluate_coco(path, results, max_dets=300)
    write_results(tmp_path, results, scores)
    content = json.loads((tmp_path / "coco_metrics.json").read_text())
    assert content["AP"] == 1 and content["max_dets"] == 300
    assert content["at_max_dets_100"] == evaluate_coco(path, results).metrics
    lines = scores.table().split("\n")
    assert lines[0].startswith("at most 300 detections") and lines[2].split()[0] == "1.000"
    assert lines[3].startswith("at most COCO's 100") and lines[5].split()[0] == "0.337"


def test_an_area_below_0_hides_no_object(tmp_path):
    """COCO's scores ignore objects whose area is in none of the ranges."""
    boxes = [(0, 0, 20, 20), (50, 0, 20, 20)]
    path = write(tmp_path / "a.json", [truth(1, 1, b, area=-1) for b in boxes])
    assert evaluate_coco(path, [found(1, 1, boxes[0], 0.9)]).metrics["AR100"] == 0.5


def test_written_files_can_be_read(tmp_path):
    path, results = random_scene(1, tmp_path / "a.json")
    scores = evaluate_coco(path, results)
    write_results(tmp_path / "out", results, scores)
    assert evaluate_coco(path, tmp_path / "out" / "bbox.json") == scores
    metrics = json.loads((tmp_path / "out" / "coco_metrics.json").read_text())
    assert tuple(metrics) == (*METRICS, "per_category")
    assert CocoScores(metrics, metrics.pop("per_category")) == scores
    write_results(tmp_path / "out", [], None)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["bbox.json"]


def test_table_is_aligned_and_complete():
    per_category = {f"category {'x' * (i % 9)}{i}": i / 100 for i in range(19)} | {"none": -1.0}
    table = CocoScores(dict.fromkeys(METRICS, 0.5) | {"APs": -1.0}, per_category).table(width=100)
    lines = io.StringIO(table).read().split("\n")
    assert all(len(line) <= 100 for line in lines)
    assert lines[0].split() == list(METRICS)
    assert lines[1].split() == ["0.500"] * 3 + ["-"] + ["0.500"] * 8
    assert all(name in table for name in per_category)
    assert len({len(line) for line in lines[3:-1]}) == 1
    assert table.count("0.07") == 1 and lines[-1].count("0.0") <= 4


def test_table_of_many_categories_shows_both_ends():
    """37 categories with an AP of 0.00 to 0.36, in a mixed order, and one without an object."""
    per_category = {f"c{i}": i / 100 for i in (*range(20, 37), *range(20))} | {"none": -1.0}
    table = CocoScores(dict.fromkeys(METRICS, 0.5), per_category).table()
    _, _, _, count, heading, *rows = table.split("\n")
    assert count == "38 categories, 1 without an object"
    assert heading.split() == ["highest", "AP", "lowest", "AP"]
    assert [row.split()[0] for row in rows] == [f"c{i}" for i in (36, 35, 34, 33, 32)]
    assert [row.split()[2:] for row in rows] == [[f"c{i}", f"0.0{i}0"] for i in (4, 3, 2, 1, 0)]


def test_table_of_many_categories_of_which_few_have_objects():
    per_category = {f"c{i}": -1.0 for i in range(30)} | {"cat": 0.5}
    table = CocoScores(dict.fromkeys(METRICS, 0.5), per_category).table()
    assert [line.split() for line in table.split("\n")[4:]] == [
        ["highest", "AP", "lowest", "AP"],
        ["cat", "0.500"],
    ]


@pytest.mark.parametrize("scorer", ["hotcoco", "pycocotools"])
def test_ids_below_zero_are_scored_like_others(tmp_path, scorer):
    boxes = ([10, 10, 30, 30], [60, 10, 30, 30])
    scores = []
    for images, categories in (((-7, 3), (-1, 5)), ((1, 2), (1, 2))):
        ids = [*zip(images, categories, strict=True)]
        annotations = [truth(i, c, box) for (i, c), box in zip(ids, boxes, strict=True)]
        path = write(tmp_path / "t.json", annotations, images, categories)
        results = [found(*ids[0], boxes[0], 0.9), found(*ids[0], [200, 10, 30, 30], 0.95)]
        scores.append(evaluate_coco(path, results, scorer=scorer).metrics)
    assert scores[0] == scores[1] and scores[0]["AP"] == pytest.approx(0.25)
