"""Combines a one-to-many and a one-to-one branch of the same head.

The one-to-many branch learns many priors per box and trains the features. The one-to-one branch
learns one prior per box and predicts without NMS. The idea is that of consistent dual assignments
(Wang et al., YOLOv10, NeurIPS 2024, arXiv 2405.14458).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from dynamic_atss.modeling.head import HeadOutput

ONE_TO_MANY, ONE_TO_ONE = "one_to_many", "one_to_one"


class Dual(nn.Module):
    """Runs two heads on the same features. The one-to-one branch sends no gradient to them.

    Registers the parts of the one-to-many branch directly in this module. So they have the names of
    a single head, also in checkpoints. Names of the other branch start with `one_to_one.`.

    Args:
        many, one: features -> `HeadOutput`.
        read: the branch to compute in evaluation; None: both.
    """

    many: nn.Module
    one_to_one: nn.Module

    def __init__(self, many: nn.Module, one: nn.Module, read: str | None = None) -> None:
        super().__init__()
        self._parameters, self._buffers = many._parameters, many._buffers
        self._non_persistent_buffers_set = many._non_persistent_buffers_set
        self._modules = {**many._modules, ONE_TO_ONE: one}
        self.__dict__["many"] = many  # not registered as a child, because its parts are
        self.read = read

    def forward(self, features: Sequence[Tensor]) -> dict[str, HeadOutput]:
        """Computes the output of each branch.

        Args:
            features: one (N, channels, h, w) per level, finest first.
        """
        found = {}
        if self._computes(ONE_TO_MANY):
            found[ONE_TO_MANY] = self.many(features)
        if self._computes(ONE_TO_ONE):
            found[ONE_TO_ONE] = self.one_to_one([x.detach() for x in features])
        return found

    def train(self, mode: bool = True) -> Dual:
        self.many.train(mode)
        return super().train(mode)

    def _computes(self, branch: str) -> bool:
        return self.training or self.read in (None, branch)
