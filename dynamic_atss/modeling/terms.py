"""What a criterion gives: losses, and numbers beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dynamic_atss.errors import UserError


class Terms(NamedTuple):
    """What a criterion gives: losses, scalars whose sum is minimised, and metrics, which are only
    logged.

    A metric is a number, whose mean over processes and iterations is logged, or two numbers, a sum
    and a count, of which sum / count over all of these is logged (0 for a count of 0). Names are
    the same on every process and in every step.
    """

    losses: Mapping[str, Tensor]
    metrics: Mapping[str, Tensor] = {}

    @classmethod
    def of(cls, found: Any, giver: str = "the model") -> Terms:
        """What a criterion returned, checked: `Terms`, or a dict of losses alone.

        Types, names and shapes are compared, without a wait for the device.

        Args:
            giver: how messages call it.

        Raises:
            UserError: it is something else.
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
        """The same, with a gradient of 0 for parameters that the losses do not depend on. There
        must be a loss.

        A rule may use its parameters in some steps and on some processes only (those with boxes),
        and a head may have a branch that is in no loss.
        With this every step reaches all of them: DistributedDataParallel need not look for unused
        ones, which would cost every model, and none is waited for in vain.
        """
        if not parameters:
            return self
        name = next(iter(self.losses))
        nothing = torch.stack([p.flatten()[:1].sum() for p in parameters]).sum() * 0.0
        return self._replace(losses={**self.losses, name: self.losses[name] + nothing})


def joined(
    own: Mapping[str, Tensor], more: Mapping[str, Tensor], giver: str = "rule"
) -> dict[str, Tensor]:
    """Both; UserError for a name that stands in both. giver: what `more` comes from."""
    twice = sorted(own.keys() & more.keys())
    if twice:
        raise UserError(
            f"the {giver} returns {twice[0]!r}, which the criterion has already; give its own "
            "another name"
        )
    return {**own, **more}


def check_box_terms(found: Any) -> None:
    """UserError unless a box loss of the user's gave scalars by name."""
    needed = "a dict that is not empty, {name: scalar tensor}, is needed"
    if not isinstance(found, Mapping) or not found:
        what = "an empty dict" if isinstance(found, Mapping) else f"a {type(found).__name__}"
        raise UserError(f"the box loss returns {what}; {needed}")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or value.dim():
            shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
            what = f"a {type(value).__name__}{shape}"
            raise UserError(f"the box loss returns {what} as {name!r}; {needed}")


def check_losses(losses: Mapping[str, Any]) -> None:
    """UserError for a term that is no scalar, or whose name does not show that it is a loss. Names
    of branches stand before it: "one_to_many/loss_cls"."""
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
