"""Runs all checks of one or several data sets, and writes a cleaned copy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dynamic_atss.data.check.alike import same_pictures, shared_pictures
from dynamic_atss.data.check.balance import dropped_boxes, ignored_boxes, numbers, uneven_classes
from dynamic_atss.data.check.coco_file import health_findings
from dynamic_atss.data.check.opening import Opened
from dynamic_atss.data.check.opening_log import box_form_findings
from dynamic_atss.data.check.pictures import Picture, broken_pictures, imagehash, read_pictures
from dynamic_atss.data.check.repair import Repair, source_of
from dynamic_atss.data.survey import (
    Finding,
    Matching,
    box_findings,
    boxes_without_prior,
    crowded_images,
    in_order,
    several,
    share,
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
    """Runs all checks and returns the findings, worst first. Reads every picture.

    Args:
        train, tests: the training sets and the test sets.
        cap: limit of detections per image in a test.
        matching: how the training matches priors. None without a configured head.
        keep_empty: True if the training keeps images without objects.
    """
    found: list[Finding] = []
    train_sets, test_sets = ([*_checked(sets, found)] for sets in (train, tests))
    for opened, _ in (*train_sets, *test_sets):
        found += _findings(opened, cap)
    if not keep_empty:
        found += [finding for opened, _ in train_sets for finding in without_objects(opened)]
    if matching is not None:  # boxes of test sets need no prior
        for opened, _ in train_sets:
            assert opened.dataset is not None
            found += boxes_without_prior(opened.dataset, matching)
    surveyed = [[opened.surveyed for opened, _ in sets] for sets in (train_sets, test_sets)]
    found += together_findings(*surveyed)
    found += _alike(train_sets, test_sets)
    return in_order([*dict.fromkeys(found)])  # a set may be given twice


def _checked(sets: Iterable[Opened], found: list[Finding]) -> Iterator[Checked]:
    """Reads the pictures of the data sets that could be opened. Adds findings to `found`."""
    for opened in sets:
        found += opened.findings
        if opened.dataset is None or opened.all_images is None:
            continue
        pictures = read_pictures(opened.dataset)
        names = opened.dataset.content.names.tolist()
        opened.broken |= {n: p.error for n, p in zip(names, pictures, strict=True) if p.error}
        total = len(opened.all_images.names)
        found += broken_pictures(opened.all_images.where, [*opened.broken.values()], total)
        yield opened, pictures


def without_objects(opened: Opened) -> Iterator[Finding]:
    """Finds sets without objects, which a training refuses."""
    assert opened.dataset is not None
    if not len(opened.dataset.classes_by_image()[0]):
        images = len(opened.dataset)
        yield Finding(
            "stop",
            "no_boxes",
            str(opened.dataset.annotations),
            images,
            f"none of its {images:,} readable images has a usable box, but a training needs one",
            "correct the boxes, or set DATASETS.KEEP_EMPTY True",
        )


def _findings(opened: Opened, cap: int) -> Iterator[Finding]:
    assert opened.dataset is not None
    data = opened.surveyed
    yield from (of_boxes := box_findings(data))
    yield from box_form_findings(data, of_boxes)
    yield from dropped_boxes(data, opened.dataset.statistics)
    yield from ignored_boxes(data)
    yield from crowded_images(data, cap)
    yield from uneven_classes(data)
    yield from health_findings(data)


def _alike(train: Sequence[Checked], tests: Sequence[Checked]) -> Iterator[Finding]:
    if imagehash is None:
        yield Finding(
            "note",
            "not_compared",
            "pictures",
            0,
            "no search for similar pictures",
            "it needs a library: pip install 'dynamic_atss[check]'",
        )
    for opened, pictures in (*train, *tests):
        yield from same_pictures((opened.surveyed, pictures))
    for data, pictures in train:
        for other, others in tests:
            yield from shared_pictures((data.surveyed, pictures), (other.surveyed, others))


def as_json(sets: Iterable[Opened], found: Sequence[Finding], code: int) -> dict[str, Any]:
    """Returns the content of the file that --json writes."""
    return {
        "exit_code": code,
        "sets": [{"name": s.spec, **numbers(s.surveyed)} for s in sets if s.dataset is not None],
        "findings": [vars(finding) for finding in found],
    }


def counted(sets: Sequence[Opened]) -> str:
    """Counts the images, boxes and classes of all sets, and the sets that could not be read."""
    read = [opened.all_images for opened in sets if opened.all_images is not None]
    images = sum(len(data.names) for data in read)
    boxes = sum(int(data.objects().sum()) for data in read)
    classes = len({name for data in read for name in data.content.class_names})
    counts = (
        several(images, "image"),
        several(boxes, "box", "boxes"),
        several(classes, "class", "classes"),
    )
    unread = f"{share(len(sets) - len(read), len(sets), 'data sets')} not read; "
    return (unread if len(read) < len(sets) else "") + ", ".join(counts)


def fix(opened: Opened, output: Path) -> list[str]:
    """Writes a cleaned copy of a checked data set. Returns the changes, with counts.

    Raises UserError if `output` exists, if the data set cannot be read, or if nothing would be
    left.
    """
    if output.exists():
        raise UserError(f"--fix {output}: exists already: give the name of a new file")
    if opened.dataset is None or opened.all_images is None:
        raise UserError(f"--fix {output}: {opened.findings[-1].text}")
    repair = Repair(opened.all_images, opened.broken)
    source, notes = source_of(opened.dataset, opened.all_images)
    content = repair(source)
    changes = [*notes, *(f"{change}: {count:,}" for change, count in repair.changes.items())]
    lost = [k for k in ("images", "annotations") if source.get(k) and not content[k]]
    if lost:
        reasons = "; ".join(changes)
        raise UserError(
            f"--fix {output}: not written, as none of the {lost[0]} would be left ({reasons}): "
            f"correct {opened.all_images.where} by the findings"
        )
    write_text(output, json.dumps(content, ensure_ascii=False))
    return changes
