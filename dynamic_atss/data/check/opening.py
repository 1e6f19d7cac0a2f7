"""Opens data sets that have bad files: these are told, left out, and the rest is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dynamic_atss.data.annotations import Annotations
from dynamic_atss.data.catalog import open_dataset
from dynamic_atss.data.check.told import kept_back, told_on_opening
from dynamic_atss.data.cleaning import find_names
from dynamic_atss.data.dataset import DetectionDataset
from dynamic_atss.data.header import check_pixels, check_readable
from dynamic_atss.data.header_cache import cached_headers
from dynamic_atss.data.headers.record import ImageHeader
from dynamic_atss.data.image import read_image
from dynamic_atss.data.survey import Finding, Surveyed, file_findings
from dynamic_atss.data.survey.files import fits
from dynamic_atss.data.survey.surveyed import Header
from dynamic_atss.errors import UserError


@dataclass
class Opened:
    """spec, the name · there, whether its files exist · dataset, without its bad images; None where
    nothing can be read · whole, with them, as annotated · headers, by file name, of those that are
    good · broken, by file name, why an image cannot be decoded · findings so far
    """

    spec: str
    there: bool = False
    dataset: DetectionDataset | None = None
    whole: Surveyed | None = None
    headers: dict[str, ImageHeader] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def surveyed(self) -> Surveyed:
        """The good images."""
        assert self.dataset is not None
        headers = [self.headers[name] for name in self.dataset.content.names.tolist()]
        return Surveyed.of(self.dataset, headers)


def open_leniently(
    spec: str, formats: Mapping[str, type[DetectionDataset]], **options: Any
) -> Opened:
    """The data set of a name. options: as `open_dataset`, but for `training`.

    Raises UserError: there is no such format, file or folder. What is in the files is a finding.
    """
    opened = Opened(spec)
    lenient = {name: _lenient(kind, opened) for name, kind in formats.items()}
    try:
        with kept_back() as records:
            opened.dataset = open_dataset(spec, formats=lenient, training=False, **options)
    except UserError as error:
        if not opened.there:
            raise
        where = opened.whole.where if opened.whole else spec
        advice = "nothing more can be told of this data set before"
        opened.findings.append(Finding("stop", "not_read", where, 1, str(error), advice))
    if opened.whole:
        told = [*told_on_opening(opened.whole, records)]
        codes = {finding.code for finding in told}  # the survey says less of the same
        opened.findings = [f for f in opened.findings if f.code not in codes] + told
    return opened


def _lenient(kind: type[DetectionDataset], opened: Opened) -> type[DetectionDataset]:
    """A format whose `read` leaves out the images that cannot be used, and puts down why."""

    def read(self: DetectionDataset, *, need_boxes: bool = False) -> Annotations:
        opened.there = self.annotations.exists() and self.images.is_dir()
        content = kind.read(self, need_boxes=need_boxes)
        if "" in content.names.tolist() or not opened.there:
            return content  # the data set has a message for that
        content, _, _ = find_names(self.images, content)
        self.refuse_outside(content.names.tolist())
        names, label = content.names.tolist(), f"headers of {self.short_name}"
        most = self.reading.max_pixels
        headers = [
            _within(header, self.images / name, most)
            for header, name in zip(cached_headers(self.images, names, label), names, strict=True)
        ]
        source = str(self.annotations)
        opened.whole = Surveyed(source, self.images, content, headers, self.reading)
        pairs = zip(names, headers, strict=True)
        opened.headers = {n: h for n, h in pairs if isinstance(h, ImageHeader)}
        opened.findings = file_findings(opened.whole)
        opened.broken = _cut_files(self.images, opened.headers, most)
        good = [
            isinstance(header, ImageHeader) and fits(size, header, self.reading)
            for header, size in zip(headers, content.sizes, strict=True)
        ]
        return with_images(content, np.array(good, bool) & ~np.isin(names, [*opened.broken]))

    return type(kind.__name__, (kind,), {"read": read})


def _within(header: Header, path: Path, max_pixels: int) -> Header:
    """The header, or that the image has more pixels, or some of 32 bits."""
    try:
        if isinstance(header, ImageHeader):
            check_pixels(path, header, max_pixels)
            check_readable(path, header)
    except UserError as error:
        return error
    return header


def _cut_files(folder: Path, headers: Mapping[str, ImageHeader], max_pixels: int) -> dict[str, str]:
    """Of the files without a mark of their end those that cannot be decoded, and why."""
    found = {}
    for name in (name for name, header in headers.items() if not header.ended):
        try:
            read_image(folder / name, max_pixels=max_pixels)
        except UserError as error:
            found[name] = str(error)
    return found


def with_images(content: Annotations, kept: np.ndarray) -> Annotations:
    """Of some images only, with their boxes. kept (n,) bool"""
    boxes = kept[content.image]
    place = np.cumsum(kept) - 1
    per_box = {n: getattr(content, n)[boxes] for n in ("xywh", "areas", "classes", "crowd")}
    per_image = {n: getattr(content, n)[kept] for n in ("image_ids", "names", "sizes")}
    return replace(content, **per_box, **per_image, image=place[content.image[boxes]])
