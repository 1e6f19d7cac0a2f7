"""What a rule does on its way to its answer, for whoever records it: the page of `inspection`.

Nobody does in a training: then a note is a comparison with None, and nothing is computed, kept or
waited for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor


class Recorder(Protocol):
    """Is told of every step that goes through the helpers of `pairs`, and of every answer."""

    def note(self, values: dict[str, Any]) -> None:
        """What `note` is given."""

    def chosen(self, pairs: Any, score: Tensor, k: int, boxes: int, places: Tensor) -> None:
        """`best_of_box` is called, and finds `places` (T, k) of the pairs; others are negative."""

    def resolved(self, pairs: Any, selected: Tensor, score: Tensor, index: Tensor) -> None:
        """`resolve` is called, and gives the gt_index (N, P)."""

    def capped(self, pairs: Any, kept: Tensor, score: Tensor, index: Tensor) -> None:
        """The same `resolve` has a limit: of the pairs that exist, which have won, it leaves those
        `kept`, and gives the gt_index (N, P)."""

    def begin(self, rule: Any) -> None:
        """A rule is asked; a rule around another asks that one before it ends."""

    def end(self, priors: Any, gt: Any, predictions: Any, found: Any) -> None:
        """It answers with the `Assignment`."""


recorder: Recorder | None = None


def note(**values: Tensor | float | str) -> None:
    """Says how the rule comes to its answer; it changes nothing, and costs nothing in a training.

    The names are shown as they are, with blanks for underscores. Call it before `best_of_box` or
    `resolve`, with tensors that broadcast to the pairs given there; in a rule for one image, with
    (P, G), (P, 1) or (G,), once.

    A number (floating-point or integer) is shown beside each pair. `threshold` is what the score
    must reach. A bool is something that a pair must be: where it is False and the prior does not go
    to the pair's box, that is why. A text says what the value of that name is, as score="-area".
    `box`: (M,) the gt of each pair, where `best_of_box` is given groups in place of boxes.
    """
    if recorder is not None:
        recorder.note(values)


@contextmanager
def recording(to: Recorder) -> Iterator[None]:
    """Rules that are called inside tell `to`; compiled ones run as they are written."""
    with told(to), torch.compiler.set_stance("force_eager"):
        yield


@contextmanager
def told(to: Recorder) -> Iterator[None]:
    """The same, for steps of a training, in which everything runs as it does without."""
    global recorder
    before, recorder = recorder, to
    try:
        yield
    finally:
        recorder = before
