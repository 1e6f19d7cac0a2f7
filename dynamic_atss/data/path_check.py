"""Refuses names in annotation files that lead out of the folder of the data set.

Otherwise a data set from somebody else could decide which files of the machine are opened.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from dynamic_atss.errors import UserError
from dynamic_atss.quoting import shown


def names_outside(folder: Path, names: Iterable[str]) -> list[str]:
    """Returns the names whose files lie outside of a folder: by their path, by `..`, or by a link.

    Lists each subfolder once.

    Args:
        folder: the folder, which may be a link.
        names: the files, relative to the folder or absolute.
    """
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


def check_inside(source: Path, folder: Path, names: Sequence[str], kind: str = "image") -> None:
    """Raises UserError if a name leads out of the folder.

    Args:
        source: the file with the names.
        folder: the folder.
        names: the files, relative to the folder or absolute.
        kind: the kind of the files, for the message.
    """
    if outside := names_outside(folder, names):
        raise outside_error(source, folder, outside, len(names), kind)


def outside_error(
    source: Path, folder: Path, outside: Sequence[str], total: int, kind: str
) -> UserError:
    """Makes the error for the names `outside`, which are some of `total` names."""
    target = os.path.realpath(os.path.join(folder, outside[0]))
    return UserError(
        f"{source}: {kind} {shown(outside[0])} leads out of {folder}, to {target} ({len(outside)} "
        f"of {total} do): move the files into the folder, or set DATASETS.ALLOW_OUTSIDE True to "
        "allow it"
    )


def _is_within(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


def _links(directory: str) -> set[str]:
    # Another check reports a missing folder.
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        return {entry.name for entry in entries if entry.is_symlink()}
    return set()


def _is_link_out(directory: str, name: str, links: set[str], root: str) -> bool:
    if name not in links and name not in ("", ".", ".."):
        return False
    return not _is_within(os.path.realpath(os.path.join(directory, name)), root)
