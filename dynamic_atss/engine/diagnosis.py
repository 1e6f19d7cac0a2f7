"""Measures why a test detects almost nothing, and gives a line for each likely cause."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any

import torch

from dynamic_atss.data.loader import Loader
from dynamic_atss.engine.evaluator import evaluation_mode
from dynamic_atss.engine.weight_average import distance
from dynamic_atss.evaluation.ground_truth import TruthTable
from dynamic_atss.evaluation.overlaps import why_no_match
from dynamic_atss.evaluation.results import Table
from dynamic_atss.modeling.detector import Detector
from dynamic_atss.modeling.postprocess import PostProcess
from dynamic_atss.types import Batch, to_device

Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class LowScoreCauses:
    """Holds the data in which causes are searched, in addition to the detections.

    Attributes:
        model: the detector.
        threshold_key: the key of its score threshold.
        history: gives, only when it is needed, the detector with the trained weights if `model` has
            averaged ones (else None), and the records of the log.
    """

    model: Detector
    threshold_key: str
    history: Callable[[], tuple[Detector | None, Records]]

    def causes(self, truth: TruthTable, table: Table, loader: Loader) -> list[str]:
        """Gives a line for each cause that the measured numbers support.

        Args:
            truth: the ground-truth boxes.
            table: the detections.
            loader: loads the tested images; the first batch is tested again.
        """
        trained, records = self.history()
        batch = next(iter(loader))
        score = largest_score(self.model, batch)
        seen = f"on the first {len(batch.image_ids)} images"
        if trained is not None and (other := largest_score(trained, batch)) > 2 * score:
            # A large distance alone means nothing: 3 % is usual while the learning rate is high.
            return [
                f"the test uses the averaged weights, which still lag behind: their largest class "
                f"score is {score:.4f}, that of the trained weights is {other:.4f} ({seen}, "
                f"distance {distance(self.model, trained):.1%} of the norm): set SOLVER.EMA_RAMP "
                "True, or SOLVER.EMA_DECAY 0"
            ]
        lines = [self._scores(score, seen), why_no_match(truth, table), *_training(records)]
        return [line for line in lines if line]

    def _scores(self, score: float, seen: str) -> str | None:
        """Gives a line if the largest class score is NaN or below the threshold."""
        least = getattr(self.model.postprocess, "score_threshold", 0.0)
        if math.isnan(score):
            return f"class scores are not numbers (NaN, {seen}): the weights are broken"
        if score > least:
            return None
        return (
            f"no class score is above {self.threshold_key} {least}; the largest is {score:.4f} "
            f"({seen})"
        )


@torch.inference_mode()
def largest_score(model: Detector, batch: Batch) -> float:
    """Gives the largest class score of a batch; NaN if any score is NaN.

    Gives infinity for another kind of post-processing, whose scores may have another meaning.
    """
    if not isinstance(model.postprocess, PostProcess):
        return math.inf
    outputs: list[Any] = []
    hook = model.head.register_forward_hook(lambda *call: outputs.append(call[-1]))
    try:
        with evaluation_mode(model):
            model(to_device(batch, next(model.parameters()).device))
    finally:
        hook.remove()
    output = model.postprocess.output(outputs[0])
    return float(output.logits.float().sigmoid().max())


def _training(records: Records) -> Iterator[str]:
    """Gives lines if the learning rate still rises, or if the loss does not fall or still falls."""
    lines = [r for r in records if r.get("loss") is not None and "lr" in r]
    if len(lines) < 2:
        return
    quarter = max(1, len(lines) // 4)
    first, before, last = (
        fmean(line["loss"] for line in section)
        for section in (lines[:quarter], lines[-2 * quarter : -quarter], lines[-quarter:])
    )
    end, rate = lines[-1]["iteration"], lines[-1]["lr"]
    if all(a["lr"] < b["lr"] for a, b in pairwise(lines)):
        yield (
            f"the learning rate still rises at iteration {end} (to {rate:.2g}): that is within "
            "SOLVER.WARMUP_ITERS; shorten it, or train longer"
        )
    if last > 0.98 * first:
        yield (
            f"the loss has {'risen' if last > first else 'hardly fallen'} up to iteration {end} "
            f"(from {first:.4g} to {last:.4g}, learning rate now {rate:.2g}): train longer, or try "
            "another SOLVER.BASE_LR"
        )
    elif last < 0.95 * before:
        yield (
            f"the loss still falls at iteration {end} (from {before:.4g} to {last:.4g}): train "
            "longer (SOLVER.MAX_ITER)"
        )
