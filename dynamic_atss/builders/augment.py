"""Builds the transforms of training images from the configuration."""

from __future__ import annotations

from inspect import isclass

import numpy as np
from torch import Tensor
from yacs.config import CfgNode

from dynamic_atss.builders.user_code import construct, find, require_call
from dynamic_atss.data.checks import fault
from dynamic_atss.data.color import ColorJitter
from dynamic_atss.data.crop import RandomCrop
from dynamic_atss.data.jitter import LargeScaleJitter, Pad
from dynamic_atss.data.mosaic import MosaicDataset
from dynamic_atss.data.samples import Transform
from dynamic_atss.data.training_set import TrainingSet
from dynamic_atss.data.transforms import Compose, HorizontalFlip, Resize, VerticalFlip
from dynamic_atss.errors import UserError, described
from dynamic_atss.types import GroundTruth

KEY = "INPUT.AUGMENTATIONS"
REQUIREMENT = (
    "a transform is called with (image, gt, rng) and returns (image, gt): image (3, H, W) uint8, "
    "gt a GroundTruth with boxes (T, 4) float32 and classes (T,) int64"
)


def build_train_transform(cfg: CfgNode) -> Compose:
    """Builds the transforms of a training image. A transform that is off is left out.

    They run in this order:
    1. Crop. The resize then enlarges the window as it would the full image.
    2. Resize, or large-scale jitter instead.
    3. Colours. A resized image often has fewer pixels than its file.
    4. The padding of large-scale jitter. It follows the colours, so that they do not change it.
    5. Flips.
    6. The user's transforms.
    """
    inputs = cfg.INPUT
    steps: list[Transform] = []
    if inputs.CROP.PROB:
        steps.append(RandomCrop(inputs.CROP.PROB, inputs.CROP.SIDE, inputs.MIN_VISIBLE))
    steps.append(_large_scale_jitter(cfg) if inputs.LSJ.ENABLED else _resize(cfg))
    colors = inputs.BRIGHTNESS, inputs.CONTRAST, inputs.SATURATION, inputs.HUE
    if any(colors):
        steps.append(ColorJitter(*colors))
    if inputs.LSJ.ENABLED:
        steps.append(Pad(inputs.LSJ.SIZE, _mean_color(cfg)))
    steps.append(HorizontalFlip(inputs.FLIP_PROB_TRAIN))
    steps.append(VerticalFlip(inputs.VERTICAL_FLIP_PROB_TRAIN))
    steps += [CustomTransform(name, find_augmentation(name)) for name in inputs.AUGMENTATIONS]
    return Compose(steps)


def find_augmentation(name: str) -> Transform:
    """Finds the transform that an entry of INPUT.AUGMENTATIONS names.

    A class is called without arguments to make the transform.

    Raises:
        UserError: the name is unknown, or the object cannot be called as a transform.
    """
    found = find(KEY, name, {}, functions=True)
    require_call(KEY, name, found, 3, REQUIREMENT)
    return construct(KEY, name, found) if isclass(found) else found


class CustomTransform:
    """Calls a user's transform and checks its result.

    Attributes:
        classes: number of classes of the data set; None until the data set is read.
    """

    def __init__(self, name: str, transform: Transform) -> None:
        self.name, self.transform = f"{KEY} {name!r}", transform
        self.classes: int | None = None

    def __call__(
        self, image: Tensor, gt: GroundTruth, rng: np.random.Generator
    ) -> tuple[Tensor, GroundTruth]:
        """Calls the transform.

        Raises:
            UserError: it fails or does not return an image with its boxes.
        """
        try:
            result = self.transform(image, gt, rng)
        except (UserError, MemoryError):
            raise
        except Exception as error:  # the user's code may raise anything
            raise UserError(f"{self.name} fails ({described(error)}); {REQUIREMENT}") from error
        if wrong := fault(result, self.classes):
            raise UserError(f"{self.name} gives {wrong}; {REQUIREMENT}")
        return result


def set_class_count(transform: Compose, classes: int) -> None:
    """Gives the user's transforms the number of classes, which is read after they are made."""
    for step in transform.transforms:
        if isinstance(step, CustomTransform):
            step.classes = classes


def add_mosaic(cfg: CfgNode, dataset: TrainingSet, factors: np.ndarray | None) -> TrainingSet:
    """Adds mosaics to the data set if they are on.

    Args:
        factors: repeat factors of images, or None.
    """
    mosaic = cfg.INPUT.MOSAIC
    if not mosaic.PROB:
        return dataset
    iterations = round(cfg.SOLVER.MAX_ITER * (1 - mosaic.OFF_AT_END))
    return MosaicDataset(
        dataset,
        mosaic.PROB,
        stop=iterations * cfg.SOLVER.IMS_PER_BATCH,
        min_visible=cfg.INPUT.MIN_VISIBLE,
        exact=cfg.INPUT.EXACT_RESIZE,
        factors=factors,
    )


def _resize(cfg: CfgNode) -> Resize:
    size_range = cfg.INPUT.MIN_SIZE_RANGE_TRAIN
    return Resize(
        cfg.INPUT.MIN_SIZE_TRAIN,
        cfg.INPUT.MAX_SIZE_TRAIN,
        None if size_range[0] == -1 else size_range,
        exact=cfg.INPUT.EXACT_RESIZE,
    )


def _large_scale_jitter(cfg: CfgNode) -> LargeScaleJitter:
    return LargeScaleJitter(
        cfg.INPUT.LSJ.SIZE,
        cfg.INPUT.LSJ.SCALE,
        cfg.INPUT.MIN_VISIBLE,
        exact=cfg.INPUT.EXACT_RESIZE,
    )


def _mean_color(cfg: CfgNode) -> tuple[int, int, int]:
    """Returns the RGB colour (0..255) that becomes about 0, the padding of batches."""
    mean = cfg.INPUT.PIXEL_MEAN
    ordered = reversed(mean) if cfg.INPUT.TO_BGR255 else (255 * value for value in mean)
    red, green, blue = (min(max(round(value), 0), 255) for value in ordered)
    return red, green, blue
