"""What a loader's workers read: samples, each at one or several sizes."""

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
    """A UserError on its way from a worker: a DataLoader would wrap it into a traceback text."""

    message: str


class Views(Dataset):
    """The samples of `dataset`, each as a list of views: the sample itself, or with `transforms`
    what each of them makes of it. The image is read once."""

    def __init__(self, dataset: TrainingSet, transforms: Sequence[Transform] = ()) -> None:
        """`transforms`: those of a test, which draw nothing."""
        self.dataset, self.transforms = dataset, tuple(transforms)

    def __getitem__(self, key: Any) -> list[Sample] | Failure:
        try:
            sample = self._sample(key)
        except UserError as error:
            return Failure(str(error))
        return [_apply(t, sample) for t in self.transforms] or [sample]

    def _sample(self, key: Any) -> Sample:
        """Raises UserError: a `__getitem__` of the user's fails, or gives something else."""
        name = f"data set {type(self.dataset).__name__}"
        try:
            sample = self.dataset[key]
        except (UserError, MemoryError):
            raise
        except Exception as error:
            if limit_reached(error) or not user_place(error):
                raise
            raise UserError(f"{name}: {self._image(key)} fails ({described(error)})") from error
        if not isinstance(sample, Sample):
            what = type(sample).__name__
            raise UserError(f"{name}: for {self._image(key)} it gives a {what}, not a Sample")
        return sample

    def _image(self, key: Any) -> str:
        return name_of(self.dataset, key[0] if isinstance(key, tuple) else key)


def _apply(transform: Transform, sample: Sample) -> Sample:
    image, gt = transform(sample.image, sample.gt, np.random.default_rng(0))
    return replace(sample, image=image, gt=gt)
