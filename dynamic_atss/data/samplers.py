"""Which images make a batch, as pure functions of the seed: nothing needs saving to resume."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from torch.utils.data import Sampler

Key = tuple[int, int]


def aspect_groups(sizes: np.ndarray) -> list[int]:
    """The group of each image, 0: landscape, 1: h / w >= 1; sizes (n, 2) height, width."""
    return (sizes[:, 0] >= sizes[:, 1]).astype(int).tolist()


def repeat_factors(
    image: np.ndarray, classes: np.ndarray, size: int, threshold: float
) -> np.ndarray:
    """How often an image is to be seen in an epoch, (size,) float64 >= 1 (LVIS, arXiv 1908.03195).

    f(c) is the fraction of the `size` images that hold class c; r(c) = max(1, sqrt(threshold /
    f(c))); an image takes the largest r of its classes, 1 without boxes. image, classes (A,): those
    of every box.
    """
    pairs = np.unique(np.stack([image, classes]), axis=1)
    fraction = np.bincount(pairs[1]) / size
    factors = np.ones(size)
    np.maximum.at(factors, pairs[0], np.sqrt(threshold / fraction[pairs[1]]))
    return factors


def epoch_indices(
    size: int, seed: int, epoch: int, factors: np.ndarray | None = None
) -> np.ndarray:
    """The images of an epoch in random order, which (seed, epoch) determines.

    Each once; with `factors` (size,) each that often, where the fraction is a probability.
    """
    rng = np.random.default_rng((seed, epoch))
    if factors is None:
        return rng.permutation(size)
    whole = np.floor(factors)
    times = whole + (rng.random(size) < factors - whole)
    return rng.permutation(np.repeat(np.arange(size), times.astype(np.int64)))


def training_batches(
    groups: Sequence[int] | None,
    size: int,
    batch_size: int,
    seed: int,
    factors: np.ndarray | None = None,
) -> Iterator[list[Key]]:
    """The endless stream of global batches of (index, position in the stream of samples).

    The images of an epoch are those of `epoch_indices`. With `groups`, (size,), a batch holds
    images of one group; what is left of a group at the end of an epoch waits for the next, so that
    none is lost. Raises ValueError for an empty data set, which would never yield.
    """
    if size < 1 or batch_size < 1:
        raise ValueError(f"size {size} and batch_size {batch_size} must be positive")
    waiting: dict[int, list[Key]] = defaultdict(list)
    epoch = position = 0
    while True:
        for index in epoch_indices(size, seed, epoch, factors).tolist():
            bucket = waiting[groups[index] if groups is not None else 0]
            bucket.append((index, position))
            position += 1
            if len(bucket) == batch_size:
                yield bucket.copy()
                bucket.clear()
        epoch += 1


class TrainingSampler(Sampler[list[Key]]):
    """One rank's share of the global batches number start..stop-1.

    The global batch is cut into world_size equal parts, one for each rank, so that their union is
    the global batch, the same for any number of ranks.
    """

    def __init__(
        self,
        groups: Sequence[int] | None,
        size: int,
        batch_size: int,
        seed: int,
        *,
        rank: int,
        world_size: int,
        start: int,
        stop: int,
        factors: np.ndarray | None = None,
    ) -> None:
        """batch_size: of the global batch · factors (size,): see `epoch_indices`.

        Raises ValueError if batch_size does not divide.
        """
        if batch_size % world_size:
            raise ValueError(f"{batch_size} does not divide by {world_size}")
        self.stream = (groups, size, batch_size, seed, factors)
        part = batch_size // world_size
        self.share = slice(rank * part, (rank + 1) * part)
        self.start, self.stop = start, stop

    def __len__(self) -> int:
        return max(self.stop - self.start, 0)

    def __iter__(self) -> Iterator[list[Key]]:
        for batch in islice(training_batches(*self.stream), self.start, self.stop):
            yield batch[self.share]


def inference_batches(sizes: np.ndarray, batch_size: int, group: bool) -> list[list[int]]:
    """Every image once, in ascending order; sizes (n, 2) height, width.

    With `group`, landscape images first, then the others, and no batch holds both.
    Rank r of W takes batches r, r + W, ...
    """
    groups = np.array(aspect_groups(sizes)) if group else np.zeros(len(sizes), dtype=int)
    batches = []
    for value in (0, 1):
        indices = np.flatnonzero(groups == value).tolist()
        batches += [indices[i : i + batch_size] for i in range(0, len(indices), batch_size)]
    return batches
