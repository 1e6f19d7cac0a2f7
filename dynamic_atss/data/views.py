"""What a loader's workers read: samples, each at one or several sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from dynamic_atss.data.dataset import Sample, TrainingSet, Transform
from dynamic_atss.errors import UserError


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
            sample = self.dataset[key]
        except UserError as error:
            return Failure(str(error))
        return [_apply(t, sample) for t in self.transforms] or [sample]


def _apply(transform: Transform, sample: Sample) -> Sample:
    image, gt = transform(sample.image, sample.gt, np.random.default_rng(0))
    return replace(sample, image=image, gt=gt)
