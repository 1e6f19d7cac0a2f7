"""Reports the steps of a rule to a recorder, such as that of `inspection`.

A training has no recorder. Then a note costs only a comparison with None.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor


class Recorder(Protocol):
    """Receives every step that uses the helpers of `pairs`, and every answer."""

    def note(self, values: dict[str, Any]) -> None:
        """Receives the arguments of `note`."""

    def chosen(self, pairs: Any, score: Tensor, k: int, boxes: int, places: Tensor) -> None:
        """Receives a call of `best_of_box` and the places (T, k) of the pairs. Below 0: no pair."""

    def resolved(self, pairs: Any, selected: Tensor, score: Tensor, index: Tensor) -> None:
        """Receives a call of `resolve` and the gt_index (N, P)."""

    def capped(self, pairs: Any, kept: Tensor, score: Tensor, index: Tensor) -> None:
        """Receives the second step of a `resolve` with `per_box`.

        The existing pairs are those that have won. `kept` are those that stay, and `index` is the
        gt_index (N, P).
        """

    def begin(self, rule: Any) -> None:
        """Receives the start of a call of a rule. A wrapper calls its inner rule before `end`."""

    def end(self, priors: Any, gt: Any, predictions: Any, found: Any) -> None:
        """Receives the arguments of the rule and the `Assignment` that it returns."""


recorder: Recorder | None = None


def note(**values: Tensor | float | str) -> None:
    """Explains a step of a rule to the recorder. It does not change the assignment.

    Call it before `best_of_box` or `resolve`, with tensors that broadcast to the pairs given there.
    A rule for one image calls it once with (P, G), (P, 1) or (G,). Names are shown with spaces
    instead of underscores.

    Args:
        values: by name. A number is shown for each pair. A bool is a condition. Where it is False,
            it explains why the pair's box does not get the prior. A text describes the value of
            that name, such as score="-area". `threshold` is the limit that the score must reach.
            `box` is the gt of each pair (M,). It is needed if `best_of_box` gets groups, not boxes.
    """
    if recorder is not None:
        recorder.note(values)


@contextmanager
def record_with(to: Recorder, *, eager: bool = False) -> Iterator[None]:
    """Sends the notes of rules to the recorder inside the context.

    Args:
        to: receives the notes.
        eager: runs compiled rules without compilation, so that they report every step.
    """
    global recorder
    before, recorder = recorder, to
    try:
        with torch.compiler.set_stance("force_eager") if eager else nullcontext():
            yield
    finally:
        recorder = before
