"""Defines the members of a data set that a training uses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from torch import Tensor

from dynamic_atss.data.samples import Sample, Transform
from dynamic_atss.types import GroundTruth

if TYPE_CHECKING:
    from dynamic_atss.data.dataset import DetectionDataset


class TrainingSet(Protocol):
    """Lists the members of a data set that a loader and a run use.

    The data set may be a single one, several joined ones, or one with mosaics. `DetectionDataset`
    documents the members.
    """

    class_names: list[str]
    category_ids: list[int | None]
    image_ids: list[int]
    sizes: np.ndarray
    transform: Transform | None
    seed: int

    @property
    def annotations(self) -> Path | str: ...

    @property
    def class_advice(self) -> str: ...

    @property
    def parts(self) -> Sequence[DetectionDataset]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, key: int | tuple[int, int]) -> Sample: ...

    def load(self, index: int) -> tuple[Tensor, GroundTruth]: ...

    def path(self, index: int) -> Path: ...

    def classes_by_image(self) -> tuple[np.ndarray, np.ndarray]: ...
