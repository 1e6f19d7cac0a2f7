"""Tests the record of a custom rule, with notes and without."""

import numpy as np
import pytest
import torch
from helpers_inspection import Dense, DenseNoted, crowd, explained, recorded

from dynamic_atss.assigners import recording
from dynamic_atss.assigners.base import anchor_iou, best_of_box, box_sides, inside_of, note, resolve
from dynamic_atss.assigners.nearest import nearest_candidates
from dynamic_atss.boxes import iou, sides
from dynamic_atss.errors import UserError
from dynamic_atss.inspection.outcomes import LOST, TAKEN, WON
from dynamic_atss.inspection.reasons import Reasons
from dynamic_atss.inspection.views import page_arrays


class Plain:
    """Selects the nearest priors inside a box. Notes nothing."""

    soft_labels, quality_name, needs_size = False, "IoU", True
    shape_of_note = None

    def __call__(self, priors, gt, predictions):
        pairs = nearest_candidates(priors, gt, 4)
        score = anchor_iou(priors, gt, pairs)
        selected = inside_of(box_sides(priors, gt, pairs))
        if self.shape_of_note:
            note(wrong=torch.zeros(self.shape_of_note))
        return resolve(pairs, selected, score, score, predictions.boxes.shape[:2])


class Noted(Plain):
    """Chooses the best three of the nearest priors and selects two of them. Notes names."""

    def __call__(self, priors, gt, predictions):
        pairs = nearest_candidates(priors, gt, 4)
        score = anchor_iou(priors, gt, pairs)
        note(score="overlap", twice=2 * score)
        best, places = best_of_box(pairs, score, 3, len(gt))
        score = score.take(places)
        near_enough = torch.arange(3).expand(len(gt), 3) < 2
        note(score="overlap", near_enough=near_enough)
        return resolve(best, near_enough, score, score, predictions.boxes.shape[:2])


class Uncapped(Plain):
    """Selects the nearest priors. Each box keeps `per_box` of those that it wins."""

    per_box = None

    def __call__(self, priors, gt, predictions):
        pairs = nearest_candidates(priors, gt, 4)
        score = anchor_iou(priors, gt, pairs)
        note(score="overlap")
        shape = predictions.boxes.shape[:2]
        return resolve(pairs, pairs.exists, score, score, shape, per_box=self.per_box)


class Capped(Uncapped):
    per_box = 2


def test_a_rule_that_notes_nothing_is_shown():
    answer, found, texts = explained(Plain(), *crowd(0))
    assert {texts[i] for i in found.reason} == {"won", "taken by another box", "not selected"}
    assert len(found.box) == 4 * 5 * len(answer.gt)
    assert list(found.values) == ["score"]


def test_names_and_conditions_of_the_users_own():
    answer, found, texts = explained(Noted(), *crowd(0))
    known = {"won", "taken by another box", "not among the 3 best", "not near enough"}
    assert {texts[i] for i in found.reason} == known
    np.testing.assert_allclose(found.values["twice"], 2 * found.values["overlap"], rtol=1e-6)
    of_a_box = np.bincount(found.box[[texts[i] == "not among the 3 best" for i in found.reason]])
    assert of_a_box.tolist() == [17] * len(answer.gt)


def test_a_prior_that_loses_to_the_cap_of_its_box():
    priors, gt, predictions = crowd(0)
    _, found, texts = explained(Capped(), priors, gt, predictions)
    _, free, _ = explained(Uncapped(), priors, gt, predictions)
    beyond = np.array([texts[i] == "won, but the box keeps only its best" for i in found.reason])
    won = found.status == WON
    assert beyond.any() and (np.bincount(found.box[won]) <= 2).all()
    before = set(zip(free.box[free.status == WON], free.prior[free.status == WON], strict=True))
    either = beyond | won
    assert before == set(zip(found.box[either], found.prior[either], strict=True))
    lost = {texts[i] for i in found.reason[~either]}
    known = {"taken by another box", "taken by a box that did not keep it"}
    assert lost == {*known, "not positive, even if the image had only this box"}
    for i in np.flatnonzero(~either):  # a box keeps two without the other boxes, too
        box = int(found.box[i])
        alone = Capped()(priors, gt[box : box + 1], predictions).positive[0, found.prior[i]]
        assert bool(alone) or texts[found.reason[i]] != "taken by another box"
    assert list(found.values) == ["overlap"]


def test_a_rule_for_one_image_with_notes():
    priors, gt, predictions = crowd(1)
    _, found, texts = explained(DenseNoted(), priors, gt, predictions)
    assert len(found.box) == len(gt) * len(priors)
    overlap = iou(priors.boxes[:, None], gt.boxes)
    positive = overlap >= overlap.mean(0) + overlap.std(0)
    positive &= sides(priors.centers[:, None], gt.boxes).amin(-1) > 0
    mine = positive[found.prior, found.box].numpy()
    assert ((found.status == WON) | (found.status == TAKEN)).tolist() == mine.tolist()
    refused = {texts[i] for i in found.reason[found.status == LOST]}
    assert "below the threshold; centre outside the box" in refused


def test_a_rule_for_one_image_without_notes():
    """The page shows its positives and, without a reason, the nearest priors of each box."""
    answer = recorded(Dense(), *crowd(1))
    reasons = Reasons()
    arrays = page_arrays(answer, reasons, 1000).arrays
    texts = {reasons.texts[i] for i in arrays["pair_reason"]}
    taken = {"taken by another box", "not positive, even if the image had only this box"}
    assert texts == {"won", *taken, "the rule does not tell why"}
    assert (np.bincount(arrays["pair_box"]) >= 9).all()
    won = arrays["pair_status"] == WON
    assert won.sum() == answer.found.positive.sum()


def test_a_note_that_does_not_fit_is_a_line():
    rule = Plain()
    rule.shape_of_note = (2, 3)
    with pytest.raises(UserError, match=r"rule Plain: note 'wrong' has shape \(2, 3\)"):
        recorded(rule, *crowd(0))


def test_nobody_records_afterwards_also_after_an_error():
    rule = Plain()
    rule.shape_of_note = (2, 3)
    with pytest.raises(UserError):
        recorded(rule, *crowd(0))
    assert recording.recorder is None
    rule(*crowd(0))
