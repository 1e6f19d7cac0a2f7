"""Replaces timm's "same" padding while a model is traced."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

NAME = "get_same_padding"


@contextmanager
def integer_padding() -> Iterator[None]:
    """Computes timm's padding with integers.

    timm rounds up a quotient of floats. A trace keeps such expressions, and after some
    convolutions it takes minutes to compare them. Quotients of integers stay short.
    """
    padding = sys.modules.get("timm.layers.padding")  # None: the body is not from timm
    original = getattr(padding, NAME, None)
    if original is None:
        yield
        return
    setattr(padding, NAME, same_padding)
    try:
        yield
    finally:
        setattr(padding, NAME, original)


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> int:
    """Gives the padding of both ends together, with which ceil(size / stride) windows fit."""
    return max((size - 1) // stride * stride + (kernel - 1) * dilation + 1 - size, 0)
