"""The epsilon of batch norm, which frozen norms have inside their variance.

The frozen norm of the published detectors divides by sqrt(variance); the batch norm of torchvision
and mmdetection by sqrt(variance + 1e-5). By name: an entry `X.running_var` without
`X.num_batches_tracked` beside it is a frozen norm's in files of this project and of the releases.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

EPS = 1e-5  # torch's default
COUNTER = ".num_batches_tracked"
_VARIANCE = ".running_var"


def add_epsilon(variance: Tensor) -> Tensor:
    """Variance + 1e-5, rounded once: summed in float64."""
    return (variance.double() + EPS).to(variance.dtype)


def take_epsilon(variance: Tensor) -> Tensor:
    """What gives `variance` again, to the bit, when epsilon is added to it (from 1e-5 on)."""
    return (variance.double() - EPS).to(variance.dtype)


def frozen_variances(names: Mapping[str, Tensor]) -> list[str]:
    """The variances of norms without a counter of batches."""
    ends = [name.removesuffix(_VARIANCE) for name in names if name.endswith(_VARIANCE)]
    return [name + _VARIANCE for name in ends if name + COUNTER not in names]
