"""Samples -> batches, in worker processes."""

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
from dynamic_atss.data.samplers import TrainingSampler, aspect_groups, inference_batches
from dynamic_atss.data.samples import Sample, Transform
from dynamic_atss.data.training_set import TrainingSet
from dynamic_atss.data.views import Failure, Views
from dynamic_atss.data.workers import Workers, start_worker
from dynamic_atss.errors import UserError
from dynamic_atss.system_limits import provide_descriptors
from dynamic_atss.types import Batch, GroundTruth

Data = TypeVar("Data", bound=TrainingSet)
TIMEOUT = 600.0  # seconds


class Loader(Generic[Data]):
    """Iterates over batches. A UserError of a worker is raised here with its own message.

    With `views`, a batch holds the images of the first transform, and its `scaled` the others'.
    A worker that takes longer than `timeout` seconds for its batch ends the iteration with `Lost`.
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
        views: Sequence[Transform] = (),
        timeout: float = TIMEOUT,
    ) -> None:
        self.dataset, self._timeout = dataset, timeout
        self._views = len(views)
        self._loader = DataLoader(
            Views(dataset, views),
            batch_sampler=batches,
            num_workers=num_workers,
            # A dozen sizes of a batch are hundreds of megabytes of shared memory: few at a time.
            prefetch_factor=1 if num_workers and len(views) > 1 else None,
            collate_fn=partial(_collate_or_pass, size_divisibility=size_divisibility),
            worker_init_fn=start_worker,
            # Its own generator: the default one would draw from the run's state at each start.
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
        """How many files the workers and the batches on their way may keep open in one process."""
        workers, ahead = self._loader.num_workers, self._loader.prefetch_factor or 0
        tensors = 6 * max(self._views, 1)  # of a batch
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
    """This rank's share of the optimizer steps start..stop-1, a batch for each.

    ims_per_batch: images of one optimizer step over all ranks · accumulate: into so many parts the
    network cuts a batch · repeat_factors (n,): how often each image is seen in an epoch ·
    timeout: see `Loader`
    Raises UserError if it does not divide.
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
    views: Sequence[Transform] = (),
    timeout: float = TIMEOUT,
) -> Loader[DetectionDataset]:
    """This rank's share of the data set: over all ranks every image once.

    ims_per_batch: images over all ranks; raises UserError if it does not divide · views, timeout:
    see `Loader`; with views the data set itself is to have no transform
    """
    check_batch("TEST.IMS_PER_BATCH", ims_per_batch, world_size)
    batches = inference_batches(dataset.sizes, ims_per_batch // world_size, group_by_aspect)
    return Loader(
        dataset,
        batches[rank::world_size],
        num_workers=num_workers,
        size_divisibility=size_divisibility,
        pin_memory=pin_memory,
        views=views,
        timeout=timeout,
    )


def check_batch(key: str, images: int, processes: int, accumulate: int = 1) -> None:
    """Raises UserError: the images of an iteration do not divide by processes and parts."""
    parts = f"{processes} process(es)" + (f" x {accumulate} parts" if accumulate > 1 else "")
    by = processes * accumulate
    if images < 1 or images % by:
        fitting = ", ".join(str(n) for n in range(1, min(images, 64) + 1) if images % n == 0)
        others = f", or start one of {fitting} processes" if images > 0 else ""
        raise UserError(
            f"{key} {images} does not divide by {parts}: set a multiple of {by}{others}"
        )


class _Packed:
    """A batch on its way from a worker; the DataLoader's pinning calls `pin_memory`."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def pin_memory(self) -> _Packed:
        gt = self.batch.gt
        boxes, classes, image = (t.pin_memory() for t in (gt.boxes, gt.classes, gt.image))
        ignore = None if gt.ignore is None else gt.ignore.pin_memory()
        pinned = GroundTruth(boxes, classes, image, ignore, gt.convention)
        images, sizes = self.batch.images.pin_memory(), self.batch.sizes.pin_memory()
        scaled = tuple(_Packed(batch).pin_memory().batch for batch in self.batch.scaled)
        return _Packed(replace(self.batch, images=images, sizes=sizes, gt=pinned, scaled=scaled))


def _collate_or_pass(
    samples: list[list[Sample] | Failure], size_divisibility: int
) -> _Packed | Failure:
    good = [views for views in samples if isinstance(views, list)]
    if len(good) < len(samples):
        return next(s for s in samples if isinstance(s, Failure))
    first, *others = (collate(view, size_divisibility) for view in zip(*good, strict=True))
    return _Packed(replace(first, scaled=tuple(others)))
