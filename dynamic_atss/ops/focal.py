"""Computes focal losses with sparse targets: a class index per prior instead of an (M, C) target.

`classes` (M,) is int64. 0..C-1: positives. BACKGROUND = -1: all C classes are negatives.
IGNORE = -2: the prior does not count. Value and gradient come from one pass over the logits, and
the gradient is the only other (M, C) tensor.

Every loss is a sum over the rows, divided by `divisor`, a tensor with one number and without
gradient. Dividing here saves a second pass over the gradient. The loss is float32 (float64 for
float64). Other shapes, dtypes and devices raise ValueError.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dynamic_atss.ops.focal_terms import (
    QUALITY,
    SIGMOID,
    VARIFOCAL,
    negative_term,
    positive_term,
)
from dynamic_atss.ops.library import define
from dynamic_atss.types import IGNORE

_TENSORS = 4  # the operator's first arguments: logits, classes, quality, divisor
_NO_OTHERS = (None,) * 6  # gradients of the other arguments


def quality_focal_loss(
    logits: Tensor,
    classes: Tensor,
    quality: Tensor,
    gamma: float = 2.0,
    divisor: Tensor | None = None,
) -> Tensor:
    """Sums |q - p|^gamma BCE(p, q). q is the quality for a positive's class and 0 elsewhere.

    Li et al., NeurIPS 2020. Used by the Dynamic ATSS release.

    Args:
        logits: (M, C).
        classes: (M,), see above.
        quality: (M,) in [0, 1], used for positives only.
    """
    return _focal(logits, classes, quality, divisor, QUALITY, 0.0, gamma)


def varifocal_loss(
    logits: Tensor,
    classes: Tensor,
    quality: Tensor,
    alpha: float = 0.75,
    gamma: float = 2.0,
    divisor: Tensor | None = None,
) -> Tensor:
    """Sums q BCE(p, q) for a positive's class, and alpha p^gamma BCE(p, 0) elsewhere.

    q is the quality. A positive of quality 0 counts as elsewhere. Zhang et al., CVPR 2021, arXiv
    2008.13367.

    Args:
        logits: (M, C).
        classes: (M,), see above.
        quality: (M,) in [0, 1], used for positives only.
    """
    if alpha < 0:
        raise ValueError(f"varifocal loss: alpha is {alpha}; it must be at least 0")
    return _focal(logits, classes, quality, divisor, VARIFOCAL, alpha, gamma)


def sigmoid_focal_loss(
    logits: Tensor,
    classes: Tensor,
    alpha: float = 0.25,
    gamma: float = 2.0,
    divisor: Tensor | None = None,
) -> Tensor:
    """Sums the focal loss with target 1 for a positive's class and 0 elsewhere.

    Lin et al., ICCV 2017.

    Args:
        logits: (M, C).
        classes: (M,), see above.
        alpha: weight of positives. Negatives have 1 - alpha. Below 0: both weights are 1, as in
            torchvision.
    """
    if alpha < 0:
        return 2 * _focal(logits, classes, None, divisor, SIGMOID, 0.5, gamma)
    return _focal(logits, classes, None, divisor, SIGMOID, alpha, gamma)


def sigmoid_focal_rows(
    logits: Tensor, rows: Tensor, classes: Tensor, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    """Gives the loss of `sigmoid_focal_loss` for each of the M rows, (M,), without a gradient.

    Args:
        logits: (R, C).
        rows: (M,) int64, 0..R-1.
        classes: (M,), see above.
    """
    if alpha < 0:
        return 2 * _ROWS(logits.detach(), rows, classes, 0.5, gamma)
    return _ROWS(logits.detach(), rows, classes, alpha, gamma)


def _focal(
    logits: Tensor,
    classes: Tensor,
    quality: Tensor | None,
    divisor: Tensor | None,
    kind: int,
    alpha: float,
    gamma: float,
) -> Tensor:
    _check(logits, classes, quality, divisor, needs_quality=kind != SIGMOID)
    dtype = torch.promote_types(logits.dtype, torch.float32)
    quality, divisor = (None if x is None else x.detach().to(dtype) for x in (quality, divisor))
    arguments = (logits, classes, quality, divisor, kind, alpha, gamma)
    # torch.compile cannot trace the change in place. It fuses the scaling by itself.
    return _OP(*arguments)[0] if torch.compiler.is_compiling() else _OnePass.apply(*arguments)


def _check(
    logits: Tensor,
    classes: Tensor,
    quality: Tensor | None,
    divisor: Tensor | None,
    needs_quality: bool,
) -> None:
    given = [x for x in (logits, classes, quality, divisor) if x is not None]
    if len({x.device for x in given}) > 1:
        raise ValueError(f"focal loss: tensors on {', '.join(str(x.device) for x in given)}")
    if logits.dim() != 2 or not logits.is_floating_point() or not logits.shape[1]:
        raise ValueError(f"focal loss: logits are {_kind(logits)}; give (M, C) floats, C > 0")
    if classes.shape != logits.shape[:1] or classes.dtype != torch.int64:
        raise ValueError(f"focal loss: classes are {_kind(classes)}; give ({len(logits)},) int64")
    if needs_quality and (quality is None or quality.shape != classes.shape):
        raise ValueError(f"focal loss: quality is {_kind(quality)}; give ({len(logits)},)")
    if divisor is not None and divisor.numel() != 1:
        raise ValueError(f"focal loss: divisor is {_kind(divisor)}; give one number")


def _kind(x: Tensor | None) -> str:
    return "None" if x is None else f"{tuple(x.shape)} {x.dtype}"


class _OnePass(torch.autograd.Function):
    """Scales the operator's gradient in place. The backward of `_OP` would need a second one."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        loss, gradient = _OP(*arguments)
        ctx.gradient = gradient if _holds_gradient(gradient.dtype) else None
        ctx.save_for_backward(*arguments[:_TENSORS])
        ctx.numbers = arguments[_TENSORS:]
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        arguments = *ctx.saved_tensors, *ctx.numbers
        if not _holds_gradient(arguments[0].dtype):
            return _scaled_gradient(upstream, *arguments), *_NO_OTHERS
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:  # the second backward of a retained graph
            gradient = _OP(*arguments)[1]
        _SCALE(gradient, upstream)
        return gradient, *_NO_OTHERS


