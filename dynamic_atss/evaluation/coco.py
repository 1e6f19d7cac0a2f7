"""Computes COCO box scores of detections and writes them to files."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynamic_atss.data.annotations import read_json
from dynamic_atss.errors import UserError
from dynamic_atss.evaluation.ground_truth import TruthTable, load_truth
from dynamic_atss.evaluation.results import Table, result_table
from dynamic_atss.evaluation.scores import COCO_CAPS, CocoScores, all_caps, scores_from_curves
from dynamic_atss.files import write_text

_log = logging.getLogger(__name__)

Curves = tuple[NDArray[np.float64], NDArray[np.float64]]
Scorer = Callable[[TruthTable, NDArray[np.float64], list[int], list[int], list[int]], Curves]


def evaluate_coco(
    annotations: str | Path | TruthTable,
    results: Sequence[Mapping[str, Any]] | Table | str | Path,
    *,
    scorer: str = "auto",
    image_ids: Iterable[int] | None = None,
    max_dets: int = COCO_CAPS[-1],
) -> CocoScores | None:
    """Computes the COCO box scores of results. Returns None if the ground truth is empty.

    Args:
        annotations: a COCO annotation file, or the `TruthTable` of one.
        results: dicts with image_id, category_id, bbox (x y w h in original pixels) and score, a
            table of them (`detection_table`), or their JSON file.
        scorer: "hotcoco", "pycocotools", or "auto", which is the first of them that is installed.
            pycocotools is the reference. Its numbers are the same, but it is much slower.
        image_ids: scores only these images.
        max_dets: number of detections per image and category that count. COCO's is 100. The numbers
            with 100 are always included.

    Raises:
        UserError: if a file is missing or malformed, or if results or image_ids name an image or
            category that the annotation file does not list.
    """
    truth = annotations if isinstance(annotations, TruthTable) else load_truth(annotations)
    if not len(truth):
        _log.warning("%s holds no annotations: nothing can be scored", truth.source)
        return None
    source = f"{results}" if isinstance(results, (str, Path)) else "results"
    rows = read_json(Path(results)) if isinstance(results, (str, Path)) else results
    table = result_table(rows, source)
    if not len(table):
        _log.warning("%s: no detections, so all scores are 0", source)
    known_images = [image["id"] for image in truth.images]
    chosen = sorted(set(known_images if image_ids is None else image_ids))
    category_ids = sorted(category["id"] for category in truth.categories)
    _require(chosen, known_images, f"image_ids: image %s is not in {truth.source}")
    _require(table[:, 0], known_images, f"{source}: image %s is not in {truth.source}")
    _require(table[:, 6], category_ids, f"{source}: category %s is not in {truth.source}")
    inputs = (truth, table, chosen, category_ids)
    if min([0, *known_images, *category_ids]) < 0:
        inputs = with_positive_ids(*inputs)
    curves = _scorer(scorer)(*inputs, all_caps(max_dets))
    return scores_from_curves(*curves, truth.categories, category_ids, max_dets)


def with_positive_ids(
    truth: TruthTable, table: NDArray[np.float64], image_ids: list[int], category_ids: list[int]
) -> tuple[TruthTable, NDArray[np.float64], list[int], list[int]]:
    """Replaces all ids of images and categories by 0, 1, ... in their order.

    hotcoco does not accept negative ids. Names of categories stay unchanged.
    """
    images = np.sort([image["id"] for image in truth.images])
    categories = np.array(category_ids)
    names = {category["id"]: category["name"] for category in truth.categories}
    renumbered = replace(
        truth,
        images=[{"id": i} for i in range(len(images))],
        categories=[{"id": i, "name": names[id]} for i, id in enumerate(category_ids)],
        image_ids=np.searchsorted(images, truth.image_ids),
        category_ids=np.searchsorted(categories, truth.category_ids),
    )
    table = table.copy()
    table[:, 0] = np.searchsorted(images, table[:, 0])
    table[:, 6] = np.searchsorted(categories, table[:, 6])
    chosen = np.searchsorted(images, image_ids).tolist()
    return renumbered, table, chosen, list(range(len(category_ids)))


def _require(used: Sequence[int] | NDArray[Any], known: Sequence[int], message: str) -> None:
    unknown = np.setdiff1d(used, known)
    if unknown.size:
        raise UserError(message % int(unknown[0]) + "; give the annotations of these results")


def _scorer(name: str) -> Scorer:
    scorers = {"hotcoco": _hotcoco_curves, "pycocotools": _pycocotools_curves}
    if name in scorers:
        return scorers[name]
    if name != "auto":
        raise UserError(f"scorer '{name}' is unknown; known: auto, {', '.join(scorers)}")
    installed = importlib.util.find_spec("hotcoco") is not None
    return scorers["hotcoco" if installed else "pycocotools"]


def _hotcoco_curves(
    truth: TruthTable,
    table: NDArray[np.float64],
    image_ids: list[int],
    category_ids: list[int],
    caps: list[int],
) -> Curves:
    """Computes precision (10, 101, K, 4, M) and recall (10, K, 4, M). They are -1 where undefined.

    The axes are 10 IoU thresholds, 101 recalls, K categories, 4 ranges of areas, M limits on the
    number of detections.
    """
    arrays = hotcoco_evaluation(truth, table, image_ids, category_ids, caps).eval
    return np.asarray(arrays["precision"]), np.asarray(arrays["recall"])


def hotcoco_evaluation(
    truth: TruthTable,
    table: NDArray[np.float64],
    image_ids: list[int],
    category_ids: list[int],
    caps: list[int],
) -> Any:
    """Runs hotcoco's COCOeval up to `accumulate`.

    Its detections and boxes have the ids 1, 2, ... in the order of the rows.
    """
    import hotcoco

    gt = hotcoco.COCO.from_arrays(
        truth.images,
        truth.categories,
        truth.image_ids,
        truth.category_ids,
        truth.boxes,
        area=truth.areas,
        iscrowd=truth.crowd,
    )
    evaluation = hotcoco.COCOeval(gt, gt.load_res(table), "bbox")
    evaluation.params.img_ids = image_ids
    evaluation.params.cat_ids = category_ids
    evaluation.params.max_dets = caps
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def _pycocotools_curves(
    truth: TruthTable,
    table: NDArray[np.float64],
    image_ids: list[int],
    category_ids: list[int],
    caps: list[int],
) -> Curves:
    """Computes the same as `_hotcoco_curves`, without the lines that pycocotools prints."""
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        areas = table[:, 3] * table[:, 4]
        no_crowd = np.zeros(len(table), np.bool_)
        columns = (table[:, 0].astype(np.int64), table[:, 6].astype(np.int64), table[:, 1:5])
        gt = _pycocotools_set(
            truth, (truth.image_ids, truth.category_ids, truth.boxes, truth.areas, truth.crowd)
        )
        found = _pycocotools_set(truth, (*columns, areas, no_crowd), table[:, 5])
        evaluation = COCOeval(gt, found, "bbox")
        evaluation.params.imgIds = image_ids
        evaluation.params.catIds = category_ids
        evaluation.params.maxDets = caps
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"], evaluation.eval["recall"]


def _pycocotools_set(
    truth: TruthTable, columns: tuple[NDArray[Any], ...], scores: NDArray[np.float64] | None = None
) -> Any:
    """Makes a pycocotools data set from columns.

    Its ids start at 1, because pycocotools counts an annotation with id 0 as unmatched.
    """
    from pycocotools.coco import COCO

    names = ("image_id", "category_id", "bbox", "area", "iscrowd")
    rows = zip(*(column.tolist() for column in columns), strict=True)
    annotations = [{"id": i, **dict(zip(names, row, strict=True))} for i, row in enumerate(rows, 1)]
    if scores is not None:
        for annotation, score in zip(annotations, scores.tolist(), strict=True):
            annotation["score"] = score
    data = COCO()
    data.dataset = {
        "images": truth.images,
        "categories": truth.categories,
        "annotations": annotations,
    }
    data.createIndex()
    return data


def write_results(
    folder: str | Path, results: Sequence[Mapping[str, Any]], scores: CocoScores | None
) -> None:
    """Writes `bbox.json` and the files of the scores into a folder. Creates it if it is missing.

    Each file is written completely or not at all. Without scores, the scores of an older run are
    removed, because they belong to other results.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "bbox.json", list(results), indent=None)
    write_scores(folder, scores)


def write_scores(folder: str | Path, scores: CocoScores | None) -> None:
    """Writes `coco_metrics.json` and `voc_metrics.json` into an existing folder.

    Removes the files for which there are no scores.
    """
    files = {"coco_metrics.json": scores, "voc_metrics.json": scores and scores.voc}
    for name, content in files.items():
        path = Path(folder) / name
        if content is None:
            path.unlink(missing_ok=True)
        else:
            _write_json(path, content.to_json(), indent=2)


def _write_json(path: Path, content: object, indent: int | None) -> None:
    write_text(path, json.dumps(content, indent=indent, allow_nan=False, ensure_ascii=False))
