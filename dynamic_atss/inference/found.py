"""Holds the detections of one picture; draws, saves and converts them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynamic_atss.errors import UserError
from dynamic_atss.weights.classes import COCO

if TYPE_CHECKING:
    from PIL import Image

# COCO numbers its 80 categories 1..90.
_LEFT_OUT = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
COCO_IDS = [number for number in range(1, 91) if number not in _LEFT_OUT]


@dataclass(frozen=True, eq=False)
class Found:
    """Holds the detections of one picture, best first.

    Attributes:
        image: (3, H, W) uint8 RGB, the picture as the model got it.
        name: name of the picture's file; "" without a file.
        xywh: (D, 4) float64 in pixels of the picture, as in COCO results.
        scores: (D,) float32.
        labels: (D,) int64, indices into class_names.
        class_names: the names of all classes.
        frame: number of the frame of a video, from 1; None for a picture.

    >>> from dynamic_atss import load
    >>> found = load("output/demo/run", device="cpu")("picture.png", threshold=0)
    >>> best = found[:2]
    >>> best.boxes.shape, best.scores[0] >= best.scores[1]
    (torch.Size([2, 4]), tensor(True))
    >>> best.save("drawn.png")
    """

    image: Tensor
    name: str
    xywh: NDArray[np.float64]
    scores: Tensor
    labels: Tensor
    class_names: list[str]
    frame: int | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        counts = Counter(self.names)
        found = ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing"
        place = self.name if self.frame is None else f"{self.name}, frame {self.frame}"
        return f"<Found in {place or 'a picture'}: {found}>"

    def __getitem__(self, index: Tensor | Sequence[int] | Sequence[bool] | slice) -> Found:
        """Selects detections by an index, a mask or a slice: `found[found.scores > 0.5]`."""
        chosen = torch.arange(len(self))[index].reshape(-1)
        parts = self.xywh[chosen.numpy()].reshape(-1, 4), self.scores[chosen], self.labels[chosen]
        return Found(self.image, self.name, *parts, self.class_names, self.frame)

    @property
    def boxes(self) -> Tensor:
        """Gives x1, y1, x2, y2 (D, 4) float32 in pixels of the picture. The width is x2 - x1."""
        corners = np.concatenate((self.xywh[:, :2], self.xywh[:, :2] + self.xywh[:, 2:]), axis=1)
        return torch.from_numpy(corners).float()

    @property
    def names(self) -> list[str]:
        """Gives the name of each detection's class."""
        return [self.class_names[label] for label in self.labels.tolist()]

    def plot(self, *, short_side: int = 1) -> Image.Image:
        """Draws boxes, names and scores into a PIL picture (RGB).

        Args:
            short_side: enlarges smaller pictures to this short side in pixels, to keep texts
                readable. The long side gets at most 16,383 pixels.
        """
        from PIL import Image

        return Image.fromarray(self.drawn(short_side).permute(1, 2, 0).contiguous().numpy())

    def drawn(self, short_side: int = 1) -> Tensor:
        """Draws the same as `plot`, into a tensor (3, H, W) uint8 RGB."""
        from dynamic_atss.viz.draw import class_color, draw_boxes  # imports matplotlib for a font

        colors = [class_color(label) for label in self.labels.tolist()]
        return draw_boxes(
            self.image,
            self.boxes,
            self.names,
            self.scores,
            colors=colors,
            short_side=short_side,
        )

    def save(self, path: str | os.PathLike[str], *, short_side: int = 1) -> None:
        """Writes the picture that `plot` draws, in the format of the ending (.jpg, .png, ...).

        "~" at the start of the path is the home folder.

        Raises:
            UserError: the ending is not that of a picture, or the file cannot be written.
        """
        from dynamic_atss.viz.draw import write_image

        write_image(os.path.expanduser(path), self.drawn(short_side))

    def to_coco(self, image_id: int = 1) -> list[dict[str, Any]]:
        """Returns the detections as COCO results.

        The 80 classes of COCO get COCO's category ids. Other classes get 1, 2, ... in the order of
        class_names.
        """
        ids = COCO_IDS if self.class_names == list(COCO) else None
        rows = zip(self.labels.tolist(), self.xywh.tolist(), self.scores.tolist(), strict=True)
        return [
            {
                "image_id": image_id,
                "category_id": ids[label] if ids else label + 1,
                "bbox": box,
                "score": score,
            }
            for label, box, score in rows
        ]

    def to_supervision(self) -> Any:
        """Returns `supervision.Detections`, with the class names in data["class_name"].

        Raises:
            UserError: the package supervision is not installed.
        """
        try:
            import supervision
        except ImportError:
            raise UserError(
                "to_supervision: the package supervision is missing: pip install supervision"
            ) from None
        return supervision.Detections(
            xyxy=self.boxes.numpy(),
            confidence=self.scores.numpy(),
            class_id=self.labels.numpy(),
            data={"class_name": np.array(self.names, dtype=str)},
        )
