"""cfg -> what happens to a training image."""

from __future__ import annotations

from inspect import isclass

import numpy as np
from torch import Tensor
from yacs.config import CfgNode

from dynamic_atss.builders.outside import construct, find, require_call
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
FITS = (
    "a transform is called with (image, gt, rng) and returns (image, gt): image (3, H, W) uint8, "
    "gt a GroundTruth with boxes (T, 4) float32 and classes (T,) int64"
)


def build_train_transform(cfg: CfgNode) -> Compose:
    """The transforms of a training image, each of which is left out where it is off.

    Order matters: 1. crop, whose window is then enlarged by the resize like a whole image;
    2. resize, or in its place large-scale jitter; 3. colours, on the pixels that are left: files
    may have ten times as many; 4. the padding of large-scale jitter, which so keeps its colour;
    5. flips, which go with anything; 6. those of the user's, on what the others leave.
    """
    own = cfg.INPUT
    steps: list[Transform] = []
    if own.CROP.PROB:
        steps.append(RandomCrop(own.CROP.PROB, own.CROP.SIDE, own.MIN_VISIBLE))
    steps.append(_large_scale_jitter(cfg) if own.LSJ.ENABLED else _resize(cfg))
    colors = own.BRIGHTNESS, own.CONTRAST, own.SATURATION, own.HUE
    if any(colors):
        steps.append(ColorJitter(*colors))
    if own.LSJ.ENABLED:
        steps.append(Pad(own.LSJ.SIZE, _mean_color(cfg)))
    steps.append(HorizontalFlip(own.FLIP_PROB_TRAIN))
    steps.append(VerticalFlip(own.VERTICAL_FLIP_PROB_TRAIN))
    steps += [OwnTransform(name, find_augmentation(name)) for name in own.AUGMENTATIONS]
    return Compose(steps)


def find_augmentation(name: str) -> Transform:
    """The transform that an entry of INPUT.AUGMENTATIONS names; a class is made without arguments.

    Raises:
        UserError: there is none, or it is not called like one.
    """
    found = find(KEY, name, {}, functions=True)
    require_call(KEY, name, found, 3, FITS)
    return construct(KEY, name, found) if isclass(found) else found


class OwnTransform:
    """A transform of the user's, whose result is checked.

    classes: how many the data set has; None until it is read
    """

    def __init__(self, name: str, transform: Transform) -> None:
        self.name, self.transform = f"{KEY} {name!r}", transform
        self.classes: int | None = None

    def __call__(
        self, image: Tensor, gt: GroundTruth, rng: np.random.Generator
    ) -> tuple[Tensor, GroundTruth]:
        """Raises UserError: the transform fails, or its result is no image with boxes."""
        try:
            found = self.transform(image, gt, rng)
        except (UserError, MemoryError):
            raise
        except Exception as error:  # code of the user's may raise any
            raise UserError(f"{self.name} fails ({described(error)}); {FITS}") from error
        if wrong := fault(found, self.classes):
            raise UserError(f"{self.name} gives {wrong}; {FITS}")
        return found


def tell_classes(transform: Compose, classes: int) -> None:
    """Lets the user's transforms know how many classes the data set has, which is read after they
    are made."""
    for step in transform.transforms:
        if isinstance(step, OwnTransform):
            step.classes = classes


def add_mosaic(cfg: CfgNode, dataset: TrainingSet, factors: np.ndarray | None) -> TrainingSet:
    """The data set, with mosaics if they are on. factors: the images' repeat factors, if any."""
    own = cfg.INPUT.MOSAIC
    if not own.PROB:
        return dataset
    iterations = round(cfg.SOLVER.MAX_ITER * (1 - own.OFF_AT_END))
    return MosaicDataset(
        dataset,
        own.PROB,
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
    """RGB in 0..255 that the normalisation takes to about 0, which is what batches are padded
    with."""
    mean = cfg.INPUT.PIXEL_MEAN
    ordered = reversed(mean) if cfg.INPUT.TO_BGR255 else (255 * value for value in mean)
    red, green, blue = (min(max(round(value), 0), 255) for value in ordered)
    return red, green, blue
