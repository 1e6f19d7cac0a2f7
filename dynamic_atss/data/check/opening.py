"""Opens data sets that have bad files: reports them, leaves them out, and checks the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dynamic_atss.data.annotations import Annotations
from dynamic_atss.data.catalog import open_dataset
from dynamic_atss.data.check.opening_log import captured_warnings, opening_findings
from dynamic_atss.data.cleaning import find_names
from dynamic_atss.data.dataset import DetectionDataset
from dynamic_atss.data.header import check_pixels, check_readable
from dynamic_atss.data.header_cache import cached_headers
from dynamic_atss.data.headers.record import ImageHeader
from dynamic_atss.data.image import read_image
from dynamic_atss.data.survey import Finding, SurveyInput, file_findings
from dynamic_atss.data.survey.files import size_matches
from dynamic_atss.data.survey.survey_input import Header
from dynamic_atss.errors import UserError


@dataclass
class Opened:
    """Holds a data set that may have bad files, and the findings about them.

    Attributes:
        spec: the name of the data set.
        exists: True if its files exist.
        dataset: the data set without bad images. None if it cannot be read.
        all_images: all images, also the bad ones, as annotated.
        headers: file name -> header, for good images.
        broken: file name -> why the image cannot be decoded.
        findings: the findings so far.
    """

    spec: str
    exists: bool = False
    dataset: DetectionDataset | None = None
    all_images: SurveyInput | None = None
    headers: dict[str, ImageHeader] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def surveyed(self) -> SurveyInput:
        """Returns the input of a survey, with only the good images."""
        assert self.dataset is not None
        headers = [self.headers[name] for name in self.dataset.content.names.tolist()]
        return SurveyInput.of(self.dataset, headers)


def open_leniently(
    spec: str, formats: Mapping[str, type[DetectionDataset]], **options: Any
) -> Opened:
    """Opens a data set and turns mistakes in its files into findings.

    Args:
        spec: the name of the data set.
        formats: the class of each format.
        options: as for `open_dataset`, without `training`.

    Raises UserError if the format, a file or a folder does not exist.
    """
    opened = Opened(spec)
    lenient = {name: _lenient(kind, opened) for name, kind in formats.items()}
    try:
        with captured_warnings() as records:
            opened.dataset = open_dataset(spec, formats=lenient, training=False, **options)
    except UserError as error:
        if not opened.exists:
            raise
        where = opened.all_images.where if opened.all_images else spec
        advice = "correct this first; the data set cannot be checked further"
        opened.findings.append(Finding("stop", "not_read", where, 1, str(error), advice))
    if opened.all_images:
        of_opening = [*opening_findings(opened.all_images, records)]
        codes = {finding.code for finding in of_opening}  # more detailed than the survey's
        opened.findings = [f for f in opened.findings if f.code not in codes] + of_opening
    return opened


def _lenient(kind: type[DetectionDataset], opened: Opened) -> type[DetectionDataset]:
    """Derives a format whose `read` leaves out unusable images and records why."""

    def read(self: DetectionDataset, *, need_boxes: bool = False) -> Annotations:
        opened.exists = self.annotations.exists() and self.images.is_dir()
        content = kind.read(self, need_boxes=need_boxes)
        if "" in content.names.tolist() or not opened.exists:
            return content  # the data set raises an error for it
        content, _, _ = find_names(self.images, content)
        self.refuse_outside(content.names.tolist())
        names, label = content.names.tolist(), f"headers of {self.short_name}"
        most = self.reading.max_pixels
        headers = [
            _within(header, self.images / name, most)
            for header, name in zip(cached_headers(self.images, names, label), names, strict=True)
        ]
        source = str(self.annotations)
        opened.all_images = SurveyInput(source, self.images, content, headers, self.reading)
        pairs = zip(names, headers, strict=True)
        opened.headers = {n: h for n, h in pairs if isinstance(h, ImageHeader)}
        opened.findings = file_findings(opened.all_images)
        opened.broken = _cut_files(self.images, opened.headers, most)
        good = [
            isinstance(header, ImageHeader) and size_matches(size, header, self.reading)
            for header, size in zip(headers, content.sizes, strict=True)
        ]
        return with_images(content, np.array(good, bool) & ~np.isin(names, [*opened.broken]))

    return type(kind.__name__, (kind,), {"read": read})


def _within(header: Header, path: Path, max_pixels: int) -> Header:
    """Returns the header, or an error if the image has too many pixels or pixels of 32 bits."""
    try:
        if isinstance(header, ImageHeader):
            check_pixels(path, header, max_pixels)
            check_readable(path, header)
    except UserError as error:
        return error
    return header


def _cut_files(folder: Path, headers: Mapping[str, ImageHeader], max_pixels: int) -> dict[str, str]:
    """Decodes the files without an end mark. Returns file name -> reason for those that fail."""
    found = {}
    for name in (name for name, header in headers.items() if not header.ended):
        try:
            read_image(folder / name, max_pixels=max_pixels)
        except UserError as error:
            found[name] = str(error)
    return found


def with_images(content: Annotations, kept: np.ndarray) -> Annotations:
    """Keeps only the images for which `kept` (n,) bool is True, with their boxes."""
    boxes = kept[content.image_index]
    new_index = np.cumsum(kept) - 1
    per_box = {n: getattr(content, n)[boxes] for n in ("xywh", "areas", "classes", "crowd")}
    per_image = {n: getattr(content, n)[kept] for n in ("image_ids", "names", "sizes")}
    return replace(
        content, **per_box, **per_image, image_index=new_index[content.image_index[boxes]]
    )
