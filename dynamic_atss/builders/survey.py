"""Surveys the data sets and logs the findings, before the first iteration."""

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
    SurveyInput,
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

# A data set logs these findings when it is opened.
LOGGED_ON_OPENING = {"orientation", "bits", "area", "clipped", "fractions", "upright"}

RULE = "MODEL.ASSIGNER.NAME"
NamedDatasets = Sequence[tuple[str, DetectionDataset]]  # named as in DATASETS


def survey(cfg: CfgNode, train: TrainingSet | None, tests: Iterable[DetectionDataset]) -> None:
    """Logs the findings on DATASETS.TRAIN and TEST: one line for each kind, the worst first.

    Raises:
        UserError: a finding would stop the training, or the test after it.
    """
    if not cfg.DATASETS.SURVEY:
        return
    begin = time.monotonic()
    train_sets = [*zip(cfg.DATASETS.TRAIN, train.parts, strict=True)] if train else []
    test_sets = [*zip(cfg.DATASETS.TEST, tests, strict=False)]  # none if the test is skipped
    findings = find(cfg, train_sets, test_sets)
    stops = [finding for finding in findings if finding.level == "stop"]
    for finding in findings:
        if finding not in stops[:1]:
            _log.log(_LOG_LEVELS[finding.level], "survey: %s", finding.line)
    images = sum(len(dataset.content.names) for _, dataset in (*train_sets, *test_sets))
    count = several(len(findings), "finding") if findings else "no findings"
    seconds = time.monotonic() - begin
    _log.info("survey: %s in %s images (%.1f s; DATASETS.SURVEY)", count, f"{images:,}", seconds)
    if stops:
        others = f" ({several(len(stops) - 1, 'more reason')} above)" if len(stops) > 1 else ""
        raise UserError(f"{stops[0].line}{others}")


def find(cfg: CfgNode, train: NamedDatasets, tests: NamedDatasets) -> list[Finding]:
    """Returns all findings. The files of data sets of the catalog are not checked."""
    training, testing = ([_surveyed(*named) for named in sets] for sets in (train, tests))
    findings: list[Finding] = []
    distinct = {(surveyed.where, surveyed.folder): surveyed for surveyed in (*training, *testing)}
    for surveyed in distinct.values():
        findings += file_findings(surveyed) + box_findings(surveyed)
    for surveyed in testing:
        findings += crowded_images(surveyed, cfg.TEST.DETECTIONS_PER_IMG)
    findings += together_findings(training, testing)
    if train and names_code(RULE, cfg.MODEL.ASSIGNER.NAME):
        findings.append(rule_not_called(cfg))
    elif train:
        matching = build_matching(cfg)
        findings += [f for _, dataset in train for f in boxes_without_prior(dataset, matching)]
    return in_order([finding for finding in findings if finding.code not in LOGGED_ON_OPENING])


def rule_not_called(cfg: CfgNode) -> Finding:
    """Says that boxes without a prior are not searched, because the rule is the user's code.

    Such a rule may need the predictions of a real network.
    """
    return Finding(
        "note",
        "rule_not_called",
        f"{RULE} {cfg.MODEL.ASSIGNER.NAME}",
        1,
        "the survey does not call a rule of your own, so boxes that no prior learns are not found",
        "`dynamic-atss inspect` shows them",
    )


def build_matching(cfg: CfgNode) -> Matching:
    """Builds the rule and the priors of the head, at the largest training size."""
    head = build_head(cfg)
    generator, step = head.priors(), max(cfg.DATALOADER.SIZE_DIVISIBILITY, 1)

    def priors(height: int, width: int) -> Priors:
        padded = [-(-side // step) * step for side in (height, width)]
        sizes = [tuple(-(-side // stride) for side in padded) for stride in generator.strides]
        return generator(sizes, torch.device("cpu"))

    resize, size = _resize(cfg)
    return Matching(resize, priors, build_assigner(cfg, head), size)


def _resize(cfg: CfgNode) -> tuple[Callable[[int, int], tuple[int, int]], str]:
    """Returns the function from (height, width) to the largest training size, and its name."""
    inputs = cfg.INPUT
    if inputs.LSJ.ENABLED:
        return partial(_fitted, inputs.LSJ.SIZE), f"at INPUT.LSJ.SIZE {tuple(inputs.LSJ.SIZE)}"
    ranged = inputs.MIN_SIZE_RANGE_TRAIN[0] != -1
    short = inputs.MIN_SIZE_RANGE_TRAIN[1] if ranged else max(inputs.MIN_SIZE_TRAIN)
    key = "MIN_SIZE_RANGE_TRAIN" if ranged else "MIN_SIZE_TRAIN"
    return lambda h, w: resized(h, w, short, inputs.MAX_SIZE_TRAIN), f"at INPUT.{key} {short}"


def _fitted(size: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    scale = min(size[0] / height, size[1] / width)
    return max(round(height * scale), 1), max(round(width * scale), 1)


def _surveyed(name: str, dataset: DetectionDataset) -> SurveyInput:
    if ":" not in name:
        return SurveyInput.of(dataset)
    names = dataset.content.names.tolist()
    label = f"headers of {dataset.short_name}"
    return SurveyInput.of(dataset, cached_headers(dataset.images, names, label))
