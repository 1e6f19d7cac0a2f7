"""From weights, rules and pictures to what the page shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dynamic_atss.assigners import notes
from dynamic_atss.data.dataset import DetectionDataset
from dynamic_atss.inspection.pack import Block
from dynamic_atss.inspection.pictures import Picture, as_jpegs, choose, load
from dynamic_atss.inspection.reasons import Reasons
from dynamic_atss.inspection.recorder import Answer, Record
from dynamic_atss.inspection.rules import Shown, asked_of, shown_rules
from dynamic_atss.inspection.source import Source, network
from dynamic_atss.inspection.views import predicted, view
from dynamic_atss.modeling.coder import decode
from dynamic_atss.modeling.detector import Detector
from dynamic_atss.modeling.head import branches_of
from dynamic_atss.modeling.matching import assign
from dynamic_atss.progress import progress
from dynamic_atss.scoring import classes_in_file
from dynamic_atss.types import Priors

PAIRS = 150_000  # kept in the page, of all boxes, rules and steps together
FEWEST, MOST = 12, 64  # of a box


@dataclass
class Gathered:
    """What is known of one picture: its block of arrays, and for each rule and step the places."""

    picture: Picture
    priors: Priors
    block: Block
    views: list[list[dict[str, Any]]]
    predicted: list[dict[str, Any]]


@torch.no_grad()
def collected(
    source: Source,
    dataset: DetectionDataset,
    rules: Sequence[str] = (),
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
    reasons, steps, shown, gathered = Reasons(), [], [], []
    for number, step in enumerate(progress(source.steps, "checkpoints")):
        model, what = network(source.cfg, step, names, averaged=averaged)
        if not shown:
            shown = shown_rules(source.cfg, model, rules)
            most = _pairs_of_a_box(pictures, len(shown) * len(source.steps))
        steps.append({"name": step.name, "iteration": step.iteration, "weights": what})
        at = source.cfg.SOLVER.MAX_ITER if step.iteration is None else step.iteration
        for place, picture in enumerate(pictures):
            answers = _answers(model, picture, shown, at)
            if not number:
                gathered.append(_begun(picture, answers[0].priors, len(shown)))
                told = _told_of(shown, answers) if not place else told
            _gather(gathered[place], answers, reasons, most)
    return {
        "title": f"Assignment: {', '.join(one.name for one in shown)}",
        "steps": steps,
        "rules": told,
        "classes": list(names),
        "reasons": reasons.texts,
        "data": str(dataset.annotations),
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
    boxes = sum(picture.batch.gt.split for picture in pictures)
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


def _begun(picture: Picture, priors: Priors, rules: int) -> Gathered:
    return Gathered(picture, priors, Block(), [[] for _ in range(rules)], [])


def _gather(to: Gathered, answers: Sequence[Answer], reasons: Reasons, most: int) -> None:
    """Adds the views of one step."""
    looked_at = []
    for answer, views in zip(answers, to.views, strict=True):
        seen = view(answer, reasons, most)
        looked_at += [seen.arrays["pair_prior"], seen.arrays["positive_prior"]]
        places = {name: to.block.add(values) for name, values in seen.arrays.items()}
        views.append({"arrays": places, "values": seen.values})
    priors = torch.cat([torch.from_numpy(x.astype("int64")) for x in looked_at]).unique().numpy()
    boxes = predicted(answers[0], priors)
    arrays = {"prior": priors.astype("uint32"), "box": boxes}
    to.predicted.append({name: to.block.add(values) for name, values in arrays.items()})


def _told_of(shown: Sequence[Shown], answers: Sequence[Answer]) -> list[dict[str, Any]]:
    return [_rule(one, answer) for one, answer in zip(shown, answers, strict=True)]


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
        "predicted": one.predicted,
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
