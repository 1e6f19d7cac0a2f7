"""Runs the rules on the pictures and collects the data of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynamic_atss.assigners import recording
from dynamic_atss.data.dataset import DetectionDataset
from dynamic_atss.inspection.pack import Block
from dynamic_atss.inspection.pictures import Picture, as_jpegs, choose, load
from dynamic_atss.inspection.reasons import Reasons
from dynamic_atss.inspection.recorder import Answer, Record
from dynamic_atss.inspection.rules import RequestedRule, ShownRule, rule_inputs, shown_rules
from dynamic_atss.inspection.source import Source, network
from dynamic_atss.inspection.views import page_arrays, predicted
from dynamic_atss.modeling.coder import decode
from dynamic_atss.modeling.detector import Detector
from dynamic_atss.modeling.gather_targets import assign
from dynamic_atss.modeling.head import branches_of
from dynamic_atss.progress import progress
from dynamic_atss.scoring import classes_in_file
from dynamic_atss.types import Priors

MAX_PAIRS = 120_000  # in the page, of all boxes, rules and steps together
MIN_PER_BOX, MAX_PER_BOX = 12, 64  # pairs of one box in the page


@dataclass
class PictureData:
    """Holds the page's data of one picture.

    Attributes:
        picture: the picture.
        block: the bytes of all arrays.
        views: for each rule and each step, the places of its arrays in the block, and those of
            the shown priors and their predicted boxes.
        priors: those of the last step.
    """

    picture: Picture
    block: Block = field(default_factory=Block)
    views: list[list[dict[str, Any]]] = field(default_factory=list)
    priors: Priors | None = None

    def add(self, answers: Sequence[Answer], reasons: Reasons, most: int) -> None:
        """Adds one step: the answers of all rules."""
        self.priors = answers[0].priors
        self.views = self.views or [[] for _ in answers]
        by_rule = [page_arrays(answer, reasons, most) for answer in answers]
        names = ("pair_prior", "positive_prior")
        priors = [shown.arrays[name] for shown in by_rule for name in names]
        prior = np.unique(np.concatenate(priors))
        for answer, shown, views in zip(answers, by_rule, self.views, strict=True):
            boxes = {"prior": prior, "box": predicted(answer, prior)}  # rules may read two branches
            views.append(
                {
                    "arrays": self._placed(shown.arrays),
                    "values": shown.values,
                    "predicted": self._placed(boxes),
                }
            )

    def _placed(self, arrays: dict[str, Any]) -> dict[str, Any]:
        return {name: self.block.add(values) for name, values in arrays.items()}


@torch.no_grad()
def page_data(
    source: Source,
    dataset: DetectionDataset,
    rules: Sequence[RequestedRule] = (),
    *,
    count: int = 6,
    only: Sequence[str] = (),
    averaged: bool = False,
) -> dict[str, Any]:
    """Collects the data that `page` shows.

    Args:
        rules: see `shown_rules`.
        count, only: see `choose`.
        averaged: see `network`.

    Raises:
        UserError: weights, rules or pictures cannot be read, or do not fit together.
    """
    names = _class_names(source, dataset)
    pictures = [load(source.cfg, dataset, place) for place in choose(dataset, count, only)]
    gathered = [PictureData(picture) for picture in pictures]
    reasons, steps = Reasons(), []
    described: list[dict[str, Any]] = []
    dynamic: dict[int, bool] = {}  # by place of the rule; empty if no picture has boxes
    for step in progress(source.steps, "checkpoints"):
        model, weights = network(source.cfg, step, names, averaged=averaged)
        steps.append({"name": step.name, "iteration": step.iteration, "weights": weights})
        shown = shown_rules(source.cfg, model, rules)
        most = _pairs_of_a_box(pictures, len(shown) * len(source.steps))
        iteration = source.cfg.SOLVER.MAX_ITER if step.iteration is None else step.iteration
        for data in gathered:
            answers = _answers(model, data.picture, shown, iteration)
            data.add(answers, reasons, most)
            described = described or [_rule(*pair) for pair in zip(shown, answers, strict=True)]
            if data.picture.batch.gt.object_count:
                dynamic = {
                    place: dynamic.get(place, False) or reads_predictions(answer)
                    for place, answer in enumerate(answers)
                }
    for place, rule in enumerate(described):
        rule["dynamic"] = dynamic.get(place)
    return {
        "title": f"Assignment: {', '.join(rule['name'] for rule in described)}",
        "steps": steps,
        "rules": described,
        "classes": list(names),
        "reasons": reasons.texts,
        "data": "/".join(Path(dataset.annotations).parts[-3:]),
        "pictures": [
            _picture(data, jpeg) for data, jpeg in zip(gathered, as_jpegs(pictures), strict=True)
        ],
    }


def _class_names(source: Source, dataset: DetectionDataset) -> list[str]:
    """Gives the network's classes in its order, and sets the data set to that order."""
    file = source.steps[-1].file
    names = classes_in_file(file, [dataset]) if file else list(dataset.class_names)
    dataset.take_classes(names)
    return names


