"""Prepares annotations for training: checks files, completes sizes, drops unusable boxes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.data.annotations import Annotations
from dynamic_atss.data.file_names import (
    files_below,
    match_names,
    missing_names,
    shown_pair,
    similar_file,
)
from dynamic_atss.data.header import image_header
from dynamic_atss.errors import UserError
from dynamic_atss.suggest import path_advice


def clean_boxes(
    xywh: np.ndarray,
    sizes: np.ndarray,
    crowd: np.ndarray,
    convention: BoxConvention = BoxConvention.LEGACY,
    keep_crowds: bool = False,
) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Converts annotated boxes to boxes for training.

    Args:
        xywh: (A, 4).
        sizes: (A, 2) height, width of each box's image.
        crowd: (A,) bool.
        convention: LEGACY means x2 = x + w - 1, so that boxes of one pixel have no extent. EXACT
            means x2 = x + w.
        keep_crowds: treats crowds as the other boxes. False drops them.

    Returns xyxy (A, 4) float32 clipped to the image, kept (A,) bool, and the counts by reason.
    """
    beyond = convention.value
    valid = np.isfinite(xywh).all(axis=1) & (np.nan_to_num(xywh[:, 2:]) > 0).all(axis=1)
    xy, wh = np.where(valid[:, None], xywh, 0.0)[:, :2], np.where(valid[:, None], xywh, 0.0)[:, 2:]
    raw = np.concatenate([xy, xy + np.maximum(wh - beyond, 0)], axis=1)
    boxes = np.clip(raw, 0, np.tile(sizes[:, ::-1] - beyond, 2))
    large = ((wh >= 1) & (wh > beyond)).all(axis=1)
    inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    wanted = np.ones_like(crowd) if keep_crowds else ~crowd
    kept = wanted & valid & large & inside
    counts = {
        "crowd": crowd,
        "invalid": wanted & ~valid,
        "tiny": wanted & valid & ~large,
        "outside": wanted & valid & large & ~inside,
        "clipped": kept & (boxes != raw).any(axis=1),
    }
    return boxes.astype(np.float32), kept, {k: int(v.sum()) for k, v in counts.items()}


def cleaning_notes(
    statistics: Mapping[str, int], flagged: int, missing_areas: int, keep_crowds: bool
) -> list[str]:
    """Describes which boxes and images were dropped or clipped, in sentences without a full stop.

    Args:
        statistics: reason -> number of boxes or images.
        flagged: number of boxes with an "ignore" flag.
        missing_areas: number of boxes without an area.
        keep_crowds: True if crowds become regions to ignore.
    """
    fate = "Ignores the regions of %d" if keep_crowds else "Dropped %d"
    flags = f' ({flagged} by "ignore": 1; scored as crowds)' if flagged else ""
    names = {
        "images_without_boxes": "Dropped %d images without boxes",
        "crowd": f"{fate} crowd, difficult or ignored boxes{flags}",
        "invalid": "Dropped %d invalid boxes (NaN, infinite, zero or negative size)",
        "tiny": "Dropped %d boxes of one pixel or less",
        "outside": "Dropped %d boxes outside the image",
        "clipped": "Clipped %d boxes",
    }
    notes = [text % statistics[k] for k, text in names.items() if statistics[k]]
    if missing_areas:
        notes.append(f"Took width times height as area of {missing_areas} boxes that have none")
    return notes


def complete_sizes(content: Annotations, folder: Path) -> np.ndarray:
    """Returns (n, 2) height, width. Reads missing sizes from the headers of the image files."""
    sizes = content.sizes.copy()
    for i in np.flatnonzero((sizes == 0).any(axis=1)):
        sizes[i] = image_header(folder / str(content.names[i]))[:2]
    return sizes


def check_files(annotations: Path, folder: Path, content: Annotations) -> Annotations:
    """Checks that all image files exist. Corrects file names that are written in another form.

    Adds a note on the corrected names. Raises UserError if an image has no name or no file.
    """
    names = content.names.tolist()
    if "" in names:
        unnamed, count = content.image_ids[names.index("")], names.count("")
        more = f" ({count - 1} more like it)" if count > 1 else ""
        raise UserError(f"{annotations}: image id {unnamed} has no file_name: add it{more}")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such image folder: {path_advice(folder)}")
    content, missing, files = find_names(folder, content)
    if missing:
        file = similar_file(missing[0], files)
        near = f"the folder has {file!r}" if file else f"the folder has {len(files)} files"
        raise UserError(
            f"{_shown(folder / missing[0])}: no such image ({len(missing)} of the {len(names)} "
            f"that {annotations} names are missing; {near}): check the image folder"
        )
    return content


def find_names(folder: Path, content: Annotations) -> tuple[Annotations, list[str], list[str]]:
    """Corrects file names that are written in another form, and adds a note on them.

    Returns the annotations, the names without a file, and the folder's files. Lists the files only
    if a name is not found as written.
    """
    names = content.names.tolist()
    missing = missing_names(folder, names)
    if not missing:
        return content, [], []
    files = files_below(folder)
    found = match_names(missing, files, set(names) - set(missing), folder)
    missing = [name for name in missing if name not in found]
    if not found:
        return content, missing, files
    name, file = shown_pair(*next(iter(found.items())))
    note = f"{len(found)} file names found in another form, such as {name} as {file}"
    names = [found.get(name, name) for name in names]
    notes = (*content.notes, note)
    return replace(content, names=np.array(names, np.str_), notes=notes), missing, files


def _shown(path: Path) -> str:
    """Quotes a path that has control characters."""
    return str(path) if str(path).isprintable() else repr(str(path))
