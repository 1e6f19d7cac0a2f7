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
Buffers = list[tuple[nn.Module, str, Tensor]]


def in_parts(
    network: Network,
    module: nn.Module,
    parts: int,
    *inputs: Tensor,
    copies: list[list[Tensor]] | None = None,
) -> Outputs:
    """Computes network(*inputs) for `parts` parts of the images in turn.

    Gives the output of the entire batch, so that rule, losses and collective calls see all images.
    All parts except the last keep no activations. The backward pass computes them again with the
    same random numbers and buffers.

    Args:
        network: gives the head's output for a part of each input.
        module: holds the network's buffers.
        inputs: (N, ...) each.
        copies: keeps the memory for the buffers of each part from step to step. It is filled by the
            first step. Then a step must end with its backward pass before the next one begins.
            None: each step has memory of its own.
    """
    *first, last = zip(*(x.chunk(parts) for x in inputs), strict=True)
    outputs = []
    for number, part in enumerate(first):
        before = _buffers(module)
        values = _copied([buffer for _, _, buffer in before], copies, number)
        kept = [(owner, name, x) for (owner, name, _), x in zip(before, values, strict=True)]
        outputs.append(_without_activations(network, kept, part))
    return joined_outputs([*outputs, network(*last)])


def _copied(buffers: list[Tensor], copies: list[list[Tensor]] | None, number: int) -> list[Tensor]:
    """Copies the buffers, into those of part `number` if there are some."""
    if copies is None or number == len(copies):
        made = [buffer.clone() for buffer in buffers]
        if copies is not None:
            copies.append(made)
        return made
    for copy, buffer in zip(copies[number], buffers, strict=True):
        copy.copy_(buffer)
    return copies[number]


def _without_activations(network: Network, before: Buffers, part: tuple[Tensor, ...]) -> Outputs:
    def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
        return contextlib.nullcontext(), _with_buffers(before)

    return checkpoint(network, *part, use_reentrant=False, context_fn=contexts)


def _buffers(module: nn.Module) -> Buffers:
    """Gives all buffers, with their modules and names."""
    return [
        (owner, name, buffer)
        for owner in module.modules()
        for name, buffer in owner.named_buffers(recurse=False)
    ]


@contextlib.contextmanager
def _with_buffers(values: Buffers) -> Iterator[None]:
    """Replaces the buffers inside the context.

    Discards changes of them, so that running statistics are not updated twice.
    """
    now = [(owner, name, getattr(owner, name)) for owner, name, _ in values]
    try:
        _put(values)
        yield
    finally:
        _put(now)


def _put(values: Buffers) -> None:
    for owner, name, value in values:
        setattr(owner, name, value)
