"""File names as other machines write them -> the files that are there.

An annotation file comes from Windows, from a web address or from a folder of another name, and
names its images so. A name is read in another form only if it does not exist as written, exactly
one file has that form, and no two names end at the same file.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

MOST_FILES = 1_000_000  # how many a search through subfolders looks at

# What may differ between a name and its file, from the most certain on: slashes, percent signs,
# composed letters, blanks at the ends, letter case. Each is applied to both sides, after the ones
# before, so that it does not matter which side has it.
_FORMS: tuple[Callable[[str], str], ...] = (
    lambda name: name.replace("\\", "/"),
    unquote,
    lambda name: unicodedata.normalize("NFC", name),
    str.strip,
    str.casefold,
)
_ABSOLUTE = re.compile(r"/|[A-Za-z]:/|[a-z]+://", re.IGNORECASE)
_SPLIT = re.compile(r"(train|val|test|dev)", re.IGNORECASE)


def absent(folder: Path, names: Iterable[str]) -> list[str]:
    """The names that are no file in a folder, found by listing each of its folders once."""
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


def below(folder: Path) -> list[str]:
    """The files of a folder and its subfolders, relative to it, at most about MOST_FILES."""
    found: list[str] = []
    for directory, _, files in os.walk(folder):
        head = os.path.relpath(directory, folder)
        found += files if head == "." else [f"{head}/{file}" for file in files]
        if len(found) > MOST_FILES:
            break
    return found


def match(
    missing: Sequence[str], files: Sequence[str], taken: Iterable[str], folder: Path
) -> dict[str, str]:
    """The file of each missing name that certainly means one; other names are left out.

    files: those that there are · taken: the ones that a name means as written · folder: what they
    are relative to; a name may repeat the end of its path
    """
    found: dict[str, str] = {}
    forms, file_forms = {n: n for n in missing}, {f: f for f in files}
    parts = folder.resolve().parts
    for form in _FORMS:
        forms = {name: form(before) for name, before in forms.items()}
        file_forms = {file: form(before) for file, before in file_forms.items()}
        by_form = _unique(file_forms)
        for name, written in forms.items():
            files_of_it = (by_form[c] for c in _candidates(written, parts) if c in by_form)
            if name not in found and (file := next(files_of_it, None)) is not None:
                found[name] = file
    times = Counter([*found.values(), *taken])
    return {name: file for name, file in found.items() if times[file] == 1}


def likely(name: str, files: Iterable[str]) -> str | None:
    """A file that a missing name may mean, for a message: in another folder, of another ending."""
    wanted = PurePosixPath(unquote(name.replace("\\", "/")).casefold())
    stem = None
    for file in files:
        path = PurePosixPath(file.casefold())
        if path.name == wanted.name:
            return file
        if path.stem == wanted.stem:
            stem = stem or file
    return stem


def as_pair(name: str, file: str) -> tuple[str, str]:
    """A name and its file, as messages show them: with escapes where letters are decomposed, so
    that a difference is seen."""
    composed = all(unicodedata.is_normalized("NFC", text) for text in (name, file))
    return (repr(name), repr(file)) if composed else (ascii(name), ascii(file))


def _unique(forms: dict[str, str]) -> dict[str, str]:
    """Form -> file, where one file alone has it."""
    times = Counter(forms.values())
    return {form: file for file, form in forms.items() if times[form] == 1}


def _candidates(name: str, folder: Sequence[str]) -> list[str]:
    """A name as it is, and without the folders in front that are the end of the image folder's
    path."""
    parts = PurePosixPath(name).parts
    ends, lower = [p.casefold() for p in folder], [p.casefold() for p in parts]
    places = [k for k in range(1, len(parts)) if ends[-k:] == lower[:k]]
    if _ABSOLUTE.match(name) and _splits(lower) <= _splits(ends):
        places += [k + 1 for k in range(len(parts) - 1) if lower[k] == ends[-1]]
    return [str(PurePosixPath(name)), *("/".join(parts[k:]) for k in places)]


def _splits(parts: Sequence[str]) -> set[str]:
    """The folders that name a split: a picture of train/ is none of val/ with the same name."""
    return {part for part in parts if _SPLIT.match(part)}


def with_slashes(path: str) -> str:
    """A path with backslashes that is not there as written, with slashes if it is there so."""
    slashed = path.replace("\\", "/")
    there = Path(slashed).expanduser().exists() and not Path(path).expanduser().exists()
    return slashed if there else path
