"""Computes a batch part by part, which keeps the activations of only one part at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dynamic_atss.modeling.branches import Outputs
from dynamic_atss.modeling.head import joined_outputs

Network = Callable[..., Outputs]


def in_parts(network: Network, module: nn.Module, parts: int, *inputs: Tensor) -> Outputs:
    """Computes network(*inputs) for `parts` parts of the images in turn.

    Gives the output of the entire batch, so that rule, losses and collective calls see all images.
    All parts except the last keep no activations. The backward pass computes them again with the
    same random numbers and buffers.

    Args:
        network: gives the head's output for a part of each input.
        module: holds the network's buffers.
        inputs: (N, ...) each.
    """
    *first, last = zip(*(x.chunk(parts) for x in inputs), strict=True)
    outputs = [_without_activations(network, module, part) for part in first]
    return joined_outputs([*outputs, network(*last)])


def _without_activations(network: Network, module: nn.Module, part: tuple[Tensor, ...]) -> Outputs:
    before = _buffers(module)

    def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
        return contextlib.nullcontext(), _with_buffers(before)

    return checkpoint(network, *part, use_reentrant=False, context_fn=contexts)


def _buffers(module: nn.Module) -> list[tuple[nn.Module, str, Tensor]]:
    """Copies all buffers, with their modules and names."""
    return [
        (owner, name, buffer.clone())
        for owner in module.modules()
        for name, buffer in owner.named_buffers(recurse=False)
    ]


@contextlib.contextmanager
def _with_buffers(values: list[tuple[nn.Module, str, Tensor]]) -> Iterator[None]:
    """Replaces the buffers inside the context.

    Discards changes of them, so that running statistics are not updated twice.
    """
    now = [(owner, name, getattr(owner, name)) for owner, name, _ in values]
    try:
        _put(values)
        yield
    finally:
        _put(now)


def _put(values: list[tuple[nn.Module, str, Tensor]]) -> None:
    for owner, name, value in values:
        setattr(owner, name, value)
