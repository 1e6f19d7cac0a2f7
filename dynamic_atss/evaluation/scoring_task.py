"""Holds what the scores of a test are computed from, so that any process can compute them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dynamic_atss.evaluation.coco import evaluate_coco, write_results
from dynamic_atss.evaluation.ground_truth import TruthTable
from dynamic_atss.evaluation.results import Table, as_results
from dynamic_atss.evaluation.scores import COCO_CAPS, CocoScores
from dynamic_atss.evaluation.voc import evaluate_voc


@dataclass(frozen=True)
class ScoringTask:
    """Holds the detections of a test set and its ground truth. It can be pickled.

    Attributes:
        truth: the ground truth.
        table: (D, 7) the detections, see `evaluation.results`.
        image_ids: the images that were tested.
        max_dets: the number of detections for each image and category that are scored.
        voc: True computes PASCAL VOC's scores, too.
        folder: gets `bbox.json`; None: nothing is written.
    """

    truth: TruthTable
    table: Table
    image_ids: Sequence[int]
    max_dets: int = COCO_CAPS[-1]
    voc: bool = False
    folder: Path | None = None

    def run(self) -> CocoScores | None:
        """Writes the detections, then computes the scores.

        An error in the scoring does not lose the detections. Scores of an older test in the folder
        are removed, because they belong to other detections.

        Returns None if the data set has no boxes.

        Raises:
            UserError: a file cannot be written, or as `evaluate_coco`.
        """
        if self.folder is not None:
            write_results(self.folder, as_results(self.table), None)
        return self.scores()

    def scores(self) -> CocoScores | None:
        """Computes COCO's scores, and VOC's if they are asked for. Writes nothing.

        Returns None if the data set has no boxes.

        Raises:
            UserError: as `evaluate_coco`.
        """
        coco = evaluate_coco(
            self.truth, self.table, image_ids=self.image_ids, max_dets=self.max_dets
        )
        if coco is None or not self.voc:
            return coco
        return replace(coco, voc=evaluate_voc(self.truth, self.table))
