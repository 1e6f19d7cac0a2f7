"""A head twice: one branch learns many priors of a box and teaches the features, one learns a
single prior and predicts without NMS.

Consistent dual assignments (Wang et al., YOLOv10, NeurIPS 2024, arXiv 2405.14458).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from dynamic_atss.modeling.head import HeadOutput

ONE_TO_MANY, ONE_TO_ONE = "one_to_many", "one_to_one"


class Dual(nn.Module):
    """Two heads over the same features; the gradient of the one-to-one branch stops there.

    In checkpoints the one-to-many branch has the names of a head that is alone, the other one
    `one_to_one.` before them: what reads a head of one branch reads it here, too.

    Args:
        many, one: features -> `HeadOutput`.
        read: the branch that is computed in evaluation; None: both.
    """

    def __init__(self, many: nn.Module, one: nn.Module, read: str | None = None) -> None:
        super().__init__()
        self.one_to_many, self.one_to_one = many, one
        self.read = read
        self.register_load_state_dict_pre_hook(_one_level_down)

    def forward(self, features: Sequence[Tensor]) -> dict[str, HeadOutput]:
        """features: one (N, channels, h, w) per level, finest first."""
        found = {}
        if self._computes(ONE_TO_MANY):
            found[ONE_TO_MANY] = self.one_to_many(features)
        if self._computes(ONE_TO_ONE):
            found[ONE_TO_ONE] = self.one_to_one([x.detach() for x in features])
        return found

    def _computes(self, branch: str) -> bool:
        return self.training or self.read in (None, branch)

    def state_dict(
        self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False
    ) -> Any:
        wanted = {"keep_vars": keep_vars}
        found = self.one_to_many.state_dict(destination=destination, prefix=prefix, **wanted)
        return self.one_to_one.state_dict(destination=found, prefix=_inner(prefix), **wanted)

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """Those of the one-to-many branch under this one's name."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        yield from self.one_to_many.named_modules(memo, prefix, remove_duplicate)
        inner = _inner(f"{prefix}." if prefix else "").removesuffix(".")
        yield from self.one_to_one.named_modules(memo, inner, remove_duplicate)


def _inner(prefix: str) -> str:
    return f"{prefix}{ONE_TO_ONE}."


def _one_level_down(module: Dual, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Entries of the one-to-many branch, under the names that `load_state_dict` looks for."""
    for name in [name for name in state_dict if name.startswith(prefix)]:
        if not name.startswith(_inner(prefix)):
            rest = name.removeprefix(prefix)
            state_dict[f"{prefix}{ONE_TO_MANY}.{rest}"] = state_dict.pop(name)
