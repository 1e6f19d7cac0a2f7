"""Draws images with their errors, and crops of single errors.

To be readable without colour vision, errors also have captions, and objects have dashed outlines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynamic_atss.data.image import resize
from dynamic_atss.errors import UserError
from dynamic_atss.evaluation.voc import box_iou
from dynamic_atss.reports.errors import BACKGROUND_IOU, KINDS, Errors
from dynamic_atss.viz.draw import Color, draw_boxes
from dynamic_atss.viz.html import breakable, picture, safe

RIGHT, FALSE, OBJECT = (60, 130, 200), (250, 200, 40), (255, 255, 255)
LONG_SIDE, CROP_SIDE = 900, 240  # maximum size of a picture and of a crop in pixels
MAX_CAPTIONS = 16  # captions in words; a picture with more errors shows first letters
_SURROUNDING = 0.6  # margin on each side of a crop, as a share of the box's longer side


class Images(Protocol):
    """Lists the members of a data set that drawings need."""

    image_ids: Sequence[int]

    def load(self, index: int) -> tuple[Tensor, Any]: ...

    def path(self, index: int) -> Path: ...


@dataclass
class Boxes:
    """Holds boxes to draw, each x y w h in pixels of the file. An empty caption draws none."""

    xywh: list[NDArray[np.float64]] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    colors: list[Color] = field(default_factory=list)

    def add(self, box: NDArray[np.float64], color: Color, caption: str = "") -> None:
        self.xywh.append(box)
        self.colors.append(color)
        self.captions.append(caption)

    def drawn(self, image: Tensor, long_side: int, short_side: int, left: int, top: int) -> Tensor:
        """Draws the boxes on a crop of the file's image.

        Args:
            image: (3, H, W) the crop.
            long_side, short_side: a longer crop is reduced to `long_side` pixels, and a shorter one
                is enlarged to `short_side` pixels.
            left, top: the corner of the crop in the file.
        """
        ratio = min(1.0, long_side / max(image.shape[1:]))
        if ratio < 1:
            image = resize(image, *(max(1, round(side * ratio)) for side in image.shape[1:]))
        corners = (_corners(self.xywh) - torch.tensor([left, top, left, top])) * ratio
        dashed = [color == OBJECT for color in self.colors]
        return draw_boxes(
            image.contiguous(),
            corners,
            self.captions,
            colors=self.colors,
            dashed=dashed,
            short_side=short_side,
        )


@dataclass(frozen=True)
class Drawer:
    """Draws the errors of a test as HTML figures.

    Attributes:
        dataset: the images.
        errors: the errors.
        names: the names of the categories.
    """

    dataset: Images
    errors: Errors
    names: Sequence[str]

    def file_name(self, image_index: int) -> str:
        return self.dataset.path(self._dataset_index(image_index)).name

    def full_image(self, image_index: int, caption: str) -> str:
        """Draws an image with all its boxes. Only errors have captions.

        Args:
            image_index: the number of the image.
            caption: HTML below the image.
        """
        matches, errors = self.errors.matches, self.errors
        false = np.flatnonzero(matches.image_index[errors.false] == image_index).tolist()
        missed = errors.missed[matches.truth.image_ids[errors.missed] == image_index].tolist()
        words = len(false) + len(missed) <= MAX_CAPTIONS
        boxes = Boxes()
        for row in errors.right[matches.image_index[errors.right] == image_index].tolist():
            boxes.add(matches.table[row, 1:5], RIGHT)
        for place in false:
            text = self.text(place) if words else letters(str(errors.kind[place]))
            boxes.add(matches.table[errors.false[place], 1:5], FALSE, text)
        for row in missed:
            name = self.names[int(matches.truth.category_ids[row])]
            boxes.add(matches.truth.boxes[row], OBJECT, f"missed: {name}" if words else "")
        return self._figure(image_index, boxes, self.file_name(image_index), caption)

    def crop_of_false(self, place: int) -> str:
        """Draws a false detection and the objects that it overlaps.

        Args:
            place: its place in `errors.false`.
        """
        matches, row, boxes = self.errors.matches, int(self.errors.false[place]), Boxes()
        box, image_index = matches.table[row, 1:5], int(matches.image_index[row])
        boxes.add(box, FALSE)
        truth = matches.truth.boxes[matches.objects & (matches.truth.image_ids == image_index)]
        overlap = box_iou(np.broadcast_to(box, truth.shape), truth) >= BACKGROUND_IOU
        for other in truth[overlap]:
            boxes.add(other, OBJECT)
        return self._crop(image_index, boxes, self.text(place))

    def crop_of_missed(self, row: int) -> str:
        """Draws a missed object. `row` is its row in the truth."""
        truth, boxes = self.errors.matches.truth, Boxes()
        boxes.add(truth.boxes[row], OBJECT)
        name = self.names[int(truth.category_ids[row])]
        return self._crop(int(truth.image_ids[row]), boxes, name)

    def text(self, place: int) -> str:
        """Describes a false detection: class, score, kind, and the true class if it differs."""
        row, kind = int(self.errors.false[place]), str(self.errors.kind[place])
        matches, other = self.errors.matches, int(self.errors.overlapped_category[place])
        true_class = f" (is {self.names[other]})" if kind in ("Cls", "Both") else ""
        name, score = self.names[int(matches.category_index[row])], matches.scores[row]
        return f"{name} {score:.2f}: {KINDS[kind]}{true_class}"

    def _dataset_index(self, image_index: int) -> int:
        return self.dataset.image_ids.index(self.errors.matches.file_ids[image_index])

    def _crop(self, image_index: int, boxes: Boxes, text: str) -> str:
        caption = f"{safe(text)}<small>{breakable(self.file_name(image_index))}</small>"
        return self._figure(image_index, boxes, text, caption, crop=True)

    def _figure(
        self, image_index: int, boxes: Boxes, alt: str, caption: str, *, crop: bool = False
    ) -> str:
        try:
            pixels, _ = self.dataset.load(self._dataset_index(image_index))
        except UserError as error:  # the file may have been removed since the test
            return f"<p>{safe(error)}</p>"
        if not crop:
            return picture(alt, boxes.drawn(pixels, LONG_SIDE, 320, 0, 0), caption)
        left, top, right, bottom = _window(boxes.xywh[0], pixels.shape[1:])
        part = pixels[:, top:bottom, left:right]
        return picture(alt, boxes.drawn(part, CROP_SIDE, CROP_SIDE // 2, left, top), caption)


def letters(kind: str) -> str:
    """Returns the first letter of each part of the kind's text, as "m", "w" or "mw"."""
    return "".join(words[0] for words in KINDS[kind].split(", "))


def _corners(boxes: Sequence[NDArray[np.float64]]) -> Tensor:
    """Converts n boxes x y w h to xyxy (n, 4)."""
    table = torch.tensor(np.array(boxes, np.float64).reshape(-1, 4))
    return torch.cat([table[:, :2], table[:, :2] + table[:, 2:]], 1)


def _window(box: NDArray[np.float64], size: Sequence[int]) -> tuple[int, int, int, int]:
    """Returns the crop around a box: left, top, right, bottom.

    The crop is a square of at least 40 pixels with a margin around the box, cut at the border of
    the image.

    Args:
        box: x y w h in pixels.
        size: height and width of the image.
    """
    x, y, width, height = box.tolist()
    half = max(20.0, max(width, height) * (0.5 + _SURROUNDING))
    spans = []
    for middle, side in ((x + width / 2, size[1]), (y + height / 2, size[0])):
        middle = min(max(middle, 0.0), side)  # a detection may lie outside the image
        spans.append((max(0, int(middle - half)), min(side, int(middle + half) + 1)))
    (left, right), (top, bottom) = spans
    return left, top, right, bottom
