"""Defines and checks the result of a criterion: losses and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dynamic_atss.errors import UserError


class Terms(NamedTuple):
    """Holds the losses and metrics of a criterion.

    Their names are the same on every process and in every step.

    Attributes:
        losses: scalars, whose sum is minimised.
        metrics: numbers that are only logged, as the mean over processes and iterations. Two
            numbers are a sum and a count. Then the sums and the counts are added up, and
            sum / count is logged, 0 for a count of 0.
    """

    losses: Mapping[str, Tensor]
    metrics: Mapping[str, Tensor] = {}

    @classmethod
    def of(cls, found: Any, giver: str = "the model") -> Terms:
        """Checks the result of a criterion: `Terms`, or a dict of losses.

        Checks types, names and shapes without waiting for the device.

        Args:
            giver: name of the criterion in messages.

        Raises:
            UserError: the result is invalid.
        """
        terms = found if isinstance(found, Terms) else cls(found)
        for part in terms:
            if not isinstance(part, Mapping):
                raise UserError(
                    f"{giver} returns a {type(part).__name__}; a dict of losses by name, or "
                    "Terms(losses, metrics) of two dicts, is needed"
                )
        if not terms.losses:
            raise UserError(f"{giver} gives no loss term; give one, or the step learns nothing")
        check_losses(terms.losses)
        for name in terms.metrics:
            if name in terms.losses:
                raise UserError(f"metric {name!r}: a loss term has that name; give it another one")
        return terms

    def touching(self, parameters: Sequence[Tensor]) -> Terms:
        """Adds a gradient of 0 for parameters that the losses may not depend on.

        A rule may use its parameters only in some steps and processes, such as those with boxes. A
        head may have a branch that is in no loss. With this, all parameters get a gradient in every
        step. Otherwise DistributedDataParallel would wait for them forever, or would have to search
        for unused parameters, which slows down every model.
        """
        if not parameters:
            return self
        name = next(iter(self.losses))
        nothing = torch.stack([p.flatten()[:1].sum() for p in parameters]).sum() * 0.0
        return self._replace(losses={**self.losses, name: self.losses[name] + nothing})


def joined(
    terms: Mapping[str, Tensor], others: Mapping[str, Tensor], giver: str = "rule"
) -> dict[str, Tensor]:
    """Merges two dicts.

    Args:
        giver: the source of `others`.

    Raises:
        UserError: both have a name.
    """
    shared = sorted(terms.keys() & others.keys())
    if shared:
        raise UserError(
            f"the {giver} returns {shared[0]!r}, a name that the criterion already uses; rename it"
        )
    return {**terms, **others}


def check_box_terms(found: Any) -> None:
    """Raises UserError unless a custom box loss returned scalars by name."""
    needed = "a dict that is not empty, {name: scalar tensor}, is needed"
    if not isinstance(found, Mapping) or not found:
        kind = "an empty dict" if isinstance(found, Mapping) else f"a {type(found).__name__}"
        raise UserError(f"the box loss returns {kind}; {needed}")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or value.dim():
            shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
            kind = f"a {type(value).__name__}{shape}"
            raise UserError(f"the box loss returns {kind} as {name!r}; {needed}")


def check_losses(losses: Mapping[str, Any]) -> None:
    """Raises UserError for a term that is not a scalar, or whose name does not start with "loss_".

    The name of a branch may precede it: "one_to_many/loss_cls".
    """
    for name, value in losses.items():
        if not isinstance(name, str) or not name.rpartition("/")[2].startswith("loss_"):
            raise UserError(f"loss term {name!r}: its name must begin with 'loss_'")
        if not isinstance(value, Tensor):
            raise UserError(f"loss term {name!r}: is a {type(value).__name__}, not a scalar tensor")
        if value.dim() or not value.is_floating_point():
            raise UserError(
                f"loss term {name!r}: has shape {tuple(value.shape)} and type {value.dtype}; a "
                "floating-point scalar is needed"
            )
