"""One image of a data set and its boxes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from dynamic_atss.data.checks import fault
from dynamic_atss.errors import UserError, described, user_place
from dynamic_atss.system_limits import limit_reached
from dynamic_atss.types import GroundTruth

Transform = Callable[[Tensor, GroundTruth, np.random.Generator], tuple[Tensor, GroundTruth]]


@dataclass(frozen=True)
class Sample:
    """One image: image (3, H, W) uint8 RGB · gt, all of image 0 · image_id, the data set's own ·
    original_size (height, width) of the file, in the frame in which it is read.
    """

    image: Tensor
    gt: GroundTruth
    image_id: int
    original_size: tuple[int, int]


class Images(Protocol):
    """What this file reads of a data set."""

    class_names: list[str]
    image_ids: list[int]
    transform: Transform | None

    def load(self, index: int) -> tuple[Tensor, GroundTruth]: ...

    def path(self, index: int) -> Path: ...


def loaded(dataset: Images, index: int) -> tuple[Tensor, GroundTruth]:
    """`dataset.load(index)`; what a class of the user's gives is checked.

    Raises UserError: code of the user's fails there, or gives something else.
    """
    own = not type(dataset).__module__.startswith("dynamic_atss.")
    try:
        found = dataset.load(index)
    except (UserError, MemoryError):
        raise
    except Exception as error:
        if limit_reached(error) or not user_place(error):  # a fault of the package, or the system's
            raise
        place = f"data set {type(dataset).__name__}: {name_of(dataset, index)}"
        raise UserError(f"{place} cannot be loaded ({described(error)})") from error
    if own and (wrong := fault(found, len(dataset.class_names))):
        place = f"data set {type(dataset).__name__}: for {name_of(dataset, index)}"
        raise UserError(f"{place} load gives {wrong}")
    return found


def transformed(
    dataset: Images, index: int, image: Tensor, gt: GroundTruth, rng: np.random.Generator
) -> tuple[Tensor, GroundTruth]:
    """The image and its boxes after the data set's transform. Raises UserError with the image."""
    assert dataset.transform is not None
    try:
        return dataset.transform(image, gt, rng)
    except UserError as error:
        raise UserError(f"{name_of(dataset, index)}: {error}") from error


def name_of(dataset: Images, index: int) -> str:
    """How messages call an image: by its file, or where a data set of the user's has none, by its
    id."""
    try:
        return str(dataset.path(index))
    except Exception:
        return f"image id {dataset.image_ids[index]}"
