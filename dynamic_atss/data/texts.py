"""Text files of other programs: UTF-8, or what the mark at their beginning says."""

from __future__ import annotations

import codecs
from pathlib import Path

# What Windows programs write; PowerShell's `>` makes UTF-16.
_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def read_text(path: Path) -> str:
    """The text of a file, without a mark at its beginning. Raises OSError, UnicodeDecodeError."""
    content = path.read_bytes()
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "")
    return content.decode(encoding or "utf-8-sig")
