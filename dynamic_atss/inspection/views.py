"""Packs the outcomes of one picture under one rule into arrays of short types for the page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynamic_atss.assigners.nearest import nearest_candidates
from dynamic_atss.inspection.outcomes import IGNORED, LOST, TAKEN, WON, Outcomes, outcomes
from dynamic_atss.inspection.reasons import Reasons
from dynamic_atss.inspection.recorder import Answer, Event
from dynamic_atss.types import IGNORE

NEAREST = 9  # locations of each level that are shown for a rule that records no steps
# Shares of the statuses among the pairs that are kept of a box.
SHARES = {WON: 0.4, TAKEN: 0.2, LOST: 0.3, IGNORED: 0.1}


@dataclass(frozen=True)
class PageArrays:
    """Holds the arrays of one picture under one rule.

    Attributes:
        arrays: these arrays by name:
            positive_prior, positive_box, positive_quality (and positive_weight): all positives.
            ignored: the first prior and the length of each run of ignored priors.
            pair_box, pair_prior, pair_status, pair_reason, pair_other, pair_predicted, pair_class
            (and pair_anchor), value_0, value_1, ...: the kept pairs by box, the best first.
            counts: box, reason and number of pairs, for all pairs.
        values: the names of value_0, value_1, ...
    """

    arrays: dict[str, NDArray[Any]]
    values: list[str]


def page_arrays(answer: Answer, reasons: Reasons, most: int) -> PageArrays:
    """Packs the answer. Keeps up to `most` pairs of each box. Adds texts to `reasons`."""
    all_pairs = outcomes(with_nearest(answer), reasons)
    kept = _kept(all_pairs, most)
    values = {name: value[kept] for name, value in all_pairs.values.items()}
    values = {name: value for name, value in values.items() if not np.isnan(value).all()}
    arrays = _positives(answer) | _pairs(all_pairs, kept) | _known(answer, all_pairs, kept)
    arrays |= {f"value_{i}": _short(value) for i, value in enumerate(values.values())}
    arrays["counts"] = _counts(all_pairs)
    return PageArrays(arrays, list(values))


def _positives(answer: Answer) -> dict[str, NDArray[Any]]:
    found = answer.found
    index, quality, positive = (
        x.detach().cpu().flatten().numpy() for x in (found.gt_index, found.quality, found.positive)
    )
    prior = np.flatnonzero(positive)
    arrays: dict[str, NDArray[Any]] = {
        "positive_prior": prior.astype(np.uint32),
        "positive_box": index[prior].astype(np.uint16),
        "positive_quality": in_bytes(quality[prior]),
        "ignored": _runs(index == IGNORE),
    }
    if found.weight is not None:
        weight = found.weight.detach().cpu().flatten().numpy()[prior]
        arrays["positive_weight"] = _short(weight)
    return arrays


def _runs(flags: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """Gives the first index and the length of each of the R runs of True, (2 R,)."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    first, end = edges[::2], edges[1::2]
    return np.stack((first, end - first), axis=1).reshape(-1).astype(np.uint32)


def _kept(found: Outcomes, most: int) -> NDArray[np.int64]:
    """Gives the places of the kept pairs by box, then by status, then by score, highest first."""
    score = np.where(np.isnan(found.score), -np.inf, found.score)
    order = np.lexsort((-score, found.status, found.box))
    group = found.box[order] * 4 + found.status[order]
    first = np.searchsorted(group, group)
    limits = np.array([max(1, round(most * SHARES[s])) for s in (WON, TAKEN, LOST, IGNORED)])
    return order[np.arange(len(order)) - first < limits[found.status[order]]]


def _pairs(found: Outcomes, kept: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    return {
        "pair_box": found.box[kept].astype(np.uint16),
        "pair_prior": found.prior[kept].astype(np.uint32),
        "pair_status": found.status[kept],
        "pair_reason": found.reason[kept].astype(np.uint16),
        "pair_other": found.other[kept].astype(np.int16),
    }


def _known(answer: Answer, found: Outcomes, kept: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Computes, for any rule, the IoUs of anchor and predicted box, and the class score."""
    box, prior = torch.from_numpy(found.box[kept]), torch.from_numpy(found.prior[kept])
    gt, seen = answer.gt, answer.predictions
    boxes, classes = gt.boxes.cpu()[box], gt.classes.cpu()[box]
    iou = gt.convention.iou
    known = {
        "pair_predicted": iou(seen.boxes[0].cpu()[prior], boxes),
        "pair_class": seen.logits[0].cpu()[prior, classes].sigmoid(),
    }
    if answer.priors.sized:
        known["pair_anchor"] = iou(answer.priors.boxes.cpu()[prior], boxes)
    return {name: in_bytes(value.numpy()) for name, value in known.items()}


def _counts(found: Outcomes) -> NDArray[np.uint32]:
    pairs, number = np.unique(
        np.stack((found.box, found.reason), axis=1), axis=0, return_counts=True
    )
    return np.concatenate((pairs, number[:, None]), axis=1).reshape(-1).astype(np.uint32)


def with_nearest(answer: Answer) -> Answer:
    """Adds a step with the priors nearest to each box if the rule recorded no steps."""
    has_steps = not all(event.by_wrapper for event in answer.events)
    return answer if has_steps else replace(answer, events=[_nearest(answer), *answer.events])


def _nearest(answer: Answer) -> Event:
    pairs = nearest_candidates(answer.priors, answer.gt, NEAREST)
    box = pairs.box.expand_as(pairs.prior).cpu().flatten().numpy()
    prior = pairs.prior.cpu().flatten().numpy()
    label = answer.found.gt_index.cpu().flatten().numpy()[prior]
    score = np.full(len(box), np.nan)
    return Event(box, prior, score, label == box, label, from_notes=True)


def in_bytes(share: NDArray[Any]) -> NDArray[np.uint8]:
    """Maps 0..1 to 0..255. Clips other values, and maps NaN to 0."""
    return np.rint(np.clip(np.nan_to_num(share), 0, 1) * 255).astype(np.uint8)


def _short(values: NDArray[Any]) -> NDArray[np.float32]:
    """Rounds to 12 significant bits, which the page shows. The zero bits compress well."""
    mantissa, exponent = np.frexp(values.astype(np.float32))
    return np.ldexp(np.rint(mantissa * 4096) / 4096, exponent).astype(np.float32)


def predicted(answer: Answer, priors: NDArray[Any], scale: int = 4) -> NDArray[np.int16]:
    """Gives the predicted boxes of the M priors in units of 1 / scale pixels, (4 M,)."""
    boxes: Tensor = answer.predictions.boxes[0].cpu()[torch.from_numpy(priors.astype(np.int64))]
    limit = np.iinfo(np.int16).max
    scaled = np.nan_to_num(boxes.numpy() * scale, nan=0.0, posinf=limit, neginf=-limit)
    return np.rint(np.clip(scaled, -limit, limit)).astype(np.int16).reshape(-1)
