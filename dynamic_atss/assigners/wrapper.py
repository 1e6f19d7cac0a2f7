"""Provides the base class of rules that wrap another rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from dynamic_atss.assigners.base import Assigner


class RuleWrapper(nn.Module):
    """Wraps another rule. Has its attributes and, in checkpoints, its names.

    Gets the priors of the head unchanged and calls the inner rule by `call_rule`. The entries of a
    rule that learns have the same names in a checkpoint with and without a wrapper. So a run can be
    resumed with another choice of wrappers.

    Args:
        rule: any assigner. An `nn.Module` is registered, so that it is trained and moved, too.
    """

    def __init__(self, rule: Assigner) -> None:
        super().__init__()
        self.rule = rule
        self.soft_labels = rule.soft_labels
        self.quality_name = rule.quality_name
        self.needs_size = False  # `call_rule` gives sizes to the inner rule
        self.waits = getattr(rule, "waits", False)
        self.register_load_state_dict_pre_hook(_add_rule_prefix)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        source: Any = self.rule if isinstance(self.rule, nn.Module) else super()
        return source.state_dict(*args, **kwargs)

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """Gives the wrapper and the rule the same name, also for parameters and buffers."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        if isinstance(self.rule, nn.Module):
            yield from self.rule.named_modules(memo, prefix, remove_duplicate)


def _add_rule_prefix(module: RuleWrapper, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Renames the entries of the rule to the names that `load_state_dict` expects."""
    if isinstance(module.rule, nn.Module):
        for name in [name for name in state_dict if name.startswith(prefix)]:
            state_dict[f"{prefix}rule.{name.removeprefix(prefix)}"] = state_dict.pop(name)
