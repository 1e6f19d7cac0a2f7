"""From weights, rules and pictures to what the page shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynamic_atss.assigners import notes
from dynamic_atss.data.dataset import DetectionDataset
from dynamic_atss.inspection.pack import Block
from dynamic_atss.inspection.pictures import Picture, as_jpegs, choose, load
from dynamic_atss.inspection.reasons import Reasons
from dynamic_atss.inspection.recorder import Answer, Record
from dynamic_atss.inspection.rules import Asked, Shown, asked_of, shown_rules
from dynamic_atss.inspection.source import Source, network
from dynamic_atss.inspection.views import predicted, view
from dynamic_atss.modeling.coder import decode
from dynamic_atss.modeling.detector import Detector
from dynamic_atss.modeling.head import branches_of
from dynamic_atss.modeling.matching import assign
from dynamic_atss.progress import progress
from dynamic_atss.scoring import classes_in_file
from dynamic_atss.types import Priors

PAIRS = 120_000  # kept in the page, of all boxes, rules and steps together
FEWEST, MOST = 12, 64  # of a box


@dataclass
class Gathered:
    """What is known of one picture.

    block: all arrays · views: for each rule, for each step, where its arrays lie, and those of the
    priors that are looked at with the boxes that they predict
    """

    picture: Picture
    block: Block = field(default_factory=Block)
    views: list[list[dict[str, Any]]] = field(default_factory=list)
    priors: Priors | None = None

    def add(self, answers: Sequence[Answer], reasons: Reasons, most: int) -> None:
        """One step: the answers of all rules."""
        self.priors = answers[0].priors
        self.views = self.views or [[] for _ in answers]
        seen = [view(answer, reasons, most) for answer in answers]
        priors = [one.arrays[name] for one in seen for name in ("pair_prior", "positive_prior")]
        prior = np.unique(np.concatenate(priors))
        for answer, one, views in zip(answers, seen, self.views, strict=True):
            boxes = {"prior": prior, "box": predicted(answer, prior)}  # of the rule's own branch
            views.append(
                {
                    "arrays": self._placed(one.arrays),
                    "values": one.values,
                    "predicted": self._placed(boxes),
                }
            )

    def _placed(self, arrays: dict[str, Any]) -> dict[str, Any]:
        return {name: self.block.add(values) for name, values in arrays.items()}


@torch.no_grad()
def collected(
    source: Source,
    dataset: DetectionDataset,
    rules: Sequence[Asked] = (),
    *,
    count: int = 6,
    only: Sequence[str] = (),
    averaged: bool = False,
) -> dict[str, Any]:
    """What `page` shows.

    Args:
        rules: see `shown_rules`.
        count, only: see `choose`.
        averaged: see `network`.

    Raises:
        UserError: something does not fit, or cannot be read.
    """
    names = _class_names(source, dataset)
    pictures = [load(source.cfg, dataset, place) for place in choose(dataset, count, only)]
    gathered = [Gathered(picture) for picture in pictures]
    reasons, steps = Reasons(), []
    told: list[dict[str, Any]] = []
    for step in progress(source.steps, "checkpoints"):
        model, what = network(source.cfg, step, names, averaged=averaged)
        steps.append({"name": step.name, "iteration": step.iteration, "weights": what})
        shown = shown_rules(source.cfg, model, rules)
        most = _pairs_of_a_box(pictures, len(shown) * len(source.steps))
        at = source.cfg.SOLVER.MAX_ITER if step.iteration is None else step.iteration
        for one in gathered:
            answers = _answers(model, one.picture, shown, at)
            one.add(answers, reasons, most)
            if one.picture.batch.gt.object_count or not told:
                told = [_rule(*pair) for pair in zip(shown, answers, strict=True)]
    return {
        "title": f"Assignment: {', '.join(rule['name'] for rule in told)}",
        "steps": steps,
        "rules": told,
        "classes": list(names),
        "reasons": reasons.texts,
        "data": "/".join(Path(dataset.annotations).parts[-3:]),
        "pictures": [
            _picture(one, jpeg) for one, jpeg in zip(gathered, as_jpegs(pictures), strict=True)
        ],
    }


def _class_names(source: Source, dataset: DetectionDataset) -> list[str]:
    """The network's, in its order; the data set takes that order, too."""
    file = source.steps[-1].file
    names = classes_in_file(file, [dataset]) if file else list(dataset.class_names)
    dataset.take_classes(names)
    return names


def _pairs_of_a_box(pictures: Sequence[Picture], views: int) -> int:
    boxes = sum(picture.batch.gt.object_count for picture in pictures)
    return max(FEWEST, min(MOST, PAIRS // max(boxes * views, 1)))


def _answers(
    model: Detector, picture: Picture, shown: Sequence[Shown], iteration: int
) -> list[Answer]:
    """Of each rule, to what the network predicts for the picture."""
    batch = picture.batch
    output = model.head(model.backbone(model.normalize(batch.images, batch.sizes)))
    priors = model.priors(branches_of(model.head, output)[0].sizes, batch.images.device)
    return [_answer(model, one, output, priors, picture, iteration) for one in shown]


def _answer(
    model: Detector, shown: Shown, output: Any, priors: Priors, picture: Picture, iteration: int
) -> Answer:
    rule, read, coder = asked_of(model, shown, output)
    boxes = decode(coder, read.deltas, priors.boxes)
    record = Record()
    with notes.recording(record):
        assign(rule, read, boxes, priors, picture.batch.gt, iteration)
    return record.answers[0]


def _rule(shown: Shown, answer: Answer) -> dict[str, Any]:
    rule, around = answer.rule, []
    while hasattr(rule, "rule") and answer.inner:
        around.append(type(rule).__name__)
        rule, answer = answer.inner[0].rule, answer.inner[0]
    return {
        "name": shown.name,
        "class": type(rule).__name__,
        "around": around,
        "quality": rule.quality_name,
        "own": shown.own,
        "dynamic": reads_predictions(answer),
    }


def reads_predictions(answer: Answer) -> bool:
    """Whether the rule's answer or one of its scores depends on the predictions: it is asked once
    more, with those of other priors."""
    seen = answer.predictions
    half = len(answer.priors) // 2
    others = replace(seen, boxes=seen.boxes.roll(half, 1), logits=seen.logits.roll(half, 1))
    if seen.quality is not None:
        others = replace(others, quality=seen.quality.roll(half, 1))
    again = answer.rule(answer.priors, answer.gt.objects, others)
    mine, its = (_numbers(found) for found in (answer.found, again))
    return not all(torch.equal(a, b) for a, b in zip(mine, its, strict=True))


def _numbers(found: Any) -> list[Tensor]:
    values = (found.gt_index, found.quality, found.weight, found.negative)
    return [x.detach() for x in values if x is not None]


def _picture(one: Gathered, jpeg: str) -> dict[str, Any]:
    batch, priors = one.picture.batch, one.priors
    assert priors is not None
    height, width = batch.sizes[0].tolist()
    gt, regions = batch.gt.objects, batch.gt.regions
    return {
        "name": one.picture.name,
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
        "views": one.views,
        "block": one.block.text(),
    }


def _anchors(priors: Priors) -> list[list[list[float]]]:
    """By level, the boxes of the priors of a location, from the location on."""
    first, found = 0, []
    for level in priors.levels:
        here = slice(first, first + priors.per_location)
        corner = priors.offset * level.stride
        found.append(_rounded(priors.boxes[here] - corner))
        first += level.locations * priors.per_location
    return found


def _rounded(boxes: Tensor) -> list[list[float]]:
    return [[round(x, 2) for x in box] for box in boxes.tolist()]
