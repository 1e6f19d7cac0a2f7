"""Runs a model over a data set, on one process or several, and scores it."""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from dynamic_atss.data.annotations import Annotations
from dynamic_atss.engine import distributed
from dynamic_atss.engine.log_lines import rate
from dynamic_atss.engine.memory import naming_batch
from dynamic_atss.evaluation.coco import write_scores
from dynamic_atss.evaluation.detection_table import detection_table
from dynamic_atss.evaluation.ground_truth import TruthTable, truth_table
from dynamic_atss.evaluation.results import Table
from dynamic_atss.evaluation.scores import UNDEFINED, CocoScores
from dynamic_atss.evaluation.scoring_task import ScoringTask
from dynamic_atss.progress import progress
from dynamic_atss.types import Batch, Detections, to_device

_log = logging.getLogger(__name__)
_ALMOST_ZERO = 0.0005  # an AP below it is printed as 0.000

Causes = Callable[[TruthTable, Table], Sequence[str]]


class ScoredDataset(Protocol):
    """Describes the part of a data set that `evaluate_dataset` uses.

    Attributes:
        annotations: the annotation file, for messages.
        category_ids: the COCO id of each class; None for a class that the set lacks.
        class_names: the name of each class.
        image_ids: the images that must be tested.
        voc_scores: True computes VOC's scores, too.
        content: the annotations as they were read.
    """

    annotations: str | Path
    category_ids: Sequence[int | None]
    class_names: Sequence[str]
    image_ids: Sequence[int]
    voc_scores: bool
    content: Annotations


def run_detection(
    model: nn.Module,
    loader: Iterable[Batch],
    device: torch.device | str,
    *,
    category_ids: Sequence[int | None],
    image_ids: Iterable[int] | None = None,
    rank: int = 0,
    world_size: int = 1,
    progress_label: str = "inference",
) -> Table:
    """Detects in all images of the loader, and gives a table (`evaluation.results`) by image id.

    Rank 0 gets the detections of all ranks, the others an empty table. `model(batch)` gives one
    `Detections` per image, in pixels of the resized image. The training modes of its modules are
    restored.

    Args:
        category_ids: the COCO id of each class; detections of a class with None are dropped.
        image_ids: the images that the ranks together must test, each once. None: only repeated
            images are checked.

    Raises:
        RuntimeError: on all ranks, if an image was tested twice, was missed or was unexpected.
    """
    # DDP's forward pass exchanges buffers, but the ranks have different numbers of batches.
    plain = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
    seen: list[int] = []
    tables: list[Table] = []
    total = len(loader) if isinstance(loader, Sized) else None
    with evaluation_mode(plain), torch.inference_mode():
        for batch in progress(loader, progress_label, total, rank=rank):
            with naming_batch(batch, progress_label):
                detections = plain(to_device(batch, device))
            seen += batch.image_ids
            tables.append(_batch_table(batch, detections, category_ids))
    distributed.long_timeout_barrier()  # one process may have slower images
    _check_images(list(itertools.chain(*distributed.gather(seen))), image_ids)
    table = _gather_on_first(_joined(tables), rank, world_size)
    return table[table[:, 0].argsort(kind="stable")]


def detect_dataset(
    model: nn.Module,
    loader: Iterable[Batch],
    device: torch.device | str,
    *,
    dataset: ScoredDataset,
    output_dir: str | Path | None = None,
    max_dets: int = 100,
    rank: int = 0,
    world_size: int = 1,
    progress_label: str = "inference",
) -> ScoringTask | None:
    """Runs the model over a data set, and gives what has to be scored. None on other ranks than 0.

    Args:
        output_dir: `ScoringTask.run` writes `bbox.json` there.
        max_dets: the number of detections for each image and category that are scored.

    Raises:
        RuntimeError: as `run_detection`.
    """
    begin = time.perf_counter()
    table = run_detection(
        model,
        loader,
        device,
        category_ids=dataset.category_ids,
        image_ids=dataset.image_ids,
        rank=rank,
        world_size=world_size,
        progress_label=progress_label,
    )
    if rank != 0:
        return None
    images, seconds = len(dataset.image_ids), time.perf_counter() - begin
    _log.info(
        "%s: %d images in %.1f s (%s images/s), %d detections",
        progress_label,
        images,
        seconds,
        rate(images / seconds),
        len(table),
    )
    folder = None if output_dir is None else Path(output_dir)
    return scoring_task(dataset, table, max_dets, folder)


