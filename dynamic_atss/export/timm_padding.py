"""timm's "same" padding of any size, for as long as a model is traced."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

NAME = "get_same_padding"


@contextmanager
def in_whole_numbers() -> Iterator[None]:
    """timm rounds a quotient of floats up, which a trace keeps as it is; after some convolutions
    the sizes are expressions that take minutes to compare. The quotient of integers stays short."""
    padding = sys.modules.get("timm.layers.padding")  # imported where a body is timm's
    own = getattr(padding, NAME, None)
    if own is None:
        yield
        return
    setattr(padding, NAME, same_padding)
    try:
        yield
    finally:
        setattr(padding, NAME, own)


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> int:
    """Of both ends: so much that ceil(size / stride) windows fit."""
    return max((size - 1) // stride * stride + (kernel - 1) * dilation + 1 - size, 0)
