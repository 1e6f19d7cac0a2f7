"""Tests invalid results of custom rules and coders."""

import pytest
import torch

from dynamic_atss.assigners.at_least_one import AtLeastOne
from dynamic_atss.assigners.ignore_regions import IgnoreRegions
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.coder import DeltaCoder, DistanceCoder
from dynamic_atss.modeling.gather_targets import match
from dynamic_atss.modeling.head import HeadOutput
from dynamic_atss.modeling.postprocess import PostProcess
from dynamic_atss.modeling.priors import AnchorGenerator
from dynamic_atss.types import Assignment, GroundTruth

MAPS = ((4, 4),)
PRIORS = AnchorGenerator((8,), (64,))(MAPS, torch.device("cpu"))
GT = GroundTruth(torch.tensor([[4.0, 4, 40, 50]]), torch.tensor([0]), torch.tensor([1]))
INDEX, QUALITY = torch.full((2, 16), -1), torch.zeros(2, 16)


class Fixed:
    soft_labels, quality_name, needs_size = False, "quality", True

    def __init__(self, found):
        self.found = found

    def __call__(self, priors, gt, predictions):
        return self.found


def head_output(values=4):
    return HeadOutput(torch.zeros(2, 16, 3), torch.zeros(2, 16, values), None, MAPS)


def matched(rule, coder=None, values=4):
    return match(rule, coder or DeltaCoder(), head_output(values), PRIORS, GT, 0)


@pytest.mark.parametrize("around", [lambda x: x, AtLeastOne, IgnoreRegions])
@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "a NoneType"),
        ((INDEX, QUALITY), "a tuple"),
        (Assignment(INDEX[0], QUALITY), r"gt_index of shape \(16,\)"),
        (Assignment(INDEX.int(), QUALITY), r"gt_index of shape \(2, 16\) and type torch.int32"),
        (Assignment(INDEX, QUALITY[..., None]), r"quality of shape \(2, 16, 1\)"),
        (Assignment(INDEX, QUALITY.bool()), r"quality of .* type torch.bool"),
        (Assignment(INDEX, QUALITY, weight=QUALITY[:1]), r"weight of shape \(1, 16\)"),
        (Assignment(INDEX, QUALITY, negative=0.5), "negative as a float"),
    ],
)
def test_an_answer_that_does_not_fit_is_one_line(around, found, words):
    with pytest.raises(UserError, match=f"rule Fixed gives {words}.*, needs an Assig") as caught:
        matched(around(Fixed(found)))
    assert "\n" not in str(caught.value)


def one(name, value):
    """Makes an answer with one positive and a value of it."""
    index, values = INDEX.clone(), QUALITY.clone()
    index[1, 5], values[1, 5] = 0, value
    return Assignment(index, QUALITY, **{name: values})


@pytest.mark.parametrize("around", [lambda x: x, AtLeastOne, IgnoreRegions])
@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            Assignment(INDEX + 2, QUALITY),
            r"gt_index 1 for 1 boxes; .* BACKGROUND \(-1\)",
        ),
        (Assignment(INDEX - 2, QUALITY), "gt_index -3 for"),
        (one("weight", -0.5), "a weight of -0.5; a number at least 0 is needed"),
        (one("negative", -0.5), "a negative of -0.5; a number from 0 to 1 is needed"),
        (one("negative", 1.5), "a negative of 1.5; a number from 0 to 1 is needed"),
        (
            Assignment(INDEX, QUALITY, divisors=torch.tensor([3.0, 0.0])),
            r"divisors \[3.0, 0.0\]; numbers above 0",
        ),
        (Assignment(INDEX, QUALITY, divisors=QUALITY), r"divisors of shape \(2, 16\)"),
        (Assignment(INDEX, QUALITY, divisors=(1.0, 2.0)), "divisors as a tuple"),
    ],
)
def test_values_of_the_first_iteration(around, found, words):
    with pytest.raises(UserError, match=f"rule Fixed gives {words}") as caught:
        matched(around(Fixed(found)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["losses", "metrics"])
def test_terms_of_a_rule_that_are_no_dict(name):
    found = Assignment(INDEX, QUALITY, **{name: [torch.ones(())]})
    with pytest.raises(UserError, match=f"rule Fixed gives {name} as a list; a dict, .* is needed"):
        match(Fixed(found), DeltaCoder(), head_output(), PRIORS, GT, 5)


def test_values_that_no_prior_reads():
    """Values of the background are not checked, and a weight may have any value of at least 0."""
    found = one("weight", 7.0)
    assert matched(Fixed(found)).target is found
    found = Assignment(INDEX, QUALITY, QUALITY - 1, QUALITY + 2)
    assert matched(Fixed(found)).target is found


def test_an_answer_that_fits():
    found = Assignment(INDEX, QUALITY, weight=QUALITY + 1)
    assert matched(Fixed(found)).target is found


class Whole:
    """Returns the deltas."""

    def decode(self, deltas, priors):
        return deltas


@pytest.mark.parametrize("values", [1, 3, 5])
@pytest.mark.parametrize("coder", [DeltaCoder(), DistanceCoder(None), DistanceCoder(1.0), Whole()])
def test_deltas_that_are_not_four(coder, values):
    """Three would broadcast to plausible boxes, in training and in tests."""
    words = rf"coder {type(coder).__name__}: .* shape \(2, 16, {values}\); .* is needed"
    with pytest.raises(UserError, match=words) as caught:
        matched(Fixed(Assignment(INDEX, QUALITY)), coder, values)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=rf"coder {type(coder).__name__}: .* is needed"):
        PostProcess(coder)(head_output(values), PRIORS, torch.tensor([[32, 32]] * 2))
