"""What is done to annotations before anything is trained on: checks, sizes, unusable boxes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.data.annotations import Annotations
from dynamic_atss.data.file_names import absent, as_pair, below, likely, match
from dynamic_atss.data.header import image_header
from dynamic_atss.errors import UserError


def clean_boxes(
    xywh: np.ndarray,
    sizes: np.ndarray,
    crowd: np.ndarray,
    convention: BoxConvention = BoxConvention.LEGACY,
    keep_crowds: bool = False,
) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Boxes as annotated -> boxes to train on.

    xywh (A, 4) · sizes (A, 2) height, width of each box's image · crowd (A,) bool · convention:
    LEGACY: x2 = x + w - 1, boxes of one pixel have no extent; EXACT: x2 = x + w ·
    keep_crowds: crowds are kept by the rules of the other boxes
    -> xyxy (A, 4) float32 clipped to the image, kept (A,) bool, counts by
    reason
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


def what_was_done(
    statistics: Mapping[str, int], flagged: int, missing_areas: int, keep_crowds: bool
) -> list[str]:
    """What was dropped or clipped, if anything was: sentences without their full stop.

    flagged: boxes with an "ignore" flag · missing_areas: annotations without an area
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
        notes.append(f"Took width times height for the lacking areas of {missing_areas} boxes")
    return notes


def complete_sizes(content: Annotations, folder: Path) -> np.ndarray:
    """(n, 2) height, width; what the annotations lack is read from the image files' headers."""
    sizes = content.sizes.copy()
    for i in np.flatnonzero((sizes == 0).any(axis=1)):
        sizes[i] = image_header(folder / str(content.names[i]))[:2]
    return sizes


def check_files(annotations: Path, folder: Path, content: Annotations) -> Annotations:
    """The annotations with the names of the files that are there, each of which was looked for:
    told before the training starts. Names in another form are noted.

    Raises UserError: an image has no name or no file.
    """
    names = content.names.tolist()
    if "" in names:
        unnamed, count = content.image_ids[names.index("")], names.count("")
        more = f" ({count - 1} more like it)" if count > 1 else ""
        raise UserError(f"{annotations}: image id {unnamed} has no file_name: add it{more}")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such image folder: check the path")
    content, left, files = find_names(folder, content)
    if left:
        file = likely(left[0], files)
        near = f"the folder has {file!r}" if file else f"the folder has {len(files)} files"
        raise UserError(
            f"{_shown(folder / left[0])}: no such image ({len(left)} of the {len(names)} that "
            f"{annotations} names are missing; {near}): check the image folder"
        )
    return content


def find_names(folder: Path, content: Annotations) -> tuple[Annotations, list[str], list[str]]:
    """The annotations with the names of the files that are there, names in another form noted ·
    the names without a file · the folder's files, looked for only where a name is none."""
    names = content.names.tolist()
    missing = absent(folder, names)
    if not missing:
        return content, [], []
    files = below(folder)
    found = match(missing, files, set(names) - set(missing), folder)
    left = [name for name in missing if name not in found]
    if not found:
        return content, left, files
    name, file = as_pair(*next(iter(found.items())))
    note = f"{len(found)} file names found in another form, such as {name} as {file}"
    names = [found.get(name, name) for name in names]
    notes = (*content.notes, note)
    return replace(content, names=np.array(names, np.str_), notes=notes), left, files


def _shown(path: Path) -> str:
    """Without control characters."""
    return str(path) if str(path).isprintable() else repr(str(path))