def evaluate_dataset(
    model: nn.Module,
    loader: Iterable[Batch],
    device: torch.device | str,
    *,
    dataset: ScoredDataset,
    explain: Causes | None = None,
    **options: Any,
) -> CocoScores | None:
    """Runs the model over a data set and scores it.

    Returns None on ranks other than 0, and if the annotation file has no boxes.

    Args:
        explain: gives likely causes, a line each, if almost nothing is detected.
        options: as for `detect_dataset`. Rank 0 writes `bbox.json`, `coco_metrics.json` and
            `voc_metrics.json` to `output_dir`.

    Raises:
        RuntimeError, UserError: as `run_detection` and `evaluate_coco`.
    """
    task = detect_dataset(model, loader, device, dataset=dataset, **options)
    if task is None:
        return None
    scores = task.run()
    report_scores(task, scores, explain)
    return scores


def report_scores(task: ScoringTask, scores: CocoScores | None, explain: Causes | None) -> None:
    """Logs scores, writes them to the folder of the task, and logs causes of an AP of almost 0.

    Raises:
        UserError: a file cannot be written.
    """
    if scores is None:
        return
    _log_scores(task, scores)
    if task.folder is not None:
        write_scores(task.folder, scores)
    if explain is not None and 0 <= scores.metrics["AP"] < _ALMOST_ZERO:
        _log_causes(len(task.table), explain(task.truth, task.table))


def _log_causes(detections: int, causes: Sequence[str]) -> None:
    _log.warning(
        "almost nothing is found: %d detections, AP below %g. Likely causes, as measured:%s",
        detections,
        _ALMOST_ZERO,
        "".join(f"\n- {cause}" for cause in causes or ("none is evident: train longer",)),
    )


def defined_numbers(dataset: ScoredDataset) -> list[str]:
    """Names the scores that are defined for a data set, which depends only on its boxes."""
    truth = truth_table(dataset.content, str(dataset.annotations))
    if not len(truth):
        return []
    one_detection = np.array([[truth.image_ids[0], *truth.boxes[0], 1.0, truth.category_ids[0]]])
    scores = scoring_task(dataset, one_detection, max_dets=100).scores()
    return [n for n, value in scores.numbers.items() if value != UNDEFINED] if scores else []


def scoring_task(
    dataset: ScoredDataset, table: Table, max_dets: int, folder: Path | None = None
) -> ScoringTask:
    """Combines the detections of a data set with its ground truth. See `ScoringTask`."""
    truth = truth_table(dataset.content, str(dataset.annotations))
    images = [int(i) for i in dataset.image_ids]
    return ScoringTask(truth, table, images, max_dets, dataset.voc_scores, folder)


def _log_scores(task: ScoringTask, scores: CocoScores) -> None:
    """Logs the tables of scores, and the files that have the scores of all classes."""
    tables = {"COCO": scores.table(), "VOC": scores.voc.table() if scores.voc else ""}
    for name, table in tables.items():
        file = f", in {task.folder / f'{name.lower()}_metrics.json'}" if task.folder else ""
        if table:
            _log.info("%s box scores of %s%s\n%s", name, task.truth.source, file, table)


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Sets `model.eval()` for the block, and then restores the mode of each module.

    One `model.train()` would be wrong, because frozen parts stay in evaluation mode.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _batch_table(
    batch: Batch, detections: Sequence[Detections], category_ids: Sequence[int | None]
) -> Table:
    ids = batch.image_ids
    return detection_table(
        dict(zip(ids, detections, strict=True)),
        sizes=dict(zip(ids, map(tuple, batch.sizes.tolist()), strict=True)),
        original_sizes=dict(zip(ids, batch.original_sizes, strict=True)),
        category_ids=category_ids,
    )


def _joined(tables: Sequence[Table]) -> Table:
    return np.concatenate([np.zeros((0, 7)), *tables])


def _gather_on_first(table: Table, rank: int, world_size: int) -> Table:
    """Gathers the rows of all ranks on rank 0, which scores them; the others get no rows."""
    if world_size == 1:
        return table
    parts: list[Any] | None = [None] * world_size if rank == 0 else None
    dist.gather_object(table, parts, dst=0)
    return _joined(parts or [])


def _check_images(seen: Sequence[int], expected: Iterable[int] | None) -> None:
    """Raises RuntimeError if images are repeated, missing or unexpected.

    All ranks check the same list, so that all stop together.
    """
    repeated = [i for i, times in Counter(seen).items() if times > 1]
    wanted = set(seen) if expected is None else set(expected)
    faults = {"twice": repeated, "not": wanted - set(seen), "unexpectedly": set(seen) - wanted}
    texts = [f"{len(ids)} images {how} seen: {_first(ids)}" for how, ids in faults.items() if ids]
    if texts:
        raise RuntimeError(f"inference: {'; '.join(texts)}; check the sampler of the test loader")


def _first(ids: Iterable[int], most: int = 10) -> str:
    ordered = sorted(ids)
    return ", ".join(map(str, ordered[:most])) + (", ..." if len(ordered) > most else "")
