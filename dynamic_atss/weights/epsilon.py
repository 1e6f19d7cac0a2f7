"""Adds batch norm's epsilon to the variance of frozen norms, or subtracts it.

The frozen norm of the published detectors divides by sqrt(variance). The batch norm of torchvision
and mmdetection divides by sqrt(variance + 1e-5). In files of this project and of the releases, an
entry `X.running_var` without `X.num_batches_tracked` belongs to a frozen norm.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

EPS = 1e-5  # torch's default
COUNTER = ".num_batches_tracked"
_VARIANCE = ".running_var"


def add_epsilon(variance: Tensor) -> Tensor:
    """Returns variance + 1e-5, summed in float64 and rounded once."""
    return (variance.double() + EPS).to(variance.dtype)


def take_epsilon(variance: Tensor) -> Tensor:
    """Returns variance - 1e-5. `add_epsilon` restores the variance to the bit if it is >= 1e-5."""
    return (variance.double() - EPS).to(variance.dtype)


def frozen_variances(names: Mapping[str, Tensor]) -> list[str]:
    """Returns the names of the variances of norms without a counter of batches."""
    ends = [name.removesuffix(_VARIANCE) for name in names if name.endswith(_VARIANCE)]
    return [name + _VARIANCE for name in ends if name + COUNTER not in names]
