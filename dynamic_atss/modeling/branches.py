"""Computes the losses of heads with several branches, each with a separate rule and losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from dynamic_atss.errors import UserError
from dynamic_atss.modeling.head import HeadOutput
from dynamic_atss.modeling.terms import Terms
from dynamic_atss.types import GroundTruth, Priors

Outputs = HeadOutput | Mapping[str, HeadOutput]


class BranchCriterion(nn.Module):
    """Computes losses and metrics of all branches, with names like `one_to_many/loss_cls`.

    Each criterion makes one collective call per step, always in the same order.

    Args:
        criteria: by name of the head's branch. A branch without a criterion is not trained.
        weights: by name of the branch, gives the factor of its losses at a 0-based iteration.
            Default: 1.

    Raises:
        ValueError: a weight has no criterion.
    """

    def __init__(
        self,
        criteria: Mapping[str, nn.Module],
        weights: Mapping[str, Callable[[int], float]] | None = None,
    ) -> None:
        super().__init__()
        self.criteria = nn.ModuleDict(criteria)
        self.weights = dict(weights or {})
        if unknown := sorted(self.weights.keys() - criteria.keys()):
            raise ValueError(f"weight of {unknown[0]!r}: there is no criterion of that name")

    def forward(
        self, outputs: Outputs, priors: Priors, gt: GroundTruth, iteration: int = 0
    ) -> Terms:
        """Computes the terms of all branches.

        Raises:
            UserError: the head lacks a branch, or a criterion returns invalid terms.
        """
        losses: dict[str, Tensor] = {}
        metrics: dict[str, Tensor] = {}
        for name, criterion in self.criteria.items():
            output = branch(outputs, name, f"criterion {type(self).__name__}")
            giver = f"criterion {type(criterion).__name__} of branch {name!r}"
            found = Terms.of(criterion(output, priors, gt, iteration), giver)
            weight = self.weights[name](iteration) if name in self.weights else 1.0
            losses |= {f"{name}/{term}": value * weight for term, value in found.losses.items()}
            metrics |= {f"{name}/{metric}": value for metric, value in found.metrics.items()}
        return Terms(losses, metrics)


def branch(outputs: Outputs, name: str | None, reader: str) -> HeadOutput:
    """Gives the branch of that name. None: the output of a head without branches.

    Args:
        reader: the object that reads the branch, for error messages.

    Raises:
        UserError: the head does not have the branch.
    """
    if isinstance(outputs, HeadOutput):
        if name is None:
            return outputs
        raise UserError(
            f"{reader} reads branch {name!r}, but the head gives one output, without branches: "
            "let network() return a dict of outputs by branch"
        )
    known = ", ".join(map(repr, outputs))
    if name is None:
        raise UserError(
            f"{reader} reads the output of a head without branches, but the head has branches "
            f"{known}: use BranchCriterion({{name: criterion}}) and PostProcess(branch=name)"
        )
    if name not in outputs:
        raise UserError(f"{reader} reads branch {name!r}, but the head has branches {known}")
    return outputs[name]
