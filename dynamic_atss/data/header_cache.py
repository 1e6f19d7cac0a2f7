"""Caches the headers of image files from run to run, in one JSON file per image folder.

Reading 118,000 headers takes longer than all other checks. A cached header is used as long as size
and modification time of the file stay the same.
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
_TYPES = [int, int, *get_type_hints(ImageHeader).values()]  # the types of an entry
_log = logging.getLogger(__name__)

Stamp = tuple[int, int] | None  # bytes and modification time in ns; None if there is no such file
Cache = dict[str, list]  # file name -> bytes, time, then the fields of its header


def cached_headers(folder: Path, names: Sequence[str], label: str) -> list[ImageHeader | UserError]:
    """Returns the headers as `read_headers` does, but reads only files that are new or changed.

    Args:
        folder: the image folder.
        names: the files, relative to `folder`.
        label: the label of the progress bar.
    """
    cache_file = cache_place(folder)
    cache, stamps = _load(cache_file), _stamps(folder, names)
    known = [_known(cache.get(n), s) for n, s in zip(names, stamps, strict=True)]
    missing = [i for i, header in enumerate(known) if header is None]
    if not missing:
        return [header for header in known if header]
    found = read_headers([folder / names[i] for i in missing], label)
    read = dict(zip(missing, found, strict=True))
    for i, header in read.items():
        stamp = stamps[i]
        if isinstance(header, ImageHeader) and stamp is not None:
            cache[names[i]] = [*stamp, *header]
    _save(cache_file, cache)
    return [header or read[i] for i, header in enumerate(known)]


def cache_place(folder: Path) -> Path:
    """Returns the cache file of an image folder."""
    digest = hashlib.sha256(os.path.realpath(folder).encode("utf-8", "surrogateescape"))
    return cache_folder() / "headers" / f"{digest.hexdigest()[:24]}.json"


def _stamps(folder: Path, names: Sequence[str]) -> list[Stamp]:
    """Returns the stamp of each file.

    Asks in threads, because a query over a network takes time.
    """
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


def _load(cache_file: Path) -> Cache:
    """Reads the cache. Returns an empty one, with a warning, if the file is damaged."""
    try:
        content = json.loads(read_bytes(cache_file, JSON_BYTES))
        if content["format"] != FORMAT or not all(map(_is_entry, content["files"].values())):
            raise ValueError("of another version")
        return content["files"]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        _log.warning("%s: unusable cache of headers (%s): all files are read", cache_file, error)
        return {}


def _is_entry(entry: object) -> bool:
    return isinstance(entry, list) and [type(value) for value in entry] == _TYPES


def _save(cache_file: Path, cache: Cache) -> None:
    """Writes the cache through a temporary file.

    If several processes write it, the last one wins.
    """
    try:
        cache_file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=cache_file.parent, suffix=".tmp")
        try:
            with open(handle, "w", encoding="utf-8") as file:
                json.dump({"format": FORMAT, "files": cache}, file)
            os.replace(temporary, cache_file)
        finally:
            with contextlib.suppress(FileNotFoundError):  # os.replace has moved it
                os.unlink(temporary)
    except OSError as error:
        _log.info("%s: headers are not cached for the next run (%s)", cache_file, error.strerror)
