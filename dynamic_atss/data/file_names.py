"""Finds image files whose names are written in another form.

Annotation files may come from Windows, from web addresses or from another folder, and name their
images accordingly. A name is read in another form only if it does not exist as written, if exactly
one file has that form, and if no two names lead to the same file.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

MOST_FILES = 1_000_000  # limit of a search through subfolders

# A name and its file may differ in slashes, percent signs, composed letters, blanks at the ends and
# letter case, from the most certain difference to the least. Each function is applied to both, in
# sequence, so that either of them may have the difference.
_FORMS: tuple[Callable[[str], str], ...] = (
    lambda name: name.replace("\\", "/"),
    unquote,
    lambda name: unicodedata.normalize("NFC", name),
    str.strip,
    str.casefold,
)
_ABSOLUTE = re.compile(r"/|[A-Za-z]:/|[a-z]+://", re.IGNORECASE)
_SPLIT = re.compile(r"(train|val|test|dev)", re.IGNORECASE)


def missing_names(folder: Path, names: Iterable[str]) -> list[str]:
    """Returns the names without a file in `folder`. Lists each subfolder once."""
    listed: dict[str, set[str]] = {}
    missing = []
    for name in names:
        head, tail = os.path.split(name)
        if head not in listed:
            directory = folder / head
            listed[head] = set(os.listdir(directory)) if os.path.isdir(directory) else set()
        if tail not in listed[head]:
            missing.append(name)
    return missing


def files_below(folder: Path) -> list[str]:
    """Lists the files of a folder and its subfolders, relative to it, up to about MOST_FILES."""
    found: list[str] = []
    for directory, _, files in os.walk(folder):
        head = os.path.relpath(directory, folder)
        found += files if head == "." else [f"{head}/{file}" for file in files]
        if len(found) > MOST_FILES:
            break
    return found


def match_names(
    missing: Sequence[str], files: Sequence[str], taken: Iterable[str], folder: Path
) -> dict[str, str]:
    """Maps missing names to the files that they mean. Leaves out names that stay unclear.

    Args:
        missing: the names without a file.
        files: the existing files, relative to `folder`.
        taken: the files that other names mean as written.
        folder: the image folder. Names may repeat the end of its path.
    """
    found: dict[str, str] = {}
    forms, file_forms = {n: n for n in missing}, {f: f for f in files}
    parts = folder.resolve().parts
    for form in _FORMS:
        forms = {name: form(before) for name, before in forms.items()}
        file_forms = {file: form(before) for file, before in file_forms.items()}
        by_form = _unique(file_forms)
        for name, written in forms.items():
            matches = (by_form[c] for c in _candidates(written, parts) if c in by_form)
            if name not in found and (file := next(matches, None)) is not None:
                found[name] = file
    counts = Counter([*found.values(), *taken])
    return {name: file for name, file in found.items() if counts[file] == 1}


def similar_file(name: str, files: Iterable[str]) -> str | None:
    """Finds a file of the same name in another folder or with another ending, for a message."""
    wanted = PurePosixPath(unquote(name.replace("\\", "/")).casefold())
    stem = None
    for file in files:
        path = PurePosixPath(file.casefold())
        if path.name == wanted.name:
            return file
        if path.stem == wanted.stem:
            stem = stem or file
    return stem


def shown_pair(name: str, file: str) -> tuple[str, str]:
    """Quotes a name and its file for a message. Escapes decomposed letters, to show differences."""
    composed = all(unicodedata.is_normalized("NFC", text) for text in (name, file))
    return (repr(name), repr(file)) if composed else (ascii(name), ascii(file))


def _unique(forms: dict[str, str]) -> dict[str, str]:
    """Returns form -> file, for the forms that only one file has."""
    counts = Counter(forms.values())
    return {form: file for file, form in forms.items() if counts[form] == 1}


def _candidates(name: str, folder: Sequence[str]) -> list[str]:
    """Returns a name as written, and without leading folders that end the image folder's path."""
    parts = PurePosixPath(name).parts
    ends, lower = [p.casefold() for p in folder], [p.casefold() for p in parts]
    places = [k for k in range(1, len(parts)) if ends[-k:] == lower[:k]]
    if _ABSOLUTE.match(name) and _splits(lower) <= _splits(ends):
        places += [k + 1 for k in range(len(parts) - 1) if lower[k] == ends[-1]]
    return [str(PurePosixPath(name)), *("/".join(parts[k:]) for k in places)]


def _splits(parts: Sequence[str]) -> set[str]:
    """Returns the folders that name a split.

    train/a.jpg and val/a.jpg are different pictures.
    """
    return {part for part in parts if _SPLIT.match(part)}


def with_slashes(path: str) -> str:
    """Replaces backslashes by slashes if the path exists only with slashes."""
    slashed = path.replace("\\", "/")
    replaces = Path(slashed).expanduser().exists() and not Path(path).expanduser().exists()
    return slashed if replaces else path
