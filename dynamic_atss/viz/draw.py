"""Draws boxes on images, and several images on one sheet.

Images are uint8 RGB tensors (3, H, W) on any device. Results are on the CPU.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynamic_atss.errors import UserError
from dynamic_atss.files import write_atomically
from dynamic_atss.types import Detections
from dynamic_atss.viz.captions import Canvas, caption_boxes, crowded, put_captions, put_legend

Color = tuple[int, int, int]
Pixels = NDArray[np.uint8]

MAX_SIDE = 16_383  # pixels of an enlarged image: every format holds it, WebP no more
_MAX_SIDES = {".jpg": 65_500, ".jpeg": 65_500, ".webp": 16_383}  # of files that OpenCV writes
RIM = (20, 20, 20)
_BACKGROUND = 255
# Saturation and value. The first classes get bright colours, and later ones differ in tone.
_TONES = (
    *((0.85, 1.0), (0.85, 0.72), (0.5, 1.0), (1.0, 0.5)),
    *((0.55, 0.8), (0.3, 0.95), (0.7, 0.6), (0.6, 0.4)),
)


@cache
def class_color(index: int) -> Color:
    """Returns an RGB colour for a class.

    The golden ratio separates the hues of neighbouring classes for any number of classes. Hues
    become similar after 13, 21, 34 and 55 classes, where the tones differ.
    """
    hue = (0.02 + index * 0.618034) % 1.0
    saturation, value = _TONES[index // 8 % len(_TONES)]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_boxes(
    image: Tensor,
    boxes: Tensor,
    labels: Sequence[str],
    scores: Tensor | None = None,
    *,
    colors: Sequence[Color] | None = None,
    dashed: Sequence[bool] | None = None,
    short_side: int = 480,
) -> Tensor:
    """Draws boxes and captions ("name" or "name 0.87") on a copy of the image.

    If captions would cover more than a third of the image, a legend counts the boxes of each label
    instead.

    Args:
        boxes: (D, 4) xyxy in pixels of the given image.
        labels: D texts. "" draws no caption.
        scores: (D,), or None.
        colors: D RGB colours. None takes one colour for each text.
        dashed: D flags, True for a dashed outline. None draws no dashes.
        short_side: smaller images are enlarged to this short side in pixels, which keeps captions
            legible, but not beyond a long side of `MAX_SIDE`.

    Raises:
        ValueError: if boxes, labels, scores, colours and `dashed` differ in number.
    """
    texts = list(labels) if scores is None else _with_scores(labels, scores)
    if colors is None:
        order = {text: i for i, text in enumerate(dict.fromkeys(labels))}
        colors = [class_color(order[text]) for text in labels]
    dashed = [False] * len(labels) if dashed is None else dashed
    if not len(boxes) == len(labels) == len(texts) == len(colors) == len(dashed):
        raise ValueError(f"{len(boxes)} boxes, {len(labels)} labels, {len(colors)} colours")
    pixels, ratio = _enlarged(_to_pixels(image), short_side)
    side = min(pixels.shape[:2])
    corners = boxes.detach().cpu().double().numpy().reshape(-1, 4) * ratio
    rows = [i for i in range(len(corners)) if np.isfinite(corners[i]).all()]
    # Draws the largest box first, so that no outline hides a smaller box.
    rows.sort(key=lambda i: -_area(corners[i]))
    thickness = _thickness(corners[rows], side)
    for i in rows:
        draw = _dashed_outline if dashed[i] else _outline
        draw(pixels, corners[i], colors[i], thickness)
    canvas = Canvas(pixels, size=max(12, round(side / 34)))
    captions = [(texts[i], corners[i], colors[i]) for i in rows if texts[i]]
    if crowded(canvas, [text for text, _, _ in captions]):
        put_legend(canvas, [(labels[i], colors[i]) for i in rows if texts[i]])
    else:
        put_captions(canvas, caption_boxes(canvas, captions))
    return _to_tensor(canvas.pixels)


def enlarged_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Returns height and width in which `draw_boxes` draws an image."""
    ratio = _enlargement(height, width, short_side)
    return round(height * ratio), round(width * ratio)


def _enlargement(height: int, width: int, short_side: int) -> float:
    wanted = short_side / min(height, width)
    return max(1.0, min(wanted, MAX_SIDE / max(height, width)))


def detections_beside_truth(
    image: Tensor,
    boxes: Tensor,
    classes: Tensor,
    detections: Detections,
    class_names: Sequence[str],
    *,
    score_threshold: float = 0.3,
    short_side: int = 480,
) -> Tensor:
    """Draws the ground truth on the left and detections on the right.

    Each side has a title with the number of its boxes. A class has the same colour on both sides.

    Args:
        boxes, classes: (T, 4) and (T,), the image's ground truth.
        score_threshold: detections with a lower score are not drawn.
    """
    chosen = detections.scores.detach().cpu() >= score_threshold
    found = detections.boxes.detach().cpu()[chosen], detections.classes.detach().cpu()[chosen]
    scores = detections.scores.detach().cpu()[chosen]
    panels = [
        titled(
            _draw_classes(image, boxes, classes, class_names, None, short_side),
            f"ground truth: {len(boxes)}",
        ),
        titled(
            _draw_classes(image, *found, class_names, scores, short_side),
            f"detections: {len(scores)} (score ≥ {score_threshold:g})",
        ),
    ]
    return contact_sheet(panels, columns=2)


