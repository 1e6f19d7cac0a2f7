"""Checks the headers of image files, so that bad files are found before the training starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from dynamic_atss.data.headers.record import ImageHeader
from dynamic_atss.data.orientation import ReadOptions
from dynamic_atss.data.survey.finding import Finding, share
from dynamic_atss.data.survey.survey_input import SurveyInput

_USUAL_BITS = range(1, 9)


def unreadable_files(data: SurveyInput) -> Iterator[Finding]:
    errors = [str(h) for h in data.headers if not isinstance(h, ImageHeader)]
    if errors:
        yield Finding(
            "stop",
            "unreadable",
            data.where,
            len(errors),
            f"{share(len(errors), len(data.headers), 'images')} cannot be read, the first: "
            f"{errors[0]}",
            "dynamic-atss check lists all and --fix leaves them out",
            tuple(errors),
        )


def wrong_sizes(data: SurveyInput) -> Iterator[Finding]:
    """Finds images whose annotated size is neither the stored nor the upright picture's."""
    wrong = [i for i, h in _good(data) if not size_matches(data.content.sizes[i], h, data.reading)]
    if wrong:
        header, (height, width) = data.headers[wrong[0]], data.content.sizes[wrong[0]]
        assert isinstance(header, ImageHeader)
        yield Finding(
            "stop",
            "size",
            data.where,
            len(wrong),
            f"{share(len(wrong), len(data.headers), 'images')} of another size than annotated, "
            f"such as {data.names[wrong[0]]!r}: {header.width} x {header.height} "
            f"pixels, but its entry says {width} x {height}",
            "correct the sizes, and the boxes if they belong to the other size; or leave width "
            "and height out to have them read from the files",
            tuple(data.names[i] for i in wrong),
        )


def turned_files(data: SurveyInput) -> Iterator[Finding]:
    turned = [(i, h.orientation) for i, h in _good(data) if h.orientation != 1]
    if turned:
        first, orientation = turned[0]
        yield Finding(
            "note",
            "orientation",
            data.where,
            len(turned),
            f"{share(len(turned), len(data.headers), 'images')} with an EXIF orientation, such as "
            f"{data.names[first]!r} ({orientation})",
            "INPUT.EXIF decides whether they are turned upright; check with dynamic-atss show that "
            "the boxes are on their objects",
        )


def unusual_bits(data: SurveyInput) -> Iterator[Finding]:
    deep = [(i, h) for i, h in _good(data) if h.bits not in _USUAL_BITS]
    if deep and not data.reading.bits:
        first, header = deep[0]
        yield Finding(
            "warning",
            "bits",
            data.where,
            len(deep),
            f"{share(len(deep), len(data.headers), 'images')} of more than 8 bits, such as "
            f"{data.names[first]!r} ({header.format}, {header.bits} bits)",
            "their highest 8 bits are used; set INPUT.BITS if the values use fewer bits",
        )


def mixed_formats(data: SurveyInput) -> Iterator[Finding]:
    counts = Counter(f"{h.format} of {h.bits} bits" for _, h in _good(data))
    if len(counts) > 1:
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in counts.most_common())
        rare, number = counts.most_common()[-1]
        yield Finding(
            "note",
            "formats",
            data.where,
            number,
            f"the images are of {len(counts)} kinds ({kinds})",
            f"this is fine; if you do not expect {rare}, look at those files",
        )


CHECKS = (unreadable_files, wrong_sizes, turned_files, unusual_bits, mixed_formats)


def file_findings(data: SurveyInput) -> list[Finding]:
    """Checks the files of a data set. Its headers must have been read."""
    return [finding for check in CHECKS for finding in check(data)]


def _good(data: SurveyInput) -> Iterator[tuple[int, ImageHeader]]:
    return ((i, h) for i, h in enumerate(data.headers) if isinstance(h, ImageHeader))


def size_matches(size: np.ndarray, header: ImageHeader, reading: ReadOptions) -> bool:
    """Returns True if an annotated size is that of the stored or of the upright picture.

    `reading.exif` may allow only one of the two. A missing size matches.

    Args:
        size: (height, width) as annotated, or 0 if missing.
        header: the header of the file.
        reading: how to read the file.
    """
    stored, upright = header[:2], header.upright
    frames = {"auto": (stored, upright), "apply": (upright,), "ignore": (stored,)}
    height, width = int(size[0]), int(size[1])
    return 0 in (height, width) or (height, width) in frames[reading.exif]
