"""Tests results of custom criteria and heads. An invalid one is an error of one line."""

import pytest
import torch
from test_detector import make_batch, make_detector
from torch import nn

from dynamic_atss.errors import UserError
from dynamic_atss.modeling.branches import BranchCriterion
from dynamic_atss.modeling.terms import Terms

ONE = torch.ones(())


class Own(nn.Module):
    """Returns `found`. Has a parameter that it never uses."""

    def __init__(self, found):
        super().__init__()
        self.found, self.unused = found, nn.Parameter(torch.ones(3))

    def forward(self, outputs, priors, gt, iteration=0):
        return self.found


def message_of(model) -> str:
    with pytest.raises(UserError) as caught:
        model.train()(make_batch())
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", [Own, lambda found: BranchCriterion({"one": Own(found)})])
@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "returns a NoneType; a dict of losses by name, or Terms"),
        ([ONE], "returns a list; a dict"),
        (Terms([ONE]), "returns a list; a dict"),
        (Terms({"loss_a": ONE}, ["count"]), "returns a list; a dict"),
        ({}, "gives no loss term"),
        ({"a": ONE}, "loss term 'a': its name must begin with 'loss_'"),
        ({1: ONE}, "loss term 1: its name must begin"),
        ({"loss_a": 0.5}, "loss term 'loss_a': is a float, not a scalar tensor"),
        ({"loss_a": torch.ones(2)}, "loss term 'loss_a': has shape (2,)"),
        ({"loss_a": torch.tensor(1)}, "has shape () and type torch.int64; a floating-point"),
        (Terms({"loss_a": ONE}, {"loss_a": ONE}), "metric 'loss_a': a loss term has that name"),
    ],
)
def test_a_criterion_that_gives_something_else(kind, found, words):
    detector = make_detector()
    detector.criterion = kind(found)
    if kind is not Own:
        network = detector.head
        detector.head = Shaped(network, lambda output: {"one": output})
        detector.postprocess.branch = "one"
    message = message_of(detector)
    assert words in message
    if words.startswith(("returns", "gives")):
        assert message.startswith("criterion Own " + "of branch 'one' " * (kind is not Own))


def test_losses_alone_count_and_reach_unused_parameters():
    detector = make_detector()
    detector.criterion = Own({"loss_a": ONE})
    terms = detector.train()(make_batch())
    assert terms.losses["loss_a"] == 1 and terms.metrics == {}
    terms.losses["loss_a"].backward()
    assert detector.criterion.unused.grad.tolist() == [0, 0, 0]


class Shaped(nn.Module):
    """A head with a modified output."""

    def __init__(self, head, change):
        super().__init__()
        self.inner, self.change = head, change

    def forward(self, features):
        return self.change(self.inner(features))


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (lambda x: x._replace(sizes=None), "None"),
        (lambda x: x._replace(sizes=x.sizes[:1]), "((8, 12),)"),
        (lambda x: x._replace(sizes=(*x.sizes, (1, 1))), "((8, 12), (4, 6), (1, 1))"),
        (lambda x: x._replace(sizes=[list(s) for s in x.sizes]), "[[8, 12], [4, 6]]"),
        (lambda x: x._replace(sizes=torch.tensor(x.sizes)), "tensor([[ 8, 12], [ 4, 6]])"),
        (lambda x: x._replace(sizes=(96, 24)), "(96, 24)"),
        (lambda x: x._replace(sizes=((8.0, 12), (4, 6))), "((8.0, 12), (4, 6))"),
        (
            lambda x: {"one": x, "two": x._replace(sizes=((4, 6), (8, 12)))},
            "((4, 6), (8, 12))",
        ),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_sizes_of_a_head_that_do_not_fit(change, shown, training):
    detector = make_detector()
    detector.head = Shaped(detector.head, change)
    with pytest.raises(UserError) as caught:
        detector.train(training)(make_batch())
    message = " ".join(str(caught.value).split())
    assert message.startswith(f"head Shaped (MODEL.HEAD.NAME): its sizes are {shown}; HeadOutput")
    assert "(height, width), one for the 2 levels" in message