def contact_sheet(images: Sequence[Tensor], columns: int = 2, gap: int = 8) -> Tensor:
    """Puts images in rows of `columns` on white, each centred in a cell of the largest size.

    Raises:
        ValueError: if there are no images or no columns.
    """
    if not images or columns < 1:
        raise ValueError(f"a sheet of {len(images)} images in {columns} columns")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    height, width = (max(image.shape[d] for image in images) for d in (1, 2))
    extent = (rows * (height + gap) - gap, columns * (width + gap) - gap)
    sheet = torch.full((3, *extent), _BACKGROUND, dtype=torch.uint8)
    for i, image in enumerate(images):
        top = i // columns * (height + gap) + (height - image.shape[1]) // 2
        left = i % columns * (width + gap) + (width - image.shape[2]) // 2
        sheet[:, top : top + image.shape[1], left : left + image.shape[2]] = image.cpu()
    return sheet


def write_image(path: str | Path, image: Tensor) -> None:
    """Writes an image in the format of the path's extension (.png, .jpg, ...).

    Creates the folder if necessary. Writes the file completely or not at all.

    Raises:
        UserError: if no image format has that extension, the format cannot hold so many pixels, or
            the file cannot be written.
    """
    path = Path(path)
    ending, (height, width) = path.suffix.lower(), image.shape[1:]
    if max(height, width) > _MAX_SIDES.get(ending, max(height, width)):
        raise UserError(
            f"{path}: {width} x {height} pixels, but {ending} holds at most {_MAX_SIDES[ending]} "
            "on a side: use .png"
        )
    try:
        options = [cv2.IMWRITE_JPEG_QUALITY, 92] if ending in (".jpg", ".jpeg") else []
        encoded, data = cv2.imencode(path.suffix, _to_pixels(image)[..., ::-1], options)
    except cv2.error as error:
        raise UserError(f"{path}: no image format has this extension; use .png or .jpg") from error
    if not encoded:
        raise UserError(f"{path}: OpenCV cannot write this image ({width} x {height}): use .png")
    write_atomically(path, lambda file: file.write(data.tobytes()))


def _draw_classes(
    image: Tensor,
    boxes: Tensor,
    classes: Tensor,
    class_names: Sequence[str],
    scores: Tensor | None,
    short_side: int,
) -> Tensor:
    indices = classes.tolist()
    names, colors = [class_names[c] for c in indices], [class_color(c) for c in indices]
    return draw_boxes(image, boxes, names, scores, colors=colors, short_side=short_side)


def _with_scores(labels: Sequence[str], scores: Tensor) -> list[str]:
    return [f"{text} {score:.2f}" for text, score in zip(labels, scores.tolist(), strict=True)]


def _area(box: NDArray[np.float64]) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def _to_pixels(image: Tensor) -> Pixels:
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"an image is uint8 (3, H, W), not {image.dtype} {tuple(image.shape)}")
    return np.ascontiguousarray(image.detach().cpu().permute(1, 2, 0).numpy())


def _to_tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _enlarged(pixels: Pixels, short_side: int) -> tuple[Pixels, float]:
    """Returns a copy that is enlarged to the size of `enlarged_size`, and the scale."""
    sides = pixels.shape[0], pixels.shape[1]
    ratio = _enlargement(*sides, short_side)
    if ratio == 1.0:
        return pixels.copy(), ratio
    size = enlarged_size(*sides, short_side)[::-1]
    return np.ascontiguousarray(cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC)), ratio


def _thickness(boxes: NDArray[np.float64], side: int) -> int:
    """Returns the thickness of all frames of an image with the short side `side`.

    It is at most a tenth of the median box's short side, so that frames hide little of the boxes.
    """
    largest = 2 * max(1, round(side / 400))
    if not len(boxes):
        return largest
    median = np.median((boxes[:, 2:] - boxes[:, :2]).min(1))
    return int(np.clip(median / 10, 1, largest))


def _outline(pixels: Pixels, box: NDArray[np.float64], color: Color, thickness: int) -> None:
    """Draws a coloured frame with a dark rim, which is visible on bright and on dark images.

    A line of one pixel has no rim. Corners are rounded to pixels and clipped to the image, so that
    a box at the border shows its frame.
    """
    height, width = pixels.shape[:2]
    limit = np.array([width - 1, height - 1] * 2)
    left, top, right, bottom = np.clip(np.rint(box), 0, limit).astype(int).tolist()
    if thickness > 1:
        cv2.rectangle(pixels, (left, top), (right, bottom), RIM, thickness + 2, cv2.LINE_8)
    cv2.rectangle(pixels, (left, top), (right, bottom), color, thickness, cv2.LINE_8)


def _dashed_outline(pixels: Pixels, box: NDArray[np.float64], color: Color, thickness: int) -> None:
    """Draws the same frame in dashes. Keeps the image in every other diagonal band."""
    height, width = pixels.shape[:2]
    edge = thickness + 4  # more than half of an outline's thickness
    low = np.floor(np.clip(box[:2] - edge, 0, [width - 1, height - 1])).astype(int)
    high = np.ceil(np.clip(box[2:] + edge, 1, [width, height])).astype(int)
    part = pixels[low[1] : high[1], low[0] : high[0]]
    framed = part.copy()
    _outline(framed, box - np.tile(low, 2), color, thickness)
    diagonal = np.add.outer(np.arange(part.shape[0]), np.arange(part.shape[1]))
    shown = diagonal // max(3, 3 * thickness) % 2 == 0
    np.copyto(part, framed, where=shown[..., None])


def titled(image: Tensor, title: str) -> Tensor:
    """Puts a bar with the title above the image."""
    size = max(14, round(min(image.shape[1:]) / 26))
    bar = np.full((2 * size, image.shape[2], 3), _BACKGROUND, np.uint8)
    canvas = Canvas(bar, size)
    canvas.text(title, left=size // 3, top=size // 2, color=(30, 30, 30))
    return torch.cat([_to_tensor(canvas.pixels), image], dim=1)
