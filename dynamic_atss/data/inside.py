"""Names of files stay in their folder: what a file that is read names may lie nowhere else.

Otherwise a data set from somebody else decides which files of the machine are opened.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from dynamic_atss.errors import UserError
from dynamic_atss.quoting import shown


def leading_out(folder: Path, names: Iterable[str]) -> list[str]:
    """The names, relative to a folder or absolute, whose files lie outside of it: by their path, by
    `..`, or by a link. The folder itself may be a link. Each of its folders is listed once."""
    root = os.path.realpath(folder)
    by_folder: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_folder[os.path.dirname(name)].append(name)
    found = []
    for head, group in by_folder.items():
        directory = os.path.realpath(os.path.join(folder, head))
        if _is_within(directory, root):
            links = _links(directory)
            found += [n for n in group if _is_link_out(directory, os.path.basename(n), links, root)]
        else:
            found += group
    return found


def check_inside(source: Path, folder: Path, names: Sequence[str], what: str = "image") -> None:
    """Raises UserError: a name leads out of the folder. source: the file that names them · what:
    they name, in the message"""
    if out := leading_out(folder, names):
        raise outside_error(source, folder, out, len(names), what)


def outside_error(
    source: Path, folder: Path, out: Sequence[str], total: int, what: str
) -> UserError:
    """The error for the names `out`, of `total`."""
    place = os.path.realpath(os.path.join(folder, out[0]))
    return UserError(
        f"{source}: {what} {shown(out[0])} leads out of {folder}, to {place} ({len(out)} of "
        f"{total} do): put the files there, or set DATASETS.ALLOW_OUTSIDE True if you mean it"
    )


def _is_within(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


def _links(directory: str) -> set[str]:
    # A folder that is missing has a message of its own.
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        return {entry.name for entry in entries if entry.is_symlink()}
    return set()


def _is_link_out(directory: str, name: str, links: set[str], root: str) -> bool:
    if name not in links and name not in ("", ".", ".."):
        return False
    return not _is_within(os.path.realpath(os.path.join(directory, name)), root)
