"""What the headers of image files tell: a bad file is found before an iteration meets it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from dynamic_atss.data.frames import Reading
from dynamic_atss.data.headers.record import ImageHeader
from dynamic_atss.data.survey.finding import Finding, share
from dynamic_atss.data.survey.surveyed import Surveyed

_USUAL_BITS = range(1, 9)


def unreadable_files(one: Surveyed) -> Iterator[Finding]:
    errors = [str(h) for h in one.headers if not isinstance(h, ImageHeader)]
    if errors:
        yield Finding(
            *("stop", "unreadable", one.where, len(errors)),
            f"{share(len(errors), len(one.headers), 'images')} cannot be read, the first: "
            f"{errors[0]}",
            "dynamic-atss check lists all and --fix leaves them out",
            tuple(errors),
        )


def wrong_sizes(one: Surveyed) -> Iterator[Finding]:
    """A size in the annotations that is none by which the file may be read."""
    wrong = [i for i, h in _good(one) if not fits(one.content.sizes[i], h, one.reading)]
    if wrong:
        header, (height, width) = one.headers[wrong[0]], one.content.sizes[wrong[0]]
        assert isinstance(header, ImageHeader)
        yield Finding(
            *("stop", "size", one.where, len(wrong)),
            f"{share(len(wrong), len(one.headers), 'images')} of another size than annotated, "
            f"such as {one.names[wrong[0]]!r}: {header.width} x {header.height} "
            f"pixels, but its entry says {width} x {height}",
            "correct the sizes, and the boxes if they belong to the other size; or leave width "
            "and height out to have them read from the files",
            tuple(one.names[i] for i in wrong),
        )


def turned_files(one: Surveyed) -> Iterator[Finding]:
    turned = [(i, h.orientation) for i, h in _good(one) if h.orientation != 1]
    if turned:
        first, orientation = turned[0]
        yield Finding(
            *("note", "orientation", one.where, len(turned)),
            f"{share(len(turned), len(one.headers), 'images')} with an EXIF orientation, such as "
            f"{one.names[first]!r} ({orientation})",
            "INPUT.EXIF decides whether they are turned upright; dynamic-atss show tells whether "
            "the boxes lie on their objects",
        )


def unusual_bits(one: Surveyed) -> Iterator[Finding]:
    deep = [(i, h) for i, h in _good(one) if h.bits not in _USUAL_BITS]
    if deep and not one.reading.bits:
        first, header = deep[0]
        yield Finding(
            *("warning", "bits", one.where, len(deep)),
            f"{share(len(deep), len(one.headers), 'images')} of more than 8 bits, such as "
            f"{one.names[first]!r} ({header.format}, {header.bits} bits)",
            "their highest 8 bits are used; set INPUT.BITS where the values use fewer",
        )


def mixed_formats(one: Surveyed) -> Iterator[Finding]:
    counts = Counter(f"{h.format} of {h.bits} bits" for _, h in _good(one))
    if len(counts) > 1:
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in counts.most_common())
        rare, number = counts.most_common()[-1]
        yield Finding(
            *("note", "formats", one.where, number),
            f"the images are of {len(counts)} kinds ({kinds})",
            f"no harm is known; if {rare} is a surprise, look at those files",
        )


CHECKS = (unreadable_files, wrong_sizes, turned_files, unusual_bits, mixed_formats)


def file_findings(one: Surveyed) -> list[Finding]:
    """Of the files of one data set, whose headers were read."""
    return [finding for check in CHECKS for finding in check(one)]


def _good(one: Surveyed) -> Iterator[tuple[int, ImageHeader]]:
    return ((i, h) for i, h in enumerate(one.headers) if isinstance(h, ImageHeader))


def fits(size: np.ndarray, header: ImageHeader, reading: Reading) -> bool:
    """Whether an annotated (height, width), 0 where there is none, is that of the file: of the
    stored pixels or of the upright picture, unless the reading says which of the two."""
    stored, upright = header[:2], header.upright
    frames = {"auto": (stored, upright), "apply": (upright,), "ignore": (stored,)}
    height, width = int(size[0]), int(size[1])
    return 0 in (height, width) or (height, width) in frames[reading.exif]
