"""Loads an image of a data set with its boxes, and checks the results of users' code."""

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
    """Holds one image with its boxes.

    Attributes:
        image: (3, H, W) uint8 RGB.
        gt: the boxes. `image_index` is 0 for all of them.
        image_id: the id in the data set.
        original_size: (height, width) of the file, after a turn by EXIF.
    """

    image: Tensor
    gt: GroundTruth
    image_id: int
    original_size: tuple[int, int]


class Images(Protocol):
    """Lists the members of a data set that this module uses."""

    class_names: list[str]
    image_ids: list[int]
    transform: Transform | None

    def load(self, index: int) -> tuple[Tensor, GroundTruth]: ...

    def path(self, index: int) -> Path: ...


def loaded(dataset: Images, index: int) -> tuple[Tensor, GroundTruth]:
    """Calls `dataset.load(index)` and checks the result of a user's class.

    Raises UserError if the user's code fails or returns something else.
    """
    by_user = not type(dataset).__module__.startswith("dynamic_atss.")
    try:
        found = dataset.load(index)
    except (UserError, MemoryError):
        raise
    except Exception as error:
        if limit_reached(error) or not user_place(error):  # the fault is not the user's
            raise
        place = f"data set {type(dataset).__name__}: {name_of(dataset, index)}"
        raise UserError(f"{place} cannot be loaded ({described(error)})") from error
    if by_user and (wrong := fault(found, len(dataset.class_names))):
        name = f"data set {type(dataset).__name__}"
        raise UserError(f"{name}: load returns, for {name_of(dataset, index)}, {wrong}")
    return found


def transformed(
    dataset: Images, index: int, image: Tensor, gt: GroundTruth, rng: np.random.Generator
) -> tuple[Tensor, GroundTruth]:
    """Applies the data set's transform. Adds the name of the image to a UserError."""
    assert dataset.transform is not None
    try:
        return dataset.transform(image, gt, rng)
    except UserError as error:
        raise UserError(f"{name_of(dataset, index)}: {error}") from error


def name_of(dataset: Images, index: int) -> str:
    """Returns the name of an image for messages.

    It is the path of its file, or its id if a user's data set has no files.
    """
    try:
        return str(dataset.path(index))
    except Exception:
        return f"image id {dataset.image_ids[index]}"
