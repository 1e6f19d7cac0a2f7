"""Draws an assignment, which says which priors learn which box."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import torch
from torch import Tensor

from dynamic_atss.data.image import resize
from dynamic_atss.types import Assignment, Batch, GroundTruth, Priors
from dynamic_atss.viz.draw import RIM, class_color, draw_boxes


def draw_assignment(
    batch: Batch,
    priors: Priors,
    found: Assignment,
    class_names: Sequence[str],
    *,
    count: int = 4,
    short_side: int = 480,
) -> list[Tensor]:
    """Draws the first `count` images of a batch with their boxes and the priors that learn them.

    A dot marks the centre of a prior in the colour of its box. Dots are larger on coarser levels.
    The caption of a box shows its class and the number of its priors. A box without priors is
    dashed.

    Args:
        short_side: smaller images are enlarged to this short side in pixels.

    Returns (3, H, W) uint8 images on the CPU.
    """
    index = torch.where(found.positive, found.gt_index, -1)[:count].cpu()
    centers, strides, gt = priors.centers.cpu(), priors.strides.cpu(), _on_host(batch.gt.objects)
    pictures = []
    for n, (height, width) in enumerate(batch.sizes[:count].tolist()):
        image = batch.images[n, :, :height, :width].cpu()
        ratio = max(1.0, short_side / min(height, width))
        image = resize(image, round(height * ratio), round(width * ratio)) if ratio > 1 else image
        mine = (gt.image_index == n).nonzero().flatten()
        learns = _places(mine, index[n], len(gt))
        image = _dots(image, centers * ratio, strides, learns)
        names = [class_names[c] for c in gt.classes[mine].tolist()]
        pictures.append(_boxes(image, gt.boxes[mine] * ratio, names, learns))
    return pictures


def _places(boxes: Tensor, index: Tensor, total: int) -> Tensor:
    """Finds the place of each entry of `index` in the indices `boxes`. It is -1 if absent."""
    places = torch.full((total + 1,), -1)
    places[boxes] = torch.arange(len(boxes))
    return places[torch.where(index < total, index, -1)]


def _boxes(image: Tensor, boxes: Tensor, names: Sequence[str], learns: Tensor) -> Tensor:
    """Draws the boxes, each with the number of priors that learn it."""
    counts = torch.bincount(learns[learns >= 0], minlength=len(boxes)).tolist()
    return draw_boxes(
        image,
        boxes,
        [f"{name} {k}" for name, k in zip(names, counts, strict=True)],
        colors=[class_color(i) for i in range(len(boxes))],
        dashed=[k == 0 for k in counts],
        short_side=1,
    )


def _on_host(gt: GroundTruth) -> GroundTruth:
    return GroundTruth(gt.boxes.cpu(), gt.classes.cpu(), gt.image_index.cpu())


def _dots(image: Tensor, centers: Tensor, strides: Tensor, learns: Tensor) -> Tensor:
    """Draws a dot for each prior that learns a box.

    Args:
        image: (3, H, W) uint8.
        centers: (P, 2) in pixels of the image.
        strides: (P,) of the priors.
        learns: (P,) the place of the box, or -1 for none.
    """
    pixels = image.permute(1, 2, 0).contiguous().numpy().copy()
    chosen = (learns >= 0).nonzero().flatten()
    chosen = chosen[strides[chosen].argsort(descending=True, stable=True)]  # small dots on top
    for prior in chosen.tolist():
        x, y = (round(value) for value in centers[prior].tolist())
        radius = max(2, round(math.log2(float(strides[prior]))) - 1)
        cv2.circle(pixels, (x, y), radius + 1, RIM, -1, cv2.LINE_AA)
        cv2.circle(pixels, (x, y), radius, class_color(int(learns[prior])), -1, cv2.LINE_AA)
    return torch.from_numpy(pixels).permute(2, 0, 1)
