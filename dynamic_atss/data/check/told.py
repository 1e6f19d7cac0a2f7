"""What a data set says in the log when it is opened, as findings: each thing is told once."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dynamic_atss.data import dataset, depth, frames
from dynamic_atss.data.box_kinds import box_warning
from dynamic_atss.data.survey import Finding, Surveyed

_LOGGERS = [logging.getLogger(module.__name__) for module in (dataset, depth, frames)]
_OF_BOXES = {"clipped", "fractions", "upright"}  # codes of what `box_warning` says, too


class _Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def kept_back() -> Iterator[list[logging.LogRecord]]:
    """The warnings of data sets that are opened within, which go nowhere else."""
    kept = _Kept()
    before = [logger.propagate for logger in _LOGGERS]
    for logger in _LOGGERS:
        logger.addHandler(kept)
        logger.propagate = False
    try:
        yield kept.records
    finally:
        for logger, propagate in zip(_LOGGERS, before, strict=True):
            logger.removeHandler(kept)
            logger.propagate = propagate


def told_on_opening(one: Surveyed, records: Sequence[logging.LogRecord]) -> Iterator[Finding]:
    """What was read by its meaning, and warnings that the survey does not have.

    one: all images, with the annotations as they were read · records: those that were kept back
    """
    for note in one.content.notes:
        advice = "a training reads it so, too; --fix writes it so"
        yield Finding("note", "by_meaning", one.where, 1, note, advice)
    areas, example = one.content.odd_areas
    for warning in one.content.warnings:
        if not (areas and example in warning):  # the survey has these
            yield _finding("annotations", one.where, warning)
    for record in records:
        if record.name == depth.__name__:
            message = record.getMessage().removeprefix(f"{one.where}: ")
            yield _finding("bits", one.where, message)


def suspected(one: Surveyed, found: Sequence[Finding]) -> Iterator[Finding]:
    """What is odd about boxes by their areas, too, where the survey found nothing. found: by it"""
    if not _OF_BOXES & {finding.code for finding in found}:
        content = one.content
        warning = box_warning(content.xywh, content.sizes[content.image], content.areas)
        if warning:
            yield _finding("box_kinds", one.where, warning)


def _finding(code: str, where: str, line: str) -> Finding:
    """line: what was found, a colon, and what to do"""
    text, _, advice = line.partition(": ")
    return Finding("warning", code, where, 1, text, advice)
