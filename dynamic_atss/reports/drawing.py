"""Images with errors marked, and crops of single errors.

A colour never stands alone: an error has a caption, an object a dashed outline.
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
LONG_SIDE, CROP_SIDE = 900, 240  # pixels of a picture and of a crop at most
MOST_CAPTIONS = 16  # of a picture in words; more are first letters
_SURROUNDING = 0.6  # of the longer side of a box, on each side of a crop


class Images(Protocol):
    """What is read of a data set."""

    image_ids: Sequence[int]

    def load(self, index: int) -> tuple[Tensor, Any]: ...

    def path(self, index: int) -> Path: ...


@dataclass
class Boxes:
    """What is drawn: boxes x y w h in pixels of the file, "" for no caption."""

    xywh: list[NDArray[np.float64]] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    colors: list[Color] = field(default_factory=list)

    def add(self, box: NDArray[np.float64], color: Color, caption: str = "") -> None:
        self.xywh.append(box)
        self.colors.append(color)
        self.captions.append(caption)

    def drawn(self, image: Tensor, long_side: int, short_side: int, left: int, top: int) -> Tensor:
        """On a part of the file's image whose corner is (left, top); reduced to `long_side`,
        enlarged to `short_side`."""
        ratio = min(1.0, long_side / max(image.shape[1:]))
        if ratio < 1:
            image = resize(image, *(max(1, round(side * ratio)) for side in image.shape[1:]))
        corners = (_corners(self.xywh) - torch.tensor([left, top, left, top])) * ratio
        dashed = [color == OBJECT for color in self.colors]
        style: dict[str, Any] = {"colors": self.colors, "dashed": dashed, "short_side": short_side}
        return draw_boxes(image.contiguous(), corners, self.captions, **style)


@dataclass(frozen=True)
class Drawer:
    """names: of the categories"""

    dataset: Images
    errors: Errors
    names: Sequence[str]

    def file_name(self, image: int) -> str:
        return self.dataset.path(self._index(image)).name

    def whole(self, image: int, caption: str) -> str:
        """An image as a figure: right detections without captions, errors with. caption: HTML"""
        matches, errors = self.errors.matches, self.errors
        false = np.flatnonzero(matches.image[errors.false] == image).tolist()
        missed = errors.missed[matches.truth.image_ids[errors.missed] == image].tolist()
        words = len(false) + len(missed) <= MOST_CAPTIONS
        boxes = Boxes()
        for row in errors.right[matches.image[errors.right] == image].tolist():
            boxes.add(matches.table[row, 1:5], RIGHT)
        for place in false:
            text = self.text(place) if words else letters(str(errors.kind[place]))
            boxes.add(matches.table[errors.false[place], 1:5], FALSE, text)
        for row in missed:
            name = self.names[int(matches.truth.category_ids[row])]
            boxes.add(matches.truth.boxes[row], OBJECT, f"missed: {name}" if words else "")
        return self._figure(image, boxes, self.file_name(image), caption)

    def crop_of_false(self, place: int) -> str:
        """A figure, with the objects that it overlaps. place: in `errors.false`"""
        matches, row, boxes = self.errors.matches, int(self.errors.false[place]), Boxes()
        box, image = matches.table[row, 1:5], int(matches.image[row])
        boxes.add(box, FALSE)
        truth = matches.truth.boxes[matches.objects & (matches.truth.image_ids == image)]
        overlap = box_iou(np.broadcast_to(box, truth.shape), truth) >= BACKGROUND_IOU
        for other in truth[overlap]:
            boxes.add(other, OBJECT)
        return self._crop(image, boxes, self.text(place))

    def crop_of_missed(self, row: int) -> str:
        """A figure. row: of the truth"""
        truth, boxes = self.errors.matches.truth, Boxes()
        boxes.add(truth.boxes[row], OBJECT)
        name = self.names[int(truth.category_ids[row])]
        return self._crop(int(truth.image_ids[row]), boxes, name)

    def text(self, place: int) -> str:
        """Class, score and kind of a false detection; what the object is, if something else."""
        row, kind = int(self.errors.false[place]), str(self.errors.kind[place])
        matches, other = self.errors.matches, int(self.errors.instead[place])
        asked = f" (is {self.names[other]})" if kind in ("Cls", "Both") else ""
        name, score = self.names[int(matches.category[row])], matches.scores[row]
        return f"{name} {score:.2f}: {KINDS[kind]}{asked}"

    def _index(self, image: int) -> int:
        return self.dataset.image_ids.index(self.errors.matches.file_ids[image])

    def _crop(self, image: int, boxes: Boxes, text: str) -> str:
        caption = f"{safe(text)}<small>{breakable(self.file_name(image))}</small>"
        return self._figure(image, boxes, text, caption, crop=True)

    def _figure(
        self, image: int, boxes: Boxes, alt: str, caption: str, *, crop: bool = False
    ) -> str:
        try:
            pixels, _ = self.dataset.load(self._index(image))
        except UserError as error:  # it may have gone since the test
            return f"<p>{safe(error)}</p>"
        if not crop:
            return picture(alt, boxes.drawn(pixels, LONG_SIDE, 320, 0, 0), caption)
        left, top, right, bottom = _window(boxes.xywh[0], pixels.shape[1:])
        part = pixels[:, top:bottom, left:right]
        return picture(alt, boxes.drawn(part, CROP_SIDE, CROP_SIDE // 2, left, top), caption)


def letters(kind: str) -> str:
    """The first of each word that is told apart by it: "m", "w", "mw", ..."""
    return "".join(words[0] for words in KINDS[kind].split(", "))


def _corners(boxes: Sequence[NDArray[np.float64]]) -> Tensor:
    """x y w h -> xyxy (n, 4)."""
    table = torch.tensor(np.array(boxes, np.float64).reshape(-1, 4))
    return torch.cat([table[:, :2], table[:, :2] + table[:, 2:]], 1)


def _window(box: NDArray[np.float64], size: Sequence[int]) -> tuple[int, int, int, int]:
    """What a crop shows: a square about the box with its surroundings, 40 pixels a side or more,
    as far as the image (height, width) goes: left, top, right, bottom."""
    x, y, width, height = box.tolist()
    half = max(20.0, max(width, height) * (0.5 + _SURROUNDING))
    spans = []
    for middle, side in ((x + width / 2, size[1]), (y + height / 2, size[0])):
        middle = min(max(middle, 0.0), side)  # a detection may lie beyond the border
        spans.append((max(0, int(middle - half)), min(side, int(middle + half) + 1)))
    (left, right), (top, bottom) = spans
    return left, top, right, bottom
