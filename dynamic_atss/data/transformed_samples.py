"""Reads the samples in a loader's workers, each with one or several transforms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from dynamic_atss.data.samples import Sample, Transform, name_of
from dynamic_atss.data.training_set import TrainingSet
from dynamic_atss.errors import UserError, described, user_place
from dynamic_atss.system_limits import limit_reached


@dataclass(frozen=True)
class Failure:
    """Carries the message of a UserError out of a worker.

    A DataLoader would turn the error into a traceback.
    """

    message: str


class TransformedSamples(Dataset):
    """Reads the samples of `dataset`. Each is a list of the results of `transforms`.

    Without transforms, the list holds only the sample. Reads each image once.
    """

    def __init__(self, dataset: TrainingSet, transforms: Sequence[Transform] = ()) -> None:
        """Takes the transforms of a test, which use no random numbers."""
        self.dataset, self.transforms = dataset, tuple(transforms)

    def __getitem__(self, key: Any) -> list[Sample] | Failure:
        try:
            sample = self._sample(key)
        except UserError as error:
            return Failure(str(error))
        return [_apply(t, sample) for t in self.transforms] or [sample]

    def _sample(self, key: Any) -> Sample:
        """Reads a sample.

        Raises UserError if a user's `__getitem__` fails or returns another type.
        """
        name = f"data set {type(self.dataset).__name__}"
        try:
            sample = self.dataset[key]
        except (UserError, MemoryError):
            raise
        except Exception as error:
            if limit_reached(error) or not user_place(error):
                raise
            image = self._image_name(key)
            raise UserError(f"{name}: {image} cannot be loaded ({described(error)})") from error
        if not isinstance(sample, Sample):
            image, kind = self._image_name(key), type(sample).__name__
            raise UserError(f"{name}: __getitem__ returns a {kind} for {image}, not a Sample")
        return sample

    def _image_name(self, key: Any) -> str:
        return name_of(self.dataset, key[0] if isinstance(key, tuple) else key)


def _apply(transform: Transform, sample: Sample) -> Sample:
    image, gt = transform(sample.image, sample.gt, np.random.default_rng(0))
    return replace(sample, image=image, gt=gt)
