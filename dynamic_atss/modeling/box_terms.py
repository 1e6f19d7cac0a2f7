"""Box losses by name: (raw, decoded, targets, weight, priors) -> {name: sum over the priors}.

raw (N, P, R) as the head gives it · decoded (N, P, 4) and targets (N, P, 4), boxes · weight (N, P),
0 where a prior learns no box · priors, `Priors`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from dynamic_atss.losses import giou_loss, iou_loss
from dynamic_atss.types import Priors

BoxTerm = Callable[[Tensor, Tensor, Tensor, Tensor, Priors], dict[str, Tensor]]


class GIoUTerm:
    def __call__(
        self, raw: Tensor, decoded: Tensor, targets: Tensor, weight: Tensor, priors: Priors
    ) -> dict[str, Tensor]:
        return {"loss_reg": giou_loss(decoded, targets, weight)}


class IoUTerm:
    def __init__(self, kind: str, plus: str = "") -> None:
        self.kind, self.plus = kind, plus

    def __call__(
        self, raw: Tensor, decoded: Tensor, targets: Tensor, weight: Tensor, priors: Priors
    ) -> dict[str, Tensor]:
        plus = {"": 0.0, "pixel": 1.0}.get(self.plus, priors.strides.square())
        return {"loss_reg": iou_loss(decoded, targets, weight, self.kind, plus)}


BOX_LOSSES: Mapping[str, BoxTerm] = {
    "iou": IoUTerm("iou"),
    "linear_iou": IoUTerm("linear_iou"),
    "giou": GIoUTerm(),
}
