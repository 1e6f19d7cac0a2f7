"""Joins samples into a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from dynamic_atss.data.samples import Sample
from dynamic_atss.types import Batch, GroundTruth, joined


def collate(samples: Sequence[Sample], size_divisibility: int) -> Batch:
    """Pads images with 0 at the right and the bottom to a common size and joins the samples.

    The common size is the largest, rounded up to `size_divisibility`. 0 and 1 do not round. The
    images are channels-last in memory, as the samples are, so that whole rows are copied.
    """
    sizes = [tuple(s.image.shape[1:]) for s in samples]
    step = max(size_divisibility, 1)
    height, width = (-(-max(side) // step) * step for side in zip(*sizes, strict=True))
    pixels = _zeros(len(samples), height, width, 3)
    for target, sample, (h, w) in zip(pixels, samples, sizes, strict=True):
        target[:h, :w] = sample.image.permute(1, 2, 0)
    truths = [_as_image(s.gt, n) for n, s in enumerate(samples)]
    return Batch(
        images=pixels.permute(0, 3, 1, 2),
        sizes=torch.tensor(sizes, dtype=torch.int64),
        gt=joined(truths),
        image_ids=tuple(s.image_id for s in samples),
        original_sizes=tuple(s.original_size for s in samples),
    )


def _as_image(gt: GroundTruth, number: int) -> GroundTruth:
    return replace(gt, image_index=torch.full_like(gt.image_index, number))


def _zeros(*shape: int) -> Tensor:
    """Allocates black pixels. In a worker they are in shared memory, which saves a copy."""
    if get_worker_info() is None:
        return torch.zeros(shape, dtype=torch.uint8)
    shared = torch.UntypedStorage._new_shared(math.prod(shape))  # new pages of the system are zero
    return torch.empty(0, dtype=torch.uint8).set_(shared).view(shape)
