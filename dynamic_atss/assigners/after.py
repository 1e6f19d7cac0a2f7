"""One rule at the beginning of a training, another one afterwards."""

from __future__ import annotations

from dataclasses import replace

from dynamic_atss.assigners.answer import answer
from dynamic_atss.assigners.around import Around
from dynamic_atss.assigners.base import Assigner
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors


class After(Around):
    """`rule` from the 0-based iteration `start` on, and `first` before it.

    Attributes and checkpoints are those of `rule`. `first` also teaches another branch, which has
    its state, losses and metrics; so they are not here.

    Args:
        rule, first: any assigners.
        start: an iteration.
    """

    sees_regions = True  # `answer` keeps them from a rule that does not
    first: Assigner

    def __init__(self, rule: Assigner, first: Assigner, start: int) -> None:
        super().__init__(rule)
        self.__dict__["first"] = first  # no child
        self.start = start

    def forward(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        """As of any rule; gt may have regions."""
        if predictions.iteration >= self.start:
            return answer(self.rule, priors, gt, predictions)
        found = answer(self.first, priors, gt, predictions)
        return replace(found, losses={}, metrics={})
