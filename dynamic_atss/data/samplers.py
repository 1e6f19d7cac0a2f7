"""Chooses the images of each batch by the seed alone, so that resuming needs no state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from torch.utils.data import Sampler

Key = tuple[int, int]


def aspect_groups(sizes: np.ndarray) -> list[int]:
    """Returns the group of each image: 0 for landscape, 1 for h / w >= 1.

    Args:
        sizes: (n, 2) height, width.
    """
    return (sizes[:, 0] >= sizes[:, 1]).astype(int).tolist()


def repeat_factors(
    image_index: np.ndarray, classes: np.ndarray, size: int, threshold: float
) -> np.ndarray:
    """Computes how often to show each image in an epoch (LVIS, arXiv 1908.03195).

    f(c) is the fraction of images with class c, and r(c) = max(1, sqrt(threshold / f(c))). An image
    gets the largest r of its classes. It gets 1 if it has no boxes.

    Args:
        image_index, classes: (A,) of all boxes.
        size: number of images.
        threshold: the fraction of images below which a class is shown more often.

    Returns (size,) float64 >= 1.
    """
    pairs = np.unique(np.stack([image_index, classes]), axis=1)
    fraction = np.bincount(pairs[1]) / size
    factors = np.ones(size)
    np.maximum.at(factors, pairs[0], np.sqrt(threshold / fraction[pairs[1]]))
    return factors


def epoch_indices(
    size: int, seed: int, epoch: int, factors: np.ndarray | None = None
) -> np.ndarray:
    """Returns the images of an epoch in a random order that depends only on (seed, epoch).

    Args:
        size: number of images.
        seed, epoch: decide the order.
        factors: (size,) how often each image occurs. The part after the point is a probability.
            None is once each.
    """
    rng = np.random.default_rng((seed, epoch))
    if factors is None:
        return rng.permutation(size)
    floors = np.floor(factors)
    counts = floors + (rng.random(size) < factors - floors)
    return rng.permutation(np.repeat(np.arange(size), counts.astype(np.int64)))


def training_batches(
    groups: Sequence[int] | None,
    size: int,
    batch_size: int,
    seed: int,
    factors: np.ndarray | None = None,
) -> Iterator[list[Key]]:
    """Yields global batches of (index, position in the stream of samples) without end.

    The images of an epoch are those of `epoch_indices`.

    Args:
        groups: (size,) the group of each image. A batch has images of one group only. Images that
            are left over at the end of an epoch wait for the next epoch.
        size: number of images.
        batch_size: images of a global batch.
        seed, factors: see `epoch_indices`.

    Raises ValueError for an empty data set or an empty batch.
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
    """Yields one rank's part of the global batches start..stop-1.

    A global batch is split into `world_size` equal parts, so that it is the same for any number of
    ranks.
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
        """Stores the parameters.

        Args:
            groups: see `training_batches`.
            size: number of images.
            batch_size: images of a global batch.
            factors: (size,) see `epoch_indices`.

        Raises ValueError if `batch_size` does not divide by `world_size`.
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
    """Returns batches with each image once, in ascending order.

    Rank r of W takes batches r, r + W, ...

    Args:
        sizes: (n, 2) height, width.
        batch_size: images of a batch.
        group: puts landscape images first, then the others, so that no batch has both.
    """
    groups = np.array(aspect_groups(sizes)) if group else np.zeros(len(sizes), dtype=int)
    batches = []
    for value in (0, 1):
        indices = np.flatnonzero(groups == value).tolist()
        batches += [indices[i : i + batch_size] for i in range(0, len(indices), batch_size)]
    return batches
