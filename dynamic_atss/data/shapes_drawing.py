"""Draws the scenes of the `shapes` data set: objects on a textured background."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

CLASSES = ("circle", "square", "triangle", "star", "ring", "cross")
_FINE = 4  # factor by which masks are drawn larger; OpenCV's antialiasing distorts small circles
_SHIFT = 4  # fractional bits of coordinates: 1/16 pixel
_MIN_VISIBLE = 0.4  # least visible fraction of an object that later ones cover
_MIN_SIDE = 8


@dataclass(frozen=True)
class Scene:
    """Holds a drawn image with its objects.

    Attributes:
        image: (S, S, 3) uint8 RGB.
        classes: indices into CLASSES.
        visible: a mask (S, S) of 0 and 1 for each object.
    """

    image: np.ndarray
    classes: list[int]
    visible: list[np.ndarray]


def draw_scene(size: int, rng: np.random.Generator) -> Scene:
    """Draws 1 to 8 objects. Leaves out an object that would hide too much of an earlier one."""
    image = _background(size, rng)
    classes: list[int] = []
    visible: list[np.ndarray] = []
    areas: list[int] = []
    for _ in range(int(rng.integers(1, 9))):
        kind = int(rng.integers(len(CLASSES)))
        coverage = _draw_mask(kind, size, rng)
        colour = _colour(image, coverage, rng)
        mask = (coverage >= 128).astype(np.uint8)
        remaining = [v & (1 - mask) for v in visible]
        if not _is_allowed(mask, remaining, areas):
            continue
        _paint(image, coverage, colour, rng)
        classes.append(kind)
        visible = [*remaining, mask]
        areas.append(cv2.countNonZero(mask))
    if not classes:
        return draw_scene(size, rng)
    grain = rng.integers(-6, 7, image.shape, dtype=np.int16)
    noisy = np.clip(image.astype(np.int16) + grain, 0, 255).astype(np.uint8)
    return Scene(noisy, classes, visible)


def _is_allowed(mask: np.ndarray, remaining: list[np.ndarray], areas: list[int]) -> bool:
    """Returns True if a new object is large enough and hides no earlier one too much."""
    _, _, width, height = cv2.boundingRect(mask)
    if min(width, height) < _MIN_SIDE:
        return False
    return all(
        cv2.countNonZero(v) >= _MIN_VISIBLE * area for v, area in zip(remaining, areas, strict=True)
    )


def _background(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draws (S, S, 3) uint8: a gradient, noise at four scales, and lines as clutter."""
    corners = rng.integers(40, 216, (2, 2, 3)).astype(np.float32)
    image: np.ndarray = cv2.resize(corners, (size, size), interpolation=cv2.INTER_LINEAR)
    for cells, strength in ((3, 30), (8, 22), (24, 14), (size, 8)):
        noise = rng.integers(-strength, strength + 1, (cells, cells, 3)).astype(np.float32)
        image += cv2.resize(noise, (size, size), interpolation=cv2.INTER_LINEAR)
    image = np.clip(image, 0, 255).astype(np.uint8)
    for _ in range(int(rng.integers(0, 7))):
        start, end = rng.integers(0, size, (2, 2)).tolist()
        colour, width = rng.integers(0, 256, 3).tolist(), int(rng.integers(1, 3))
        cv2.line(image, start, end, colour, width, cv2.LINE_AA)
    return image


def _outlines(kind: int) -> list[np.ndarray]:
    """Returns the contours of a class in the square [-1, 1]². A second contour is a hole."""
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    corner = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]], float)
    arm = 0.36
    quarter = np.array([[arm, 1], [arm, arm], [1, arm]])
    spokes = np.arange(10) * np.pi / 5 - np.pi / 2
    radius = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)
    return {
        "circle": [circle],
        "square": [corner],
        "triangle": [np.array([[0, -1], [1, 0.9], [-1, 0.9]])],
        "star": [np.stack([np.cos(spokes), np.sin(spokes)], axis=1) * radius[:, None]],
        "ring": [circle, 0.55 * circle],
        # The outline passes two of the quarters in reverse order.
        "cross": [
            np.concatenate([quarter * s if s[0] * s[1] < 0 else quarter[::-1] * s for s in corner])
        ],
    }[CLASSES[kind]]


def _draw_mask(kind: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draws the coverage (S, S) uint8 of an object with random place, size, aspect and rotation."""
    side = np.exp(rng.uniform(np.log(size / 14), np.log(size / 1.45)))
    stretch = np.exp(rng.uniform(-0.5, 0.5))
    half = side / 2 * np.array([stretch**0.5, stretch**-0.5])
    angle = rng.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = rng.uniform(min(side / 2.5, size / 2), max(size - side / 2.5, size / 2), 2)
    contours = [
        np.rint((outline * half @ rotation.T + centre) * _FINE * 2**_SHIFT).astype(np.int32)
        for outline in _outlines(kind)
    ]
    fine = np.zeros((size * _FINE, size * _FINE), np.uint8)
    cv2.fillPoly(fine, contours, 255, cv2.LINE_8, _SHIFT)
    return cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA)


def _colour(image: np.ndarray, coverage: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns a random colour (3,) that differs from the pixels that it will cover."""
    under = np.array(cv2.mean(image, coverage)[:3])
    for _ in range(20):
        colour = rng.integers(0, 256, 3).astype(np.float32)
        if np.abs(colour - under).sum() > 170:
            break
    return colour


def _paint(
    image: np.ndarray, coverage: np.ndarray, colour: np.ndarray, rng: np.random.Generator
) -> None:
    """Paints a colour with a slight gradient into `image`, in place."""
    size = len(image)
    shade: np.ndarray = rng.integers(-28, 29, (2, 2, 1)).astype(np.float32)
    shade = cv2.resize(shade, (size, size), interpolation=cv2.INTER_LINEAR)[:, :, None]
    x, y, width, height = cv2.boundingRect(coverage)
    box = np.s_[y : y + height, x : x + width]
    alpha = (coverage[box].astype(np.float32) / 255)[:, :, None]
    blended = image[box] * (1 - alpha) + (colour + shade[box]) * alpha
    image[box] = np.clip(blended, 0, 255).astype(np.uint8)