def _pairs_of_a_box(pictures: Sequence[Picture], views: int) -> int:
    boxes = sum(picture.batch.gt.object_count for picture in pictures)
    return max(MIN_PER_BOX, min(MAX_PER_BOX, MAX_PAIRS // max(boxes * views, 1)))


def _answers(
    model: Detector, picture: Picture, shown: Sequence[ShownRule], iteration: int
) -> list[Answer]:
    """Runs the network on the picture and gives the answer of each rule."""
    batch = picture.batch
    output = model.head(model.backbone(model.normalize(batch.images, batch.sizes)))
    priors = model.priors(branches_of(model.head, output)[0].sizes, batch.images.device)
    return [_answer(model, rule, output, priors, picture, iteration) for rule in shown]


def _answer(
    model: Detector, shown: ShownRule, output: Any, priors: Priors, picture: Picture, iteration: int
) -> Answer:
    rule, read, coder = rule_inputs(model, shown, output)
    boxes = decode(coder, read.deltas, priors.boxes)
    record = Record()
    with recording.record_with(record, eager=True):
        assign(rule, read, boxes, priors, picture.batch.gt, iteration)
    return record.answers[0]


def _rule(shown: ShownRule, answer: Answer) -> dict[str, Any]:
    rule, wrappers = answer.rule, []
    while hasattr(rule, "rule") and answer.inner:
        wrappers.append(type(rule).__name__)
        rule, answer = answer.inner[0].rule, answer.inner[0]
    return {
        "name": shown.name,
        "class": type(rule).__name__,
        "wrappers": wrappers,
        "quality": rule.quality_name,
        "of_network": shown.of_network,
    }


def reads_predictions(answer: Answer) -> bool:
    """Returns True if the assignment of the innermost rule depends on the predictions.

    Calls the rule again with the predictions of other priors and compares the assignments.
    """
    while answer.inner and hasattr(answer.rule, "rule"):
        answer = answer.inner[0]
    seen = answer.predictions
    half = len(answer.priors) // 2
    others = replace(seen, boxes=seen.boxes.roll(half, 1), logits=seen.logits.roll(half, 1))
    if seen.quality is not None:
        others = replace(others, quality=seen.quality.roll(half, 1))
    again = answer.rule(answer.priors, answer.gt.objects, others)
    before, after = _tensors(answer.found), _tensors(again)
    return not all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def _tensors(found: Any) -> list[Tensor]:
    values = (found.gt_index, found.quality, found.weight, found.negative, found.divisors)
    return [x.detach() for x in values if x is not None]


def _picture(data: PictureData, jpeg: str) -> dict[str, Any]:
    batch, priors = data.picture.batch, data.priors
    assert priors is not None
    height, width = batch.sizes[0].tolist()
    gt, regions = batch.gt.objects, batch.gt.regions
    return {
        "name": data.picture.name,
        "id": batch.image_ids[0],
        "width": width,
        "height": height,
        "boxes": _rounded(gt.boxes),
        "labels": gt.classes.tolist(),
        "regions": _rounded(regions.boxes),
        "levels": [[x.stride, x.width, x.height] for x in priors.levels],
        "anchors": _anchors(priors),
        "offset": priors.offset,
        "jpeg": jpeg,
        "views": data.views,
        "block": data.block.text(),
    }


def _anchors(priors: Priors) -> list[list[list[float]]]:
    """Gives for each level the boxes of one location's priors, relative to that location."""
    first, found = 0, []
    for level in priors.levels:
        here = slice(first, first + priors.per_location)
        corner = priors.offset * level.stride
        found.append(_rounded(priors.boxes[here] - corner))
        first += level.locations * priors.per_location
    return found


def _rounded(boxes: Tensor) -> list[list[float]]:
    return [[round(x, 2) for x in box] for box in boxes.tolist()]
