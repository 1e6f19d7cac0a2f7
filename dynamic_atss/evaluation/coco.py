"""COCO box evaluation: detections -> COCO results -> scores -> files."""

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
    """COCO box scores of results against an annotation file, or what was read of one; None if it
    holds no annotation.

    results: dicts with image_id, category_id, bbox (x y w h in original pixels) and score, the
    table of such (`detection_table`), or their JSON file · scorer: "hotcoco", "pycocotools" (the
    reference, whose numbers hotcoco gives in the tests; much slower), or "auto", the first of them
    that is installed · image_ids: score these images only · max_dets: so many detections of an
    image and a category count; COCO's numbers come with 100, and beside any other

    Raises:
        UserError: a file is missing or malformed; results or image_ids name an image or category
            that the annotation file does not list.
    """
    truth = annotations if isinstance(annotations, TruthTable) else load_truth(annotations)
    if not len(truth):
        _log.warning("%s holds no annotations: there is nothing to score against", truth.source)
        return None
    source = f"{results}" if isinstance(results, (str, Path)) else "results"
    rows = read_json(Path(results)) if isinstance(results, (str, Path)) else results
    table = result_table(rows, source)
    if not len(table):
        _log.warning("%s: no detections at all, so every score is 0", source)
    known_images = [image["id"] for image in truth.images]
    chosen = sorted(set(known_images if image_ids is None else image_ids))
    category_ids = sorted(category["id"] for category in truth.categories)
    _require(chosen, known_images, f"image_ids: image %s is not in {truth.source}")
    _require(table[:, 0], known_images, f"{source}: image %s is not in {truth.source}")
    _require(table[:, 6], category_ids, f"{source}: category %s is not in {truth.source}")
    inputs = (truth, table, chosen, category_ids)
    if min([0, *known_images, *category_ids]) < 0:
        inputs = numbered(*inputs)
    curves = _scorer(scorer)(*inputs, all_caps(max_dets))
    return scores_from_curves(*curves, truth.categories, category_ids, max_dets)


def numbered(
    truth: TruthTable, table: NDArray[np.float64], image_ids: list[int], category_ids: list[int]
) -> tuple[TruthTable, NDArray[np.float64], list[int], list[int]]:
    """The same with places in the order of the ids for ids: hotcoco takes no negative ones. Names
    of categories stay."""
    images = np.sort([image["id"] for image in truth.images])
    categories = np.array(category_ids)
    names = {category["id"]: category["name"] for category in truth.categories}
    numbered = replace(
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
    return numbered, table, chosen, list(range(len(category_ids)))


def _require(used: Sequence[int] | NDArray[Any], known: Sequence[int], message: str) -> None:
    strange = np.setdiff1d(used, known)
    if strange.size:
        raise UserError(message % int(strange[0]) + "; are these the annotations of these results?")


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
    """Precision (10, 101, K, 4, caps) and recall (10, K, 4, caps), -1 where undefined."""
    arrays = hotcoco_evaluation(truth, table, image_ids, category_ids, caps).eval
    return np.asarray(arrays["precision"]), np.asarray(arrays["recall"])


def hotcoco_evaluation(
    truth: TruthTable,
    table: NDArray[np.float64],
    image_ids: list[int],
    category_ids: list[int],
    caps: list[int],
) -> Any:
    """hotcoco's COCOeval, accumulated. Detections and boxes have the ids 1, 2, ... there, in the
    order of their rows."""
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
    """As `_hotcoco_curves`; pycocotools reports every step on stdout, which is swallowed here."""
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        areas = table[:, 3] * table[:, 4]
        plain = np.zeros(len(table), np.bool_)
        columns = (table[:, 0].astype(np.int64), table[:, 6].astype(np.int64), table[:, 1:5])
        gt = _pycocotools_set(
            truth, (truth.image_ids, truth.category_ids, truth.boxes, truth.areas, truth.crowd)
        )
        found = _pycocotools_set(truth, (*columns, areas, plain), table[:, 5])
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
    """A pycocotools data set of columns. Ids count from 1: an annotation with id 0 counts as
    unmatched there, whatever matches it."""
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
    """Write `bbox.json` and the scores' files into a folder, which is made if need be.

    Each file appears whole or not at all. Without scores those of an older run are removed: they
    would speak of other results than the file beside them.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "bbox.json", list(results), indent=None)
    write_scores(folder, scores)


def write_scores(folder: str | Path, scores: CocoScores | None) -> None:
    """Write (or, without scores, remove) `coco_metrics.json` and `voc_metrics.json` in a folder
    that is there."""
    files = {"coco_metrics.json": scores, "voc_metrics.json": scores and scores.voc}
    for name, content in files.items():
        path = Path(folder) / name
        if content is None:
            path.unlink(missing_ok=True)
        else:
            _write_json(path, content.to_json(), indent=2)


def _write_json(path: Path, content: object, indent: int | None) -> None:
    write_text(path, json.dumps(content, indent=indent, allow_nan=False, ensure_ascii=False))
