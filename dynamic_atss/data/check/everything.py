"""All checks of one or several data sets, and the cleaned copy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dynamic_atss.data.check.alike import same_pictures, shared_pictures
from dynamic_atss.data.check.balance import dropped_boxes, ignored_boxes, numbers, uneven_classes
from dynamic_atss.data.check.coco_file import health_findings
from dynamic_atss.data.check.opening import Opened
from dynamic_atss.data.check.pictures import Picture, broken_pictures, imagehash, read_pictures
from dynamic_atss.data.check.repair import Repair, source_of
from dynamic_atss.data.check.told import suspected
from dynamic_atss.data.survey import (
    Finding,
    Matching,
    box_findings,
    boxes_without_prior,
    crowded_images,
    in_order,
    together_findings,
)
from dynamic_atss.errors import UserError
from dynamic_atss.files import write_text

Checked = tuple[Opened, Sequence[Picture]]


def check_everything(
    train: Iterable[Opened],
    tests: Iterable[Opened],
    cap: int,
    matching: Matching | None,
    keep_empty: bool = False,
) -> list[Finding]:
    """All findings, worst first. Every picture is read.

    cap: detections of an image that a test keeps · matching: None where no head is configured ·
    keep_empty: whether a training keeps images without objects
    """
    found: list[Finding] = []
    trained, tested = ([*_checked(sets, found)] for sets in (train, tests))
    for opened, _ in (*trained, *tested):
        found += _findings(opened, cap)
    if not keep_empty:
        found += [finding for opened, _ in trained for finding in without_objects(opened)]
    if matching is not None:  # what a test set has need not be learnt
        for opened, _ in trained:
            assert opened.dataset is not None
            found += boxes_without_prior(opened.dataset, matching)
    surveyed = [[opened.surveyed for opened, _ in sets] for sets in (trained, tested)]
    found += together_findings(*surveyed)
    found += _alike(trained, tested)
    return in_order([*dict.fromkeys(found)])  # a set may be there twice


def _checked(sets: Iterable[Opened], found: list[Finding]) -> Iterator[Checked]:
    """The data sets that could be opened, with their pictures."""
    for opened in sets:
        found += opened.findings
        if opened.dataset is None or opened.whole is None:
            continue
        pictures = read_pictures(opened.dataset)
        names = opened.dataset.content.names.tolist()
        opened.broken |= {n: p.error for n, p in zip(names, pictures, strict=True) if p.error}
        total = len(opened.whole.names)
        found += broken_pictures(opened.whole.where, [*opened.broken.values()], total)
        yield opened, pictures


def without_objects(opened: Opened) -> Iterator[Finding]:
    """A training refuses a set without any."""
    assert opened.dataset is not None
    if not len(opened.dataset.classes_by_image()[0]):
        images = len(opened.dataset)
        yield Finding(
            *("stop", "no_boxes", str(opened.dataset.annotations), images),
            f"none of its {images:,} readable images has a usable box, as a training needs",
            "correct the boxes, or set DATASETS.KEEP_EMPTY True",
        )


def _findings(opened: Opened, cap: int) -> Iterator[Finding]:
    assert opened.dataset is not None
    one = opened.surveyed
    yield from (of_boxes := box_findings(one))
    yield from suspected(one, of_boxes)
    yield from dropped_boxes(one, opened.dataset.statistics)
    yield from ignored_boxes(one)
    yield from crowded_images(one, cap)
    yield from uneven_classes(one)
    yield from health_findings(one)


def _alike(train: Sequence[Checked], tests: Sequence[Checked]) -> Iterator[Finding]:
    if imagehash is None:
        yield Finding(
            *("note", "not_compared", "pictures", 0, "no search for nearly the same pictures"),
            "it needs a library: pip install 'dynamic_atss[check]'",
        )
    for opened, pictures in (*train, *tests):
        yield from same_pictures((opened.surveyed, pictures))
    for one, pictures in train:
        for other, others in tests:
            yield from shared_pictures((one.surveyed, pictures), (other.surveyed, others))


def as_json(sets: Iterable[Opened], found: Sequence[Finding], code: int) -> dict[str, Any]:
    """What --json writes."""
    return {
        "exit_code": code,
        "sets": [{"name": s.spec, **numbers(s.surveyed)} for s in sets if s.dataset is not None],
        "findings": [vars(finding) for finding in found],
    }


def fix(opened: Opened, output: Path) -> list[str]:
    """Writes the cleaned copy of a data set, which was checked; what was changed, with counts.

    Raises UserError: the file is there already, the data set cannot be read, nothing of it is left.
    """
    if output.exists():
        raise UserError(f"--fix {output}: is there already: give the name of a new file")
    if opened.dataset is None or opened.whole is None:
        raise UserError(f"--fix {output}: {opened.findings[-1].text}")
    repair = Repair(opened.whole, opened.broken)
    source, notes = source_of(opened.dataset, opened.whole)
    content = repair(source)
    changes = [*notes, *(f"{change}: {count:,}" for change, count in repair.changes.items())]
    lost = [k for k in ("images", "annotations") if source.get(k) and not content[k]]
    if lost:
        why = "; ".join(changes)
        raise UserError(
            f"--fix {output}: not written, as none of the {lost[0]} would be left ({why}): correct "
            f"what is said of {opened.whole.where}"
        )
    write_text(output, json.dumps(content, ensure_ascii=False))
    return changes
