"""One prior for each box and one box for each prior, of the largest sum of values: exact, on the
host.

Jonker and Volgenant's form of the Hungarian method (Computing 1987), over pairs in place of a full
matrix: work is for the boxes that want the same prior, and for those around them.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

NONE = -1
Path = dict[int, tuple[int, int]]  # prior -> the pair and the box from which it is reached


def best_matching(box: Tensor, prior: Tensor, value: Tensor, boxes: int) -> Tensor:
    """(M,) bool: the pairs that are matched; boxes may be left without.

    Args:
        box: (M,) in rising order, of 0..boxes-1.
        prior: (M,), no pair twice.
        value: (M,) above 0.
        boxes: T.
    """
    own, priors, values = (x.cpu().numpy() for x in (box, prior, value.double()))
    chosen = torch.from_numpy(_Matching(own, priors, values, boxes).solved()).to(box.device)
    return torch.zeros_like(box, dtype=torch.bool).index_fill_(0, chosen, True)


class _End(NamedTuple):
    """Where a path ends: at a free prior, or at a box that gives its prior up; and its loss."""

    loss: float
    prior: int
    box: int


class _Matching:
    """Prices of priors and profits of boxes prove the sum: profit + price >= value for every pair,
    and equal for those that are matched."""

    def __init__(self, box: np.ndarray, prior: np.ndarray, value: np.ndarray, boxes: int) -> None:
        self.prior, self.value = prior, value
        self.first = np.searchsorted(box, np.arange(boxes + 1)).tolist()
        profit = np.zeros(boxes)
        np.maximum.at(profit, box, value)
        self.profit = profit.tolist()
        self.price: dict[int, float] = {}  # of the others 0
        self.pair = [NONE] * boxes
        self.owner: dict[int, int] = {}
        best = np.flatnonzero(value == profit[box])
        self.best = best[np.unique(box[best], return_index=True)[1]]  # the first of equal ones
        self.wanting = box[self.best].tolist()

    def solved(self) -> np.ndarray:
        """The matched pairs."""
        left = []
        for box, pair in zip(self.wanting, self.best.tolist(), strict=True):
            if self.owner.setdefault(int(self.prior[pair]), box) == box:
                self.pair[box] = pair
            else:
                left.append(box)
        for box in left:
            self._take_in(box)
        pairs = np.array(self.pair, dtype=np.int64)
        return pairs[pairs != NONE]

    def _take_in(self, start: int) -> None:
        """Gives one more box a prior, or none, by the changes of the least loss."""
        path: Path = {}
        end, settled = self._least_loss(start, path)
        for box, loss in settled.items():
            self.profit[box] -= end.loss - loss
            if box != start:
                prior = int(self.prior[self.pair[box]])
                self.price[prior] = self.price.get(prior, 0.0) + end.loss - loss
        prior = end.prior
        if prior == NONE and end.box != start:
            prior = int(self.prior[self.pair[end.box]])
            self.pair[end.box] = NONE
        while prior != NONE:
            pair, box = path[prior]
            before = self.pair[box]
            self.owner[prior], self.pair[box] = box, pair
            prior = NONE if box == start else int(self.prior[before])

    def _least_loss(self, start: int, path: Path) -> tuple[_End, dict[int, float]]:
        """The end of the best path, and the boxes on the way by their losses (Dijkstra); of equal
        losses the lowest prior. Fills `path`."""
        settled, known = {start: 0.0}, dict[int, float]()
        queue: list[tuple[float, int]] = []
        end = _End(self.profit[start], NONE, start)
        box, loss = start, 0.0
        while True:
            self._look_around(box, loss, known, path, queue)
            while queue and self.owner.get(queue[0][1]) in settled:
                heapq.heappop(queue)
            if not queue or queue[0][0] >= end.loss:
                return end, settled
            loss, prior = heapq.heappop(queue)
            if prior not in self.owner:
                return _End(loss, prior, NONE), settled
            box = self.owner[prior]
            settled[box] = loss
            if loss + self.profit[box] < end.loss:
                end = _End(loss + self.profit[box], NONE, box)

    def _look_around(
        self,
        box: int,
        loss: float,
        known: dict[int, float],
        path: Path,
        queue: list[tuple[float, int]],
    ) -> None:
        """Queues the priors that a box would take, by the loss of it."""
        begin, end = self.first[box], self.first[box + 1]
        priors, values = self.prior[begin:end].tolist(), self.value[begin:end].tolist()
        start = loss + self.profit[box]
        for pair, (prior, value) in enumerate(zip(priors, values, strict=True), begin):
            total = max(start + self.price.get(prior, 0.0) - value, loss)  # no loss by rounding
            if total < known.get(prior, np.inf):
                known[prior] = total
                path[prior] = pair, box
                heapq.heappush(queue, (total, prior))
