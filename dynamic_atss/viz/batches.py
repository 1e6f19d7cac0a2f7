"""Draws the images of a batch."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from dynamic_atss.types import Batch
from dynamic_atss.viz.draw import class_color, draw_boxes


def draw_batch(batch: Batch, class_names: Sequence[str], short_side: int = 320) -> list[Tensor]:
    """Draws each image of the batch, (3, H, W) uint8, with its boxes and without padding.

    Enlarges smaller images to a short side of `short_side` pixels.
    """
    pictures = []
    for number, (image, size) in enumerate(zip(batch.images, batch.sizes.tolist(), strict=True)):
        mine = batch.gt[batch.gt.image_index == number]
        classes = mine.classes.tolist()
        names = [class_names[c] for c in classes]
        names[mine.object_count :] = [f"{name} (ignored)" for name in names[mine.object_count :]]
        picture = draw_boxes(
            image[:, : size[0], : size[1]],
            mine.boxes,
            names,
            colors=[class_color(c) for c in classes],
            short_side=short_side,
        )
        pictures.append(picture)
    return pictures
