"""Headers of image files, kept from one run to the next.

Reading 118,000 headers takes longer than all other checks together: what was read once counts as
long as a file's size and time of change stay. One JSON file for each image folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import logging
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_type_hints

from dynamic_atss.data.header import read_headers
from dynamic_atss.data.headers.record import ImageHeader
from dynamic_atss.errors import UserError
from dynamic_atss.files import cache_folder
from dynamic_atss.reading import JSON_BYTES, read_bytes

FORMAT = "headers/1"
_THREADS, _CHUNK = 16, 256
_KINDS = [int, int, *get_type_hints(ImageHeader).values()]  # of an entry
_log = logging.getLogger(__name__)

Stamp = tuple[int, int] | None  # bytes and time of change in nanoseconds; None: no such file
Kept = dict[str, list]  # file name -> bytes, time, then the fields of its header


def cached_headers(folder: Path, names: Sequence[str], label: str) -> list[ImageHeader | UserError]:
    """What `read_headers` says of the files of a folder; only new and changed ones are read.

    label: of the bar of progress
    """
    place = cache_place(folder)
    kept, stamps = _load(place), _stamps(folder, names)
    known = [_known(kept.get(n), s) for n, s in zip(names, stamps, strict=True)]
    lacking = [i for i, header in enumerate(known) if header is None]
    if not lacking:
        return [header for header in known if header]
    found = read_headers([folder / names[i] for i in lacking], label)
    read = dict(zip(lacking, found, strict=True))
    for i, header in read.items():
        stamp = stamps[i]
        if isinstance(header, ImageHeader) and stamp is not None:
            kept[names[i]] = [*stamp, *header]
    _save(place, kept)
    return [header or read[i] for i, header in enumerate(known)]


def cache_place(folder: Path) -> Path:
    """The file that keeps the headers of an image folder."""
    digest = hashlib.sha256(os.path.realpath(folder).encode("utf-8", "surrogateescape"))
    return cache_folder() / "headers" / f"{digest.hexdigest()[:24]}.json"


def _stamps(folder: Path, names: Sequence[str]) -> list[Stamp]:
    """In threads: over a network each question takes its time."""
    chunks = [names[i : i + _CHUNK] for i in range(0, len(names), _CHUNK)]
    with ThreadPoolExecutor(_THREADS) as threads:
        found = threads.map(lambda chunk: [_stamp(folder, name) for name in chunk], chunks)
        return list(itertools.chain.from_iterable(found))


def _stamp(folder: Path, name: str) -> Stamp:
    try:
        status = os.stat(os.path.join(folder, name))
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


def _known(entry: list | None, stamp: Stamp) -> ImageHeader | None:
    if entry is None or stamp is None or tuple(entry[:2]) != stamp:
        return None
    return ImageHeader(*entry[2:])


def _load(place: Path) -> Kept:
    """Nothing, and a line, where the file is damaged."""
    try:
        content = json.loads(read_bytes(place, JSON_BYTES))
        if content["format"] != FORMAT or not all(map(_is_entry, content["files"].values())):
            raise ValueError("not what this version writes")
        return content["files"]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        _log.warning("%s: kept headers are of no use (%s): all files are read anew", place, error)
        return {}


def _is_entry(entry: object) -> bool:
    return isinstance(entry, list) and [type(value) for value in entry] == _KINDS


def _save(place: Path, kept: Kept) -> None:
    """Several processes may write: each has a file of its own, and the last one counts."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=place.parent, suffix=".tmp")
        try:
            with open(handle, "w", encoding="utf-8") as file:
                json.dump({"format": FORMAT, "files": kept}, file)
            os.replace(temporary, place)
        finally:
            with contextlib.suppress(FileNotFoundError):  # mostly: renamed, so no longer there
                os.unlink(temporary)
    except OSError as error:
        _log.info("%s: headers are not kept for the next run (%s)", place, error.strerror)
