"""Warns of weight files whose format has no checksum, in which damaged numbers go unnoticed."""

from __future__ import annotations

import hashlib
from pathlib import Path

from dynamic_atss.reading import MB, WEIGHT_BYTES, open_file
from dynamic_atss.weights.archive import ZIP


def unchecked(path: Path) -> list[str]:
    """Returns a note with the file's sha256, for the user to compare with the publisher's.

    Returns no note for a zip archive, which has checksums. Raises OSError if the file cannot be
    read.
    """
    with open_file(path, WEIGHT_BYTES) as file:
        block = file.read(MB)
        if block.startswith(ZIP):
            return []
        digest = hashlib.sha256()
        while block:
            digest.update(block)
            block = file.read(MB)
    return [
        "this format has no checksum, so damaged numbers cannot be detected; compare the file's "
        f"sha256 with its publisher's: {digest.hexdigest()}"
    ]
