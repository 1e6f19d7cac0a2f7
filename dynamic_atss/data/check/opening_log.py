"""Turns the log of opening a data set into findings, except for those of the survey."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dynamic_atss.data import dataset, depth, orientation
from dynamic_atss.data.box_kinds import box_warning
from dynamic_atss.data.survey import Finding, SurveyInput

_LOGGERS = [logging.getLogger(module.__name__) for module in (dataset, depth, orientation)]
_OF_BOXES = {"clipped", "fractions", "upright"}  # codes of findings that `box_warning` repeats


class _Recorder(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def captured_warnings() -> Iterator[list[logging.LogRecord]]:
    """Captures the warnings of data sets that are opened inside. They are not logged."""
    recorder = _Recorder()
    before = [logger.propagate for logger in _LOGGERS]
    for logger in _LOGGERS:
        logger.addHandler(recorder)
        logger.propagate = False
    try:
        yield recorder.records
    finally:
        for logger, propagate in zip(_LOGGERS, before, strict=True):
            logger.removeHandler(recorder)
            logger.propagate = propagate


def opening_findings(data: SurveyInput, records: Sequence[logging.LogRecord]) -> Iterator[Finding]:
    """Yields interpreted values, and warnings that the survey does not have.

    Args:
        data: all images, as annotated.
        records: the list of `captured_warnings`.
    """
    for note in data.content.notes:
        advice = "a training does the same; --fix writes the new values"
        yield Finding("note", "by_meaning", data.where, 1, note, advice)
    areas, example = data.content.odd_areas
    for warning in data.content.warnings:
        if not (areas and example in warning):  # the survey finds these
            yield _finding("annotations", data.where, warning)
    for record in records:
        if record.name == depth.__name__:
            message = record.getMessage().removeprefix(f"{data.where}: ")
            yield _finding("bits", data.where, message)


def box_form_findings(data: SurveyInput, found: Sequence[Finding]) -> Iterator[Finding]:
    """Yields the warning of `box_warning`, unless the survey has found a similar fault.

    Args:
        data: the data set.
        found: the findings of the survey.
    """
    if not _OF_BOXES & {finding.code for finding in found}:
        content = data.content
        warning = box_warning(content.xywh, content.sizes[content.image_index], content.areas)
        if warning:
            yield _finding("box_kinds", data.where, warning)


def _finding(code: str, where: str, line: str) -> Finding:
    """Makes a finding of a line "description: advice"."""
    text, _, advice = line.partition(": ")
    return Finding("warning", code, where, 1, text, advice)
