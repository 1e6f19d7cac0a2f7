"""Losses, gradients and weights that are not finite: how they are found, what is told of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable

from torch import Tensor, nn

from dynamic_atss.engine import distributed
from dynamic_atss.engine.report import Status
from dynamic_atss.types import Batch


def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    """The norm of all gradients, on their device: nothing waits for it."""
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


def what_is_not_finite(
    model: nn.Module,
    status: Status,
    batch: Batch,
    largest_logit: Callable[[], float] | None,
) -> str:
    """The term, the images of all processes and the largest logit of an iteration that is not
    finite; the same on all. A collective, so call it on all.

    model: the detector · batch: of this process · largest_logit: of this process, in absolute value
    """
    own = list(batch.image_ids), largest_logit() if largest_logit else None
    ids, logits = zip(*distributed.gather(own), strict=True)
    parts = [_terms(model, status), f"on image ids {sorted(itertools.chain(*ids))}"]
    if largest_logit:
        parts.append(f"the largest logit is {_largest(logits):.4g}")
    return ", ".join(parts)


def _terms(model: nn.Module, status: Status) -> str:
    terms = [f"{name} {value:.4g}" for name, value in status.losses.items()]
    if all(map(math.isfinite, status.losses.values())):
        name = first_not_finite((n, p.grad) for n, p in model.named_parameters())
        where = f"the gradient of {name}" if name else "the norm of the gradient"
        return f"{where} is not finite ({', '.join(terms)})"
    return f"the loss is not finite ({', '.join(terms)})"


def _largest(values: Iterable[float]) -> float:
    """NaN if one is."""
    return max(values, key=lambda x: math.inf if math.isnan(x) else x)


def parts(model: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """The parameters and buffers of a model, by name."""
    return itertools.chain(model.named_parameters(), model.named_buffers())


def first_not_finite(tensors: Iterable[tuple[str, Tensor | None]]) -> str:
    """The name of the first of some tensors that holds NaN or an infinity; "" if none does."""
    for name, tensor in tensors:
        if tensor is not None and not bool(tensor.isfinite().all()):
            return name
    return ""
