"""What rules around another rule have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from dynamic_atss.assigners.base import Assigner


class Around(nn.Module):
    """A rule around another: it has the other's attributes and, in checkpoints, the other's names.
    It reads priors as the head has them and asks the other one by `answer`.

    So a rule that learns is found under `criterion.assigner.` with and without such a rule around
    it, and a run can go on with another choice.

    Args:
        rule: any assigner. One that is an `nn.Module` is registered: it trains and moves along.
    """

    def __init__(self, rule: Assigner) -> None:
        super().__init__()
        self.rule = rule
        self.soft_labels = rule.soft_labels
        self.quality_name = rule.quality_name
        self.needs_size = False  # the rule gets sizes where it is asked, see `answer`
        self.waits = getattr(rule, "waits", False)
        self.register_load_state_dict_pre_hook(_one_level_down)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        own: Any = self.rule if isinstance(self.rule, nn.Module) else super()
        return own.state_dict(*args, **kwargs)

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """This one and the rule under one name, on which those of parameters and buffers build."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        if isinstance(self.rule, nn.Module):
            yield from self.rule.named_modules(memo, prefix, remove_duplicate)


def _one_level_down(module: Around, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Entries of the rule, under the names that `load_state_dict` looks for."""
    if isinstance(module.rule, nn.Module):
        for name in [name for name in state_dict if name.startswith(prefix)]:
            state_dict[f"{prefix}rule.{name.removeprefix(prefix)}"] = state_dict.pop(name)
