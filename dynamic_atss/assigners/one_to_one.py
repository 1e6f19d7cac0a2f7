"""Matches boxes and priors one to one with the largest sum of values, exactly, on the CPU.

Uses Jonker and Volgenant's form of the Hungarian method (Computing 1987) on a list of pairs instead
of a full matrix. It works only on boxes that want the same prior, and on those near them.
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
    """Flags the matched pairs, (M,). A box may stay unmatched.

    Args:
        box: (M,) in increasing order, from 0 to boxes - 1.
        prior: (M,). No pair may occur twice.
        value: (M,) above 0.
        boxes: number of boxes.
    """
    box_index, priors, values = (x.cpu().numpy() for x in (box, prior, value.double()))
    chosen = torch.from_numpy(_Matching(box_index, priors, values, boxes).solved()).to(box.device)
    return torch.zeros_like(box, dtype=torch.bool).index_fill_(0, chosen, True)


class _End(NamedTuple):
    """Describes the end of a path and its loss: a free prior, or a box that gives up its prior."""

    loss: float
    prior: int
    box: int


class _Matching:
    """Keeps prices of priors and profits of boxes, which prove that the sum is the largest.

    For every pair, profit + price >= value. For matched pairs the two sides are equal.
    """

    def __init__(self, box: np.ndarray, prior: np.ndarray, value: np.ndarray, boxes: int) -> None:
        self.prior, self.value = prior, value
        self.first = np.searchsorted(box, np.arange(boxes + 1)).tolist()
        profit = np.zeros(boxes)
        np.maximum.at(profit, box, value)
        self.profit = profit.tolist()
        self.price: dict[int, float] = {}  # other priors have the price 0
        self.pair = [NONE] * boxes
        self.owner: dict[int, int] = {}
        best = np.flatnonzero(value == profit[box])
        self.best = best[np.unique(box[best], return_index=True)[1]]  # the first of equal ones
        self.wanting = box[self.best].tolist()

    def solved(self) -> np.ndarray:
        """Gives the matched pairs."""
        left = []
        for box, pair in zip(self.wanting, self.best.tolist(), strict=True):
            if self.owner.setdefault(int(self.prior[pair]), box) == box:
                self.pair[box] = pair
            else:
                left.append(box)
        for box in left:
            self._add(box)
        pairs = np.array(self.pair, dtype=np.int64)
        return pairs[pairs != NONE]

    def _add(self, start: int) -> None:
        """Adds a box to the matching by the changes with the least loss. It may stay unmatched."""
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
        """Finds the best path by Dijkstra's algorithm. Fills `path`.

        Of equal losses, takes the lowest prior.

        Returns:
            the end of the path, and the losses of the visited boxes.
        """
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
        """Queues the priors that a box could take, by the loss of doing so."""
        begin, end = self.first[box], self.first[box + 1]
        priors, values = self.prior[begin:end].tolist(), self.value[begin:end].tolist()
        start = loss + self.profit[box]
        for pair, (prior, value) in enumerate(zip(priors, values, strict=True), begin):
            total = max(start + self.price.get(prior, 0.0) - value, loss)  # rounding must not gain
            if total < known.get(prior, np.inf):
                known[prior] = total
                path[prior] = pair, box
                heapq.heappush(queue, (total, prior))
