"""cfg and data sets -> what a survey finds, in the log, before the first iteration."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from yacs.config import CfgNode

from dynamic_atss.builders.heads import build_head
from dynamic_atss.builders.rules import build_assigner
from dynamic_atss.config.code import names_code
from dynamic_atss.data.dataset import DetectionDataset
from dynamic_atss.data.header_cache import cached_headers
from dynamic_atss.data.survey import (
    Finding,
    Matching,
    Surveyed,
    box_findings,
    boxes_without_prior,
    crowded_images,
    file_findings,
    in_order,
    several,
    together_findings,
)
from dynamic_atss.data.training_set import TrainingSet
from dynamic_atss.data.transforms import resized
from dynamic_atss.errors import UserError
from dynamic_atss.types import Priors

_LOG_LEVELS = {
    "stop": logging.ERROR,
    "fix": logging.WARNING,
    "warning": logging.WARNING,
    "note": logging.INFO,
}
_log = logging.getLogger(__name__)

# By each data set, as code that opens one alone needs it, too.
TOLD_ON_OPENING = {"orientation", "bits", "area", "clipped", "fractions", "upright"}

Named = Sequence[tuple[str, DetectionDataset]]  # names as DATASETS has them


def survey(cfg: CfgNode, train: TrainingSet | None, tests: Iterable[DetectionDataset]) -> None:
    """Tells what is found in DATASETS.TRAIN and TEST: each kind in one line, the worst first.

    Raises UserError: something that would stop the training, or the test after it.
    """
    if not cfg.DATASETS.SURVEY:
        return
    begin = time.monotonic()
    parts = [*zip(cfg.DATASETS.TRAIN, train.parts, strict=True)] if train else []
    tested = [*zip(cfg.DATASETS.TEST, tests, strict=False)]  # none where a test is left out
    found = find(cfg, parts, tested)
    stops = [finding for finding in found if finding.level == "stop"]
    for finding in found:
        if finding not in stops[:1]:
            _log.log(_LOG_LEVELS[finding.level], "survey: %s", finding.line)
    images = sum(len(dataset.content.names) for _, dataset in (*parts, *tested))
    told = several(len(found), "finding") if found else "nothing to tell"
    seconds = time.monotonic() - begin
    _log.info("survey: %s of %s images (%.1f s; DATASETS.SURVEY)", told, f"{images:,}", seconds)
    if stops:
        others = f" ({several(len(stops) - 1, 'more reason')} above)" if len(stops) > 1 else ""
        raise UserError(f"{stops[0].line}{others}")


def find(cfg: CfgNode, train: Named, tests: Named) -> list[Finding]:
    """All findings. Of the catalog's sets, which are published, files are not looked at."""
    trained, tested = ([_surveyed(*named) for named in sets] for sets in (train, tests))
    found: list[Finding] = []
    each = {(one.where, one.folder): one for one in (*trained, *tested)}
    for one in each.values():
        found += file_findings(one) + box_findings(one)
    for one in tested:
        found += crowded_images(one, cfg.TEST.DETECTIONS_PER_IMG)
    found += together_findings(trained, tested)
    # A rule of the user's may want a real network.
    if not names_code("MODEL.ASSIGNER.NAME", cfg.MODEL.ASSIGNER.NAME):
        matching = build_matching(cfg)
        found += [f for _, dataset in train for f in boxes_without_prior(dataset, matching)]
    return in_order([finding for finding in found if finding.code not in TOLD_ON_OPENING])


def build_matching(cfg: CfgNode) -> Matching:
    """The rule and the priors of the configured head, at the largest configured training size."""
    head = build_head(cfg)
    generator, step = head.priors(), max(cfg.DATALOADER.SIZE_DIVISIBILITY, 1)

    def priors(height: int, width: int) -> Priors:
        padded = [-(-side // step) * step for side in (height, width)]
        sizes = [tuple(-(-side // stride) for side in padded) for stride in generator.strides]
        return generator(sizes, torch.device("cpu"))

    resize, size = _resize(cfg)
    return Matching(resize, priors, build_assigner(cfg, head), size)


def _resize(cfg: CfgNode) -> tuple[Callable[[int, int], tuple[int, int]], str]:
    """(height, width) of an image -> in the training at its largest, and how messages call it."""
    own = cfg.INPUT
    if own.LSJ.ENABLED:
        return partial(_fitted, own.LSJ.SIZE), f"at INPUT.LSJ.SIZE {tuple(own.LSJ.SIZE)}"
    ranged = own.MIN_SIZE_RANGE_TRAIN[0] != -1
    short = own.MIN_SIZE_RANGE_TRAIN[1] if ranged else max(own.MIN_SIZE_TRAIN)
    key = "MIN_SIZE_RANGE_TRAIN" if ranged else "MIN_SIZE_TRAIN"
    return lambda h, w: resized(h, w, short, own.MAX_SIZE_TRAIN), f"at INPUT.{key} {short}"


def _fitted(size: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    scale = min(size[0] / height, size[1] / width)
    return max(round(height * scale), 1), max(round(width * scale), 1)


def _surveyed(name: str, dataset: DetectionDataset) -> Surveyed:
    if ":" not in name:
        return Surveyed.of(dataset)
    names = dataset.content.names.tolist()
    label = f"headers of {dataset.short_name}"
    return Surveyed.of(dataset, cached_headers(dataset.images, names, label))
