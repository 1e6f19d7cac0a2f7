"""What became of each pair, compared with the labels prior by prior: of every rule, in crowds."""

import numpy as np
import pytest
import torch
from helpers_inspection import crowd, nuclei, recorded, told

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.assigners.at_least_one import AtLeastOne
from dynamic_atss.assigners.ignore_regions import IgnoreRegions
from dynamic_atss.assigners.rules.max_iou import MaxIoU
from dynamic_atss.boxes import BoxConvention, sides
from dynamic_atss.inspection.fates import IGNORED, LOST, TAKEN, WON
from dynamic_atss.types import BACKGROUND, Assignment, GroundTruth

# In these a box that is alone takes what it would take in a crowd: its own threshold or number.
ALONE = [name for name in ASSIGNERS if name not in ("max_iou", "paa", "poto")]
SCENES = ["crowd 0", "crowd 1", "nuclei"]


@pytest.fixture(params=SCENES)
def picture(request):
    if request.param == "nuclei":
        return nuclei(request.getfixturevalue("shared"))
    return crowd(int(request.param.split()[1]))


def pairs_of(found, status):
    """{(box, prior): other}"""
    here = found.status == status
    return dict(
        zip(
            zip(found.box[here].tolist(), found.prior[here].tolist(), strict=True),
            found.other[here].tolist(),
            strict=True,
        )
    )


@pytest.mark.parametrize("name", ASSIGNERS)
@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "at_least_one"])
def test_won_are_the_positives(name, wrapped, picture):
    rule = ASSIGNERS[name]()
    answer, found, _ = told(AtLeastOne(rule) if wrapped else rule, *picture)
    label = answer.found.gt_index[0].tolist()
    assert pairs_of(found, WON).keys() == {(b, p) for p, b in enumerate(label) if b >= 0}
    for (box, prior), other in pairs_of(found, TAKEN).items():
        assert other == label[prior] and other not in (box, -1)


@pytest.mark.parametrize("name", ALONE)
def test_taken_are_those_that_a_box_would_have_alone(name, picture):
    priors, gt, predictions = picture
    # As released, SimOTA counts what is near other boxes, too.
    rule = ASSIGNERS[name](**({"candidates": "box"} if name == "simota" else {}))
    answer, found, _ = told(rule, *picture)
    label = answer.found.gt_index[0].tolist()
    expected = {}
    for box in range(len(gt)):
        alone = rule(priors, gt[box : box + 1], predictions)
        mine = alone.positive[0].nonzero()[:, 0].tolist()
        expected |= {(box, prior): label[prior] for prior in mine if label[prior] != box}
    assert expected and pairs_of(found, TAKEN) == expected


@pytest.mark.parametrize("name", ["max_iou", "paa"])
def test_taken_by_the_box_of_the_larger_iou(name, picture):
    """These rules give a prior to its box of the largest IoU before anything else."""
    priors, gt, _ = picture
    answer, found, _ = told(ASSIGNERS[name](), *picture)
    label = answer.found.gt_index[0]
    overlap = BoxConvention.LEGACY.iou(priors.boxes[:, None], gt.boxes)
    threshold = 0.5 if name == "max_iou" else 0.1
    best = ((overlap == overlap.amax(0)) & (overlap > 0)).any(1)
    wants = ((overlap >= threshold) | best[:, None]) & (overlap > 0)
    expected = {
        (box, prior): int(label[prior])
        for prior, box in wants.nonzero().tolist()
        if label[prior] not in (box, BACKGROUND)
    }
    taken = pairs_of(found, TAKEN)
    assert expected and taken == expected
    assert all(overlap[p, other] >= overlap[p, box] for (box, p), other in taken.items())


