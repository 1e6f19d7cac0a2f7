"""One rule before an iteration, another one from it on."""

from copy import deepcopy

import torch
from torch import nn

from dynamic_atss.assigners.after import After
from dynamic_atss.assigners.answer import answer
from dynamic_atss.modeling.priors import PointGenerator
from dynamic_atss.types import BACKGROUND, Assignment, GroundTruth, Predictions

PRIORS = PointGenerator((8,))(((2, 2),), torch.device("cpu"))


class Fixed(nn.Module):
    """Gives its prior the first box, has a loss and a weight, and remembers what it was given."""

    soft_labels, quality_name, needs_size = True, "fixed", False

    def __init__(self, prior, sees_regions=False):
        super().__init__()
        self.prior, self.sees_regions = prior, sees_regions
        self.weight = nn.Parameter(torch.ones(()))
        self.seen = []

    def forward(self, priors, gt, predictions):
        self.seen.append((predictions.iteration, len(gt)))
        index = torch.full(predictions.boxes.shape[:2], BACKGROUND)
        index[:, self.prior] = 0
        own = {"loss_own": self.weight}
        return Assignment(index, (index >= 0).float(), losses=own, metrics={"own": self.weight})


def asked(rule, iteration):
    boxes = torch.tensor([[0.0, 0, 9, 9], [4, 4, 12, 12]])
    gt = GroundTruth(boxes, torch.zeros(2).long(), torch.zeros(2).long(), torch.tensor([0, 1]) > 0)
    seen = Predictions(torch.zeros(1, 4, 4), torch.zeros(1, 4, 1), iteration)
    return answer(rule, PRIORS, gt, seen)


def test_each_rule_has_its_iterations():
    rule = After(Fixed(1), Fixed(2), 5)
    found = [asked(rule, i).gt_index.argmax().item() for i in (0, 4, 5, 6)]
    assert found == [2, 2, 1, 1]
    assert [i for i, _ in rule.first.seen] == [0, 4] and [i for i, _ in rule.rule.seen] == [5, 6]


def test_the_losses_of_the_first_rule_stay_in_its_own_branch():
    rule = After(Fixed(1), Fixed(2), 5)
    assert not asked(rule, 4).losses and not asked(rule, 4).metrics
    assert asked(rule, 5).losses.keys() == {"loss_own"}


def test_regions_reach_the_rule_that_reads_them():
    rule = After(Fixed(1, sees_regions=True), Fixed(2), 1)
    asked(rule, 0), asked(rule, 1)
    assert (rule.first.seen, rule.rule.seen) == ([(0, 1)], [(1, 2)])


def test_the_first_rule_is_no_part_of_it():
    """It is one of the other branch, also in a copy, as of averaged weights."""
    first = Fixed(2)
    model = nn.ModuleDict({"many": first, "one": After(Fixed(1), first, 5)})
    assert set(model.state_dict()) == {"many.weight", "one.weight"}
    assert len(list(model.parameters())) == 2
    copy = deepcopy(model)
    assert copy["one"].first is copy["many"] is not first
