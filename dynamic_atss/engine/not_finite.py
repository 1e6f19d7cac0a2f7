"""Finds losses, gradients and weights that are not finite, and describes them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable

from torch import Tensor, nn

from dynamic_atss.engine import distributed
from dynamic_atss.engine.report import Status
from dynamic_atss.types import Batch


def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    """Gives the norm of all gradients, on their device, without waiting for it."""
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


def describe_not_finite(
    model: nn.Module,
    status: Status,
    batch: Batch,
    largest_logit: Callable[[], float] | None,
) -> str:
    """Describes an iteration that is not finite: the term, all image ids and the largest logit.

    It is a collective: call it on all processes. All get the same text.

    Args:
        model: the detector.
        status: the losses and metrics of the iteration.
        batch: the batch of this process.
        largest_logit: gives the largest logit of this process, in absolute value.
    """
    local = list(batch.image_ids), largest_logit() if largest_logit else None
    ids, logits = zip(*distributed.gather(local), strict=True)
    texts = [_terms(model, status), f"on image ids {sorted(itertools.chain(*ids))}"]
    if largest_logit:
        texts.append(f"the largest logit is {_largest(logits):.4g}")
    return ", ".join(texts)


def _terms(model: nn.Module, status: Status) -> str:
    terms = [f"{name} {value:.4g}" for name, value in status.losses.items()]
    if all(map(math.isfinite, status.losses.values())):
        name = first_not_finite((n, p.grad) for n, p in model.named_parameters())
        where = f"the gradient of {name}" if name else "the norm of the gradient"
        return f"{where} is not finite ({', '.join(terms)})"
    return f"the loss is not finite ({', '.join(terms)})"


def _largest(values: Iterable[float]) -> float:
    """Gives the largest value; NaN if any value is NaN."""
    return max(values, key=lambda x: math.inf if math.isnan(x) else x)


def named_tensors(model: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """Gives the parameters and buffers of a model, by name."""
    return itertools.chain(model.named_parameters(), model.named_buffers())


def first_not_finite(tensors: Iterable[tuple[str, Tensor | None]]) -> str:
    """Gives the name of the first tensor that holds NaN or an infinity; "" if none does."""
    for name, tensor in tensors:
        if tensor is not None and not bool(tensor.isfinite().all()):
            return name
    return ""
