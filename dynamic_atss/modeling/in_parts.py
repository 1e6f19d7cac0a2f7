"""A batch through the network part by part: the activations of one part at a time."""

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
    """network(*inputs), computed for `parts` parts of the images one after another.

    What follows sees the outputs of the whole batch, so that losses, and the collective and the
    rule in them, are those of the whole. All parts but the last keep no activations: the backward
    pass computes them again, with the random numbers and the buffers of the first time.

    Args:
        network: (part of each input) -> the head's output for it.
        module: what holds the network's buffers.
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
    """Copies of all buffers, each with its place."""
    return [
        (owner, name, buffer.clone())
        for owner in module.modules()
        for name, buffer in owner.named_buffers(recurse=False)
    ]


@contextlib.contextmanager
def _with_buffers(values: list[tuple[nn.Module, str, Tensor]]) -> Iterator[None]:
    """Inside, these are the buffers; what is written to them (running statistics, a second time)
    is forgotten."""
    now = [(owner, name, getattr(owner, name)) for owner, name, _ in values]
    try:
        _put(values)
        yield
    finally:
        _put(now)


def _put(values: list[tuple[nn.Module, str, Tensor]]) -> None:
    for owner, name, value in values:
        setattr(owner, name, value)