def _holds_gradient(dtype: torch.dtype) -> bool:
    """Returns True if the gradient may be stored before it is scaled.

    In float16 most of it would become 0 before a gradient scaler's factor is applied.
    """
    return dtype != torch.float16


def _scaled_gradient(
    upstream: Tensor,
    logits: Tensor,
    classes: Tensor,
    quality: Tensor | None,
    divisor: Tensor | None,
    *numbers: Any,
) -> Tensor:
    """Gives the gradient times `upstream` in one pass over the logits."""
    scaled_divisor = upstream.reciprocal() if divisor is None else divisor / upstream
    return _OP(logits, classes, quality, scaled_divisor, *numbers)[1]


def _loss_and_gradient(
    logits: Tensor,
    classes: Tensor,
    quality: Tensor | None,
    divisor: Tensor | None,
    kind: int,
    alpha: float,
    gamma: float,
) -> tuple[Tensor, Tensor]:
    """Defines the operator: computes all classes as negatives, then replaces the positives'."""
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    loss, gradient = negative_term(precise, (1 - alpha, 1.0, alpha)[kind], gamma)
    x, place = _of_class(precise, classes)
    for table, term in zip(
        (loss, gradient), positive_term(x, quality, kind, alpha, gamma), strict=True
    ):
        at_class = torch.where(classes >= 0, term, table.gather(1, place)[:, 0])
        table.scatter_(1, place, at_class[:, None]).masked_fill_((classes == IGNORE)[:, None], 0.0)
    total = loss.sum()
    if divisor is not None:
        total, gradient = total / divisor.reshape(()), gradient / divisor
    return total, gradient.to(logits.dtype, memory_format=torch.contiguous_format)


def _of_class(logits: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Gives each row's logit of its class (M,), or of class 0, and the place (M, 1)."""
    place = classes.clamp(min=0)[:, None]
    return logits.gather(1, place)[:, 0], place


def _losses_of_rows(
    logits: Tensor, rows: Tensor, classes: Tensor, alpha: float, gamma: float
) -> Tensor:
    precise = logits.index_select(0, rows).to(torch.promote_types(logits.dtype, torch.float32))
    x, place = _of_class(precise, classes)
    negative, _ = negative_term(precise, 1 - alpha, gamma)
    negative_of_class, _ = negative_term(x, 1 - alpha, gamma)
    positive, _ = positive_term(x, None, SIGMOID, alpha, gamma)
    at_class = torch.where(classes >= 0, positive, negative_of_class)
    return torch.where(classes == IGNORE, 0.0, negative.scatter(1, place, at_class[:, None]).sum(1))


def _fake(logits: Tensor, classes: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    loss = logits.new_empty((), dtype=torch.promote_types(logits.dtype, torch.float32))
    return loss, torch.empty_like(logits, memory_format=torch.contiguous_format)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    gradient = output[1]
    ctx.holds = _holds_gradient(gradient.dtype)
    ctx.save_for_backward(*([gradient] if ctx.holds else inputs[:_TENSORS]))
    ctx.numbers = inputs[_TENSORS:]
    ctx.mark_non_differentiable(gradient)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, upstream: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    if upstream is None:
        return None, *_NO_OTHERS
    if not ctx.holds:
        return _scaled_gradient(upstream, *ctx.saved_tensors, *ctx.numbers), *_NO_OTHERS
    (gradient,) = ctx.saved_tensors
    return (gradient * upstream).to(gradient.dtype), *_NO_OTHERS


def _scale(gradient: Tensor, factor: Tensor) -> None:
    if gradient.device.type != "cpu" or factor != 1:  # comparing would wait for another device
        gradient.mul_(factor)


_OP = define(
    "focal_loss(Tensor logits, Tensor classes, Tensor? quality, Tensor? divisor, int kind,"
    " float alpha, float gamma) -> (Tensor, Tensor)",
    _loss_and_gradient,
    _fake,
)
_ROWS = define(
    "focal_rows(Tensor logits, Tensor rows, Tensor classes, float alpha, float gamma) -> Tensor",
    _losses_of_rows,
    lambda logits, rows, *_: logits.new_empty(
        len(rows), dtype=torch.promote_types(logits.dtype, torch.float32)
    ),
)
torch.library.register_autograd("dynamic_atss::focal_loss", _backward, setup_context=_setup)
_SCALE = define(
    "scale_(Tensor(a!) gradient, Tensor factor) -> ()", _scale, lambda gradient, factor: None
)
