"""Weight files whose format has no checksum: damage in their numbers cannot be seen."""

from __future__ import annotations

import hashlib
from pathlib import Path

from dynamic_atss.reading import MB, WEIGHT_BYTES, open_file
from dynamic_atss.weights.archive import ZIP


def unchecked(path: Path) -> list[str]:
    """A note with the file's sha256, to be held against the publisher's; none for a zip archive,
    whose parts are checked as they are read. Raises OSError."""
    with open_file(path, WEIGHT_BYTES) as file:
        block = file.read(MB)
        if block.startswith(ZIP):
            return []
        digest = hashlib.sha256()
        while block:
            digest.update(block)
            block = file.read(MB)
    return [
        "this format has no checksum, so that damage in its numbers cannot be seen; compare the "
        f"file's sha256 with its publisher's: {digest.hexdigest()}"
    ]
