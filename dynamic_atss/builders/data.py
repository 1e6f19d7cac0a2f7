"""Builds data sets and their loaders from the configuration."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from yacs.config import CfgNode

from dynamic_atss.builders.augment import add_mosaic, build_train_transform, set_class_count
from dynamic_atss.builders.devices import uses_gpu
from dynamic_atss.builders.formats import REQUIREMENT, find_formats
from dynamic_atss.builders.heads import build_head
from dynamic_atss.builders.tta import build_test_resizes
from dynamic_atss.config.code import names_code
from dynamic_atss.data import loader
from dynamic_atss.data.catalog import UnknownName, open_dataset
from dynamic_atss.data.concat import ConcatDataset
from dynamic_atss.data.dataset import DetectionDataset
from dynamic_atss.data.orientation import ReadOptions
from dynamic_atss.data.samplers import repeat_factors
from dynamic_atss.data.training_set import TrainingSet
from dynamic_atss.engine import distributed
from dynamic_atss.errors import UserError, described

logger = logging.getLogger(__name__)

COCO_CLASSES = 81  # the published default of NUM_CLASSES, with background


def check_num_classes(cfg: CfgNode, dataset: TrainingSet) -> None:
    """Compares NUM_CLASSES with the classes of the data set. The default accepts any number.

    Raises:
        UserError: NUM_CLASSES was set to another number.
    """
    head = build_head(cfg)
    key = f"MODEL.{head.section}.NUM_CLASSES"
    found, asked = len(dataset.class_names), head.settings.NUM_CLASSES
    if asked not in (COCO_CLASSES, found + 1):
        raise UserError(
            f"{key} {asked} (with background), but {dataset.annotations} has "
            f"{found} categories: set {found + 1}, or leave the key out to follow the data set"
        )


def build_train_dataset(cfg: CfgNode) -> TrainingSet:
    """Opens the data sets of DATASETS.TRAIN as one, with the training transforms.

    Raises:
        UserError: there is no data set, it cannot be opened, or the batch does not fit.
    """
    if not cfg.DATASETS.TRAIN:
        raise UserError(
            "DATASETS.TRAIN (): give one or more data sets, such as coco:train.json:images"
        )
    images = cfg.SOLVER.IMS_PER_BATCH  # checked first, because opening may take a minute
    loader.check_batch(
        "SOLVER.IMS_PER_BATCH", images, distributed.world_size(), cfg.SOLVER.ACCUMULATE
    )
    options = {
        "root": cfg.DATASETS.ROOT,
        "formats": find_formats("DATASETS.TRAIN", cfg.DATASETS.TRAIN),
        "training": True,
        "keep_empty": cfg.DATASETS.KEEP_EMPTY,
        "transform": build_train_transform(cfg),
        "seed": cfg.SEED,
        "convention": build_head(cfg).boxes,
        "keep_crowds": cfg.MODEL.ASSIGNER.IGNORE_REGIONS,
        "reading": build_reading(cfg),
    }
    parts = [_open("DATASETS.TRAIN", name, options) for name in cfg.DATASETS.TRAIN]
    set_class_count(options["transform"], len(parts[0].class_names))
    dataset = parts[0] if len(parts) == 1 else ConcatDataset(parts)
    if images > len(dataset):
        logger.warning(
            "SOLVER.IMS_PER_BATCH %d is more than the %d images of %s, so an iteration has some "
            "images twice. Set %d or less",
            images,
            len(dataset),
            dataset.annotations,
            len(dataset),
        )
    return add_mosaic(cfg, dataset, _repeat_factors(cfg, dataset))


def build_reading(cfg: CfgNode) -> ReadOptions:
    """Returns the options that decide how image files become pixels."""
    return ReadOptions(
        exif=cfg.INPUT.EXIF,
        max_pixels=cfg.INPUT.MAX_PIXELS,
        bits=cfg.INPUT.BITS,
        outside=cfg.DATASETS.ALLOW_OUTSIDE,
    )


def _open(key: str, name: str, options: dict[str, Any]) -> DetectionDataset:
    try:
        return open_dataset(name, **options)
    except UnknownName as error:
        raise UserError(f"{key}: {error}") from error
    except (UserError, MemoryError):
        raise
    except Exception as error:
        if not names_code(key, name):
            raise
        raise UserError(
            f"{key} {name!r}: reading fails ({described(error)}); {REQUIREMENT}"
        ) from error


def images_per_epoch(cfg: CfgNode, dataset: TrainingSet) -> float:
    """Returns the number of images in an epoch, which is a mean if images are repeated."""
    factors = _repeat_factors(cfg, dataset)
    return len(dataset) if factors is None else float(factors.sum())


def build_repeat_factors(cfg: CfgNode, dataset: TrainingSet) -> np.ndarray | None:
    """Returns how often each image is seen in an epoch on average; None if each is seen once."""
    factors = _repeat_factors(cfg, dataset)
    if factors is not None:
        logger.info(
            "Repeat factors: %d of %d images are repeated; an epoch has %.0f images on average; "
            "the largest factor is %.2f",
            (factors > 1).sum(),
            len(factors),
            factors.sum(),
            factors.max(),
        )
    return factors


def _repeat_factors(cfg: CfgNode, dataset: TrainingSet) -> np.ndarray | None:
    threshold = cfg.DATALOADER.REPEAT_FACTOR_THRESHOLD
    if not threshold:
        return None
    return repeat_factors(*dataset.classes_by_image(), len(dataset), threshold)


def build_train_loader(cfg: CfgNode, dataset: TrainingSet, start: int) -> loader.Loader:
    """Makes the loader of this process for the iterations after `start`."""
    return loader.build_train_loader(
        dataset,
        ims_per_batch=cfg.SOLVER.IMS_PER_BATCH,
        accumulate=cfg.SOLVER.ACCUMULATE,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
        seed=cfg.SEED,
        start=start,
        stop=cfg.SOLVER.MAX_ITER,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        size_divisibility=cfg.DATALOADER.SIZE_DIVISIBILITY,
        group_by_aspect=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        pin_memory=uses_gpu(cfg),  # pinning opens a context on the GPU
        repeat_factors=build_repeat_factors(cfg, dataset),
        timeout=_timeout(cfg),
    )


def _timeout(cfg: CfgNode) -> float:
    """Returns a loader's time limit in seconds, below SOLVER.TIMEOUT.

    After SOLVER.TIMEOUT the other processes stop, and nothing would be saved.
    """
    return 0.8 * cfg.SOLVER.TIMEOUT


def build_test_loaders(cfg: CfgNode) -> dict[str, loader.Loader]:
    """Makes a loader for each of DATASETS.TEST, by its folder below OUTPUT_DIR/inference."""
    loaders: dict[str, loader.Loader] = {}
    loader.check_batch("TEST.IMS_PER_BATCH", cfg.TEST.IMS_PER_BATCH, distributed.world_size())
    options = {
        "root": cfg.DATASETS.ROOT,
        "formats": find_formats("DATASETS.TEST", cfg.DATASETS.TEST),
        "training": False,
        "seed": cfg.SEED,
        "convention": build_head(cfg).boxes,
        "reading": build_reading(cfg),
    }
    for name in cfg.DATASETS.TEST:
        dataset = _open("DATASETS.TEST", name, options)
        loaders[_folder_name(name, dataset, set(loaders))] = loader.build_test_loader(
            dataset,
            ims_per_batch=cfg.TEST.IMS_PER_BATCH,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
            num_workers=cfg.DATALOADER.NUM_WORKERS,
            size_divisibility=cfg.DATALOADER.SIZE_DIVISIBILITY,
            group_by_aspect=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
            pin_memory=uses_gpu(cfg),  # pinning opens a context on the GPU
            transforms=build_test_resizes(cfg),
            timeout=_timeout(cfg),
        )
    return loaders


def _folder_name(name: str, dataset: DetectionDataset, taken: set[str]) -> str:
    """Returns a free folder name: a catalog name as it is, or the short name of the data set."""
    stem = dataset.short_name if ":" in name else name
    numbered = (stem if i == 1 else f"{stem}_{i}" for i in range(1, len(taken) + 2))
    return next(candidate for candidate in numbered if candidate not in taken)