def test_why_atss_refuses(picture):
    priors, gt, _ = picture
    _, found, texts = told(ASSIGNERS["atss"](), *picture)
    overlap = BoxConvention.LEGACY.iou(priors.boxes[:, None], gt.boxes)
    within = sides(priors.centers[:, None], gt.boxes).amin(-1) > 0.01
    seen = set()
    for i in np.flatnonzero(found.status == LOST):
        box, prior = found.box[i], found.prior[i]
        of_box = torch.from_numpy(found.prior[found.box == box])
        threshold = overlap[of_box, box].mean() + overlap[of_box, box].std()
        assert found.values["threshold"][i] == pytest.approx(float(threshold), rel=1e-5)
        assert found.values["anchor IoU"][i] == pytest.approx(float(overlap[prior, box]), abs=1e-6)
        parts = ["below the threshold"] * bool(overlap[prior, box] < threshold)
        parts += ["centre outside the box"] * bool(~within[prior, box])
        assert texts[found.reason[i]] == "; ".join(parts)
        seen.add(texts[found.reason[i]])
    assert len(seen) == 3


def test_what_at_least_one_gives_is_said(picture):
    rule = ASSIGNERS["max_iou"]()
    before = rule(*picture).gt_index[0].tolist()
    answer, found, texts = told(AtLeastOne(rule), *picture)
    given = {(b, p) for p, b in enumerate(answer.found.gt_index[0].tolist()) if b >= 0 > before[p]}
    said = texts.index("won: given by AtLeastOne")
    here = found.reason == said
    assert given and given == set(zip(found.box[here], found.prior[here], strict=True))


def test_ignored_between_the_thresholds_and_for_a_centre_outside():
    answer, found, texts = told(MaxIoU(inside_only=True), *crowd(0))
    label = answer.found.gt_index[0].numpy()
    assert ((label[found.prior] == -2) == (found.status == IGNORED)).all()
    said = {texts[i] for i in found.reason[found.status == IGNORED]}
    assert "ignored (below the threshold)" in said
    assert any("centre outside" in text for text in said)


def test_a_region_ignores_priors_that_a_box_lost():
    priors, gt, predictions = crowd(0)
    region = torch.tensor([[0.0, 0, 224, 160]])
    with_region = GroundTruth(
        torch.cat((gt.boxes, region)),
        torch.cat((gt.classes, gt.classes[:1])),
        torch.zeros(len(gt) + 1, dtype=torch.int64),
        torch.arange(len(gt) + 1) == len(gt),
    )
    rule = IgnoreRegions(ASSIGNERS["atss"]())
    answer, found, texts = told(rule, priors, with_region, predictions)
    alone, _, _ = told(ASSIGNERS["atss"](), priors, gt, predictions)
    assert torch.equal(answer.found.positive, alone.found.positive)
    assert "ignored (below the threshold)" in {texts[i] for i in found.reason}
    assert not (found.box == len(gt)).any()


class WeightOfZero:
    """ATSS, whose positives of box 0 do not count."""

    soft_labels, quality_name, needs_size = False, "centerness", True

    def __call__(self, priors, gt, predictions):
        found = ASSIGNERS["atss"]()(priors, gt, predictions)
        return Assignment(found.gt_index, found.quality, weight=(found.gt_index != 3).float())


def test_a_prior_of_weight_0_is_no_positive():
    answer, found, texts = told(WeightOfZero(), *crowd(0))
    label = answer.found.gt_index[0].numpy()
    of_3 = (found.box == 3) & (label[found.prior] == 3)
    assert of_3.any() and (found.status[of_3] == LOST).all()
    assert {texts[i] for i in found.reason[of_3]} == {"has the prior with weight 0"}


@pytest.mark.parametrize("name", ASSIGNERS)
def test_a_picture_without_boxes(name):
    priors, gt, predictions = crowd(0)
    answer, found, _ = told(ASSIGNERS[name](), priors, gt[:0], predictions)
    assert not len(found.box) and not answer.found.positive.any()


@pytest.mark.parametrize("name", ASSIGNERS)
def test_a_record_changes_no_label(name, picture):
    plain = ASSIGNERS[name]()(*picture)
    found = recorded(ASSIGNERS[name](), *picture).found
    assert torch.equal(plain.gt_index, found.gt_index)
    assert torch.equal(plain.quality, found.quality)
