"""Loads batches in worker processes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from dynamic_atss.data.collate import collate
from dynamic_atss.data.dataset import DetectionDataset
from dynamic_atss.data.pack import pack, pinned_bytes
from dynamic_atss.data.samplers import TrainingSampler, aspect_groups, inference_batches
from dynamic_atss.data.samples import Sample, Transform
from dynamic_atss.data.training_set import TrainingSet
from dynamic_atss.data.transformed_samples import Failure, TransformedSamples
from dynamic_atss.data.workers import Workers, start_worker
from dynamic_atss.errors import UserError
from dynamic_atss.system_limits import provide_descriptors
from dynamic_atss.types import Batch

Data = TypeVar("Data", bound=TrainingSet)
TIMEOUT = 600.0  # seconds


class Loader(Generic[Data]):
    """Iterates over batches. Raises the UserError of a worker here, with its message.

    Args:
        transforms: the transforms of a test with several sizes. A batch has the images of the first
            transform, and `batch.scaled` those of the others.
        timeout: seconds that a worker may take for a batch. After that the iteration raises
            `LostProcessError`.
    """

    def __init__(
        self,
        dataset: Data,
        batches: Sampler[Any] | Sequence[Any],
        *,
        num_workers: int,
        size_divisibility: int,
        seed: int = 0,
        pin_memory: bool = False,
        transforms: Sequence[Transform] = (),
        timeout: float = TIMEOUT,
    ) -> None:
        self.dataset, self._timeout = dataset, timeout
        self._transforms = len(transforms)
        self._loader = DataLoader(
            TransformedSamples(dataset, transforms),
            batch_sampler=batches,
            num_workers=num_workers,
            # A batch in a dozen sizes takes hundreds of megabytes of shared memory.
            prefetch_factor=1 if num_workers and len(transforms) > 1 else None,
            collate_fn=partial(_collate_or_pass, size_divisibility=size_divisibility),
            worker_init_fn=start_worker,
            # The default generator would draw from the state of the run at each start.
            generator=torch.Generator().manual_seed(seed),
            pin_memory=pin_memory,
            # Forked workers share the annotations' memory.
            multiprocessing_context="fork" if num_workers and sys.platform == "linux" else None,
        )

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        if self._loader.num_workers:
            provide_descriptors(self._descriptors())
        with Workers() as workers:
            for batch in workers.batches(self._loader, self._timeout):
                if isinstance(batch, Failure):
                    raise UserError(batch.message)
                yield batch.batch

    def _descriptors(self) -> int:
        """Counts the files that workers and waiting batches may keep open in one process."""
        workers, ahead = self._loader.num_workers, self._loader.prefetch_factor or 0
        tensors = 6 * max(self._transforms, 1)  # in one batch
        return 4 * workers + tensors * (ahead * workers + 2) + 16


def build_train_loader(
    dataset: TrainingSet,
    *,
    ims_per_batch: int,
    accumulate: int = 1,
    rank: int = 0,
    world_size: int = 1,
    seed: int = 0,
    start: int = 0,
    stop: int,
    num_workers: int = 0,
    size_divisibility: int = 0,
    group_by_aspect: bool = True,
    pin_memory: bool = False,
    repeat_factors: np.ndarray | None = None,
    timeout: float = TIMEOUT,
) -> Loader[TrainingSet]:
    """Builds the loader of this rank's batches for the optimizer steps start..stop-1.

    Args:
        ims_per_batch: images of an optimizer step over all ranks.
        accumulate: number of parts in which the network processes a batch.
        repeat_factors: (n,) how often each image is seen in an epoch.
        timeout: see `Loader`.

    Raises UserError if `ims_per_batch` does not divide by ranks and parts.
    """
    check_batch("SOLVER.IMS_PER_BATCH", ims_per_batch, world_size, accumulate)
    sampler = TrainingSampler(
        aspect_groups(dataset.sizes) if group_by_aspect else None,
        len(dataset),
        ims_per_batch,
        seed,
        rank=rank,
        world_size=world_size,
        start=start,
        stop=stop,
        factors=repeat_factors,
    )
    return Loader(
        dataset,
        sampler,
        num_workers=num_workers,
        size_divisibility=size_divisibility,
        seed=seed,
        pin_memory=pin_memory,
        timeout=timeout,
    )


def build_test_loader(
    dataset: DetectionDataset,
    *,
    ims_per_batch: int,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
    size_divisibility: int = 0,
    group_by_aspect: bool = True,
    pin_memory: bool = False,
    transforms: Sequence[Transform] = (),
    timeout: float = TIMEOUT,
) -> Loader[DetectionDataset]:
    """Builds the loader of this rank's images. All ranks together load each image once.

    Args:
        ims_per_batch: images over all ranks.
        transforms: see `Loader`. With them, the data set must have no transform.
        timeout: see `Loader`.

    Raises UserError if `ims_per_batch` does not divide by the ranks.
    """
    check_batch("TEST.IMS_PER_BATCH", ims_per_batch, world_size)
    batches = inference_batches(dataset.sizes, ims_per_batch // world_size, group_by_aspect)
    return Loader(
        dataset,
        batches[rank::world_size],
        num_workers=num_workers,
        size_divisibility=size_divisibility,
        pin_memory=pin_memory,
        transforms=transforms,
        timeout=timeout,
    )


def check_batch(key: str, images: int, processes: int, accumulate: int = 1) -> None:
    """Raises UserError if the images of an iteration do not divide by processes and parts."""
    parts = f"{processes} process(es)" + (f" x {accumulate} parts" if accumulate > 1 else "")
    divisor = processes * accumulate
    if images < 1 or images % divisor:
        counts = ", ".join(str(n) for n in range(1, min(images, 64) + 1) if images % n == 0)
        others = f", or start {counts} processes" if images > 0 else ""
        raise UserError(
            f"{key} {images} does not divide by {parts}: set a multiple of {divisor}{others}"
        )


class _WorkerBatch:
    """Holds a batch from a worker. The DataLoader calls `pin_memory`."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def pin_memory(self) -> _WorkerBatch:
        return _WorkerBatch(pack(self.batch, pinned_bytes))


def _collate_or_pass(
    samples: list[list[Sample] | Failure], size_divisibility: int
) -> _WorkerBatch | Failure:
    """Collates the samples of each transform into a batch, or passes on a failure."""
    good = [versions for versions in samples if isinstance(versions, list)]
    if len(good) < len(samples):
        return next(s for s in samples if isinstance(s, Failure))
    first, *others = (collate(batch, size_divisibility) for batch in zip(*good, strict=True))
    return _WorkerBatch(replace(first, scaled=tuple(others)))
