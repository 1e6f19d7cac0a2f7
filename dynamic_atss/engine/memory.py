"""Reports a step that does not fit into the memory, together with its batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from dynamic_atss.errors import UserError
from dynamic_atss.system_limits import memory_full
from dynamic_atss.types import Batch


@contextlib.contextmanager
def naming_batch(batch: Batch, where: str) -> Iterator[None]:
    """Turns a full memory in the block into a UserError that gives the sizes and boxes of a batch.

    Args:
        batch: the batch, on the host.
        where: the place, such as "iteration 3".
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        line = memory_full(error)
        if line is None:
            raise
        raise UserError(f"{where}: {line}; {_described(batch)}") from error


def _described(batch: Batch) -> str:
    """Gives the height, width and number of boxes of each image."""
    count, _, height, width = batch.images.shape
    boxes = torch.bincount(batch.gt.image_index, minlength=count).tolist()
    images = [f"{h} x {w} ({n})" for (h, w), n in zip(batch.sizes.tolist(), boxes, strict=True)]
    return (
        f"this process had {count} images of height x width (boxes) {', '.join(images)}, "
        f"padded to {height} x {width}"
    )
