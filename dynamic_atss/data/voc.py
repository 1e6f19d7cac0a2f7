"""Reads data sets in PASCAL VOC's devkit layout: Annotations, ImageSets/Main, JPEGImages."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dynamic_atss.data.annotations import Annotations
from dynamic_atss.data.dataset import DetectionDataset
from dynamic_atss.data.file_names import files_below, match_names, shown_pair, similar_file
from dynamic_atss.data.path_check import check_inside
from dynamic_atss.data.rotation import count_rotated
from dynamic_atss.data.values import as_flag
from dynamic_atss.data.voc_names import (
    IMAGE_ENDINGS,
    check_once,
    listed_names,
    plain_names,
    read_lines,
)
from dynamic_atss.data.voc_xml import VocImage, read_class_names, read_voc_xml
from dynamic_atss.errors import UserError
from dynamic_atss.suggest import path_advice

VOC_CLASSES = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
    "person pottedplant sheep sofa train tvmonitor"
).split()
LABELS = "labels.txt"


class VocDataset(DetectionDataset):
    """Reads one split of a devkit. Image number i of the split file (from 1) has the image id i.

    The classes are the lines of `labels.txt` in the devkit folder if it exists. They are VOC's
    twenty if the folder is named VOC<year>. Otherwise they are the sorted names in all XML files of
    the folder, so that all its splits agree. Category ids start at 1. Difficult objects are not
    trained on.

    A split of one class, such as `aeroplane_train`, lists all images of `train` with a flag (the
    class is present: 1, absent: -1, difficult: 0). As in VOC's detection code the flags have no
    effect. The set has all images and all classes.
    """

    voc_scores = True
    written_as = "voc:<devkit folder>:<split>"

    def __init__(
        self,
        folder: str | Path,
        split: str,
        **options: Any,
    ) -> None:
        """Reads and checks all annotations of a split.

        Args:
            folder: a folder with Annotations, or with one subfolder that has them.
            split: name of a file in ImageSets/Main, without its ending.
            options: as for `DetectionDataset`.

        Raises UserError for a mistake in a file or a folder, and if no image is usable.
        """
        self.folder = find_devkit(Path(folder).expanduser())
        super().__init__(
            split_file(self.folder, split),
            self.folder / "JPEGImages",
            **options,
        )

    def read(self, *, need_boxes: bool = False) -> Annotations:
        return read_voc(self.folder, self.annotations, outside=self.reading.outside)

    @property
    def short_name(self) -> str:
        return f"{self.folder.resolve().name}_{self.annotations.stem}"

    @property
    def class_advice(self) -> str:
        return f"list all classes in {self.folder / LABELS}, one per line"

    def entry(self, index: int) -> str:
        name = os.path.splitext(str(self._names[index]))[0]
        return str(self.folder / "Annotations" / f"{name}.xml")


def find_devkit(folder: Path) -> Path:
    """Returns the folder if it has Annotations. Otherwise returns its only subfolder that has them.

    Raises UserError if there is none, or several.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of a devkit: {path_advice(folder)}")
    if (folder / "Annotations").is_dir():
        return folder
    found = sorted(p.parent for p in folder.glob("*/Annotations") if p.is_dir())
    if len(found) != 1:
        names = ", ".join(p.name for p in found)
        several = f"has several devkits ({names}): give one of them"
        none = "has no Annotations: give a folder with Annotations, ImageSets/Main and JPEGImages"
        raise UserError(f"{folder}: {several if found else none}")
    return found[0]


def split_file(folder: Path, split: str) -> Path:
    """Returns the file of a split. Raises UserError, with the known splits, if it is missing."""
    path = folder / "ImageSets" / "Main" / f"{split}.txt"
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.txt"))
        shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
        raise UserError(
            f"{path}: no such split: "
            + (f"there are {shown}" if known else "list the images in it, one name per line")
        )
    return path


def read_voc(folder: Path, split: Path, *, outside: bool = False) -> Annotations:
    """Reads the annotations of the images that a split file lists.

    Args:
        folder: the devkit.
        split: the split file.
        outside: allows annotation files outside of their folder.

    Raises UserError for a missing or malformed file, an unknown class, and a repeated image.
    """
    listed = listed_names(folder, split)
    xml_files = filter(_is_xml, files_below(folder / "Annotations"))
    stems = {os.path.splitext(file)[0]: file for file in xml_files}
    names = plain_names(listed, list(stems), folder / "Annotations")
    check_once(split, names)
    if not outside:
        xml = [stems.get(name, f"{name}.xml") for name in names]
        check_inside(split, folder / "Annotations", xml, "annotation file")
    files, several = _image_files(folder / "JPEGImages", split, names)
    paths = [folder / "Annotations" / stems.get(name, f"{name}.xml") for name in names]
    for name, path in zip(names, paths, strict=True):
        if not os.path.isfile(path):
            raise UserError(
                f"{path}: no such file, but {split} lists '{name}': add it, or remove the name"
            )
    images = _read_all(paths)
    class_names = read_classes(folder)  # after the listed files, whose errors are more useful
    boxes = np.array([b for i in images for b in i.boxes], np.float64).reshape(-1, 4)
    return Annotations(
        image_ids=np.arange(1, len(names) + 1),
        names=np.array(files, np.str_),
        sizes=np.array([image.size for image in images], np.int64),
        class_names=class_names,
        category_ids=list(range(1, len(class_names) + 1)),
        xywh=boxes,
        areas=boxes[:, 2] * boxes[:, 3],
        classes=_classes(paths, images, class_names, folder),
        image_index=np.repeat(np.arange(len(images)), [len(image.names) for image in images]),
        crowd=np.array([d for image in images for d in image.difficult], bool),
        notes=tuple(_notes(listed, names, paths, images)),
        warnings=tuple(several),
        rotated=count_rotated(
            (f"object {n} of {path.name}", mark)
            for path, image in zip(paths, images, strict=True)
            for n, mark in enumerate(image.rotations, 1)
        ),
    )


def _is_xml(file: str) -> bool:
    return file.lower().endswith(".xml")


def _read_all(paths: list[Path]) -> list[VocImage]:
    """Reads XML files. Raises UserError for the first mistake, with the number of wrong files."""
    images, errors = [], []
    for path in paths:
        try:
            images.append(read_voc_xml(path))
        except UserError as error:
            errors.append(error)
    if errors:
        more = f" ({len(errors)} files have a mistake)" if len(errors) > 1 else ""
        raise UserError(f"{errors[0]}{more}")
    return images


def _notes(
    listed: list[str], names: list[str], paths: list[Path], images: list[VocImage]
) -> Iterator[str]:
    """Yields a note for each kind of interpreted value, with its count and an example."""
    changed = [pair for pair in zip(listed, names, strict=True) if pair[0] != pair[1]]
    if changed:
        written, name = shown_pair(*changed[0])
        yield f"{len(changed)} names of the split read in another form, such as {written} as {name}"
    swapped = [(p, i.reversed) for p, i in zip(paths, images, strict=True) if i.reversed]
    if swapped:
        count = sum(number for _, number in swapped)
        yield f"{count} boxes have a minimum above its maximum, such as in {swapped[0][0]}: swapped"
    words = Counter(word for image in images for word in image.words)
    if words:
        shown = ", ".join(f"{w!r} as {as_flag(w)} ({count} times)" for w, count in words.items())
        yield f"difficult is a word, read by its meaning: {shown}"
    marks = [mark for image in images for mark in image.marks]
    for name, count in Counter(name for name, _ in marks).items():
        yes = marks.count((name, True))
        yield f"'{name}' of {count} objects is read as difficult; {yes} are set"


def read_classes(folder: Path) -> list[str]:
    """Reads the class names as `VocDataset` describes. Raises UserError if there are none."""
    if (folder / LABELS).is_file():
        return read_lines(folder / LABELS)
    if re.fullmatch(r"VOC\d{4}", folder.resolve().name):
        return list(VOC_CLASSES)
    paths = sorted((folder / "Annotations").rglob("*.xml"))
    advice = f"correct it, delete it, or write {folder / LABELS}, one class per line"
    names = sorted(set().union(*(read_class_names(path, advice) for path in paths)))
    if not names:
        raise UserError(
            f"{folder / 'Annotations'}: no object in any XML file: write the class names into "
            f"{folder / LABELS}, one per line"
        )
    return names


def _image_files(folder: Path, split: Path, names: list[str]) -> tuple[list[str], list[str]]:
    """Finds the image file of each name, and warns of names with several files.

    Of several files it takes the .jpg, which VOC has, or else the last in alphabetical order.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such image folder: give a devkit with JPEGImages")
    present = {f for f in files_below(folder) if f.lower().endswith(IMAGE_ENDINGS)}
    by_stem = {os.path.splitext(file)[0]: file for file in sorted(present)}
    missing = [name for name in names if name not in by_stem]
    corrected = match_names(missing, list(by_stem), set(names) - set(missing), folder)
    stems = [corrected.get(name, name) for name in names]
    files = [f"{s}.jpg" if f"{s}.jpg" in present else by_stem.get(s, "") for s in stems]
    if "" in files:
        name = names[files.index("")]
        near = similar_file(name, present)
        count = f"{files.count('')} of its {len(files)} are missing"
        raise UserError(
            f"{folder / name}.jpg: no such image, but {split} lists {name!r} ({count}"
            f"{f'; the folder has {near!r}' if near else ''}): add it, or correct the name"
        )
    return files, _warn_of_several(files, present)


def _warn_of_several(files: list[str], present: set[str]) -> list[str]:
    """Returns a list with one warning if images have several files of one name."""
    counts = Counter(os.path.splitext(file)[0] for file in present)
    several = [file for file in files if counts[os.path.splitext(file)[0]] > 1]
    if not several:
        return []
    stem = os.path.splitext(several[0])[0]
    same_name = ", ".join(sorted(f for f in present if os.path.splitext(f)[0] == stem))
    return [
        f"{len(several)} images have several files of one name, such as {same_name}; "
        f"{several[0]} is read: remove the others if their pictures differ"
    ]


def _classes(
    paths: list[Path], images: list[VocImage], class_names: list[str], folder: Path
) -> np.ndarray:
    """Returns the classes (A,) int64 of all objects. Raises UserError for an unknown name."""
    index_of = {name: i for i, name in enumerate(class_names)}
    for path, image in zip(paths, images, strict=True):
        for number, name in enumerate(image.names, 1):
            if name not in index_of:
                source = f"in {LABELS}" if (folder / LABELS).is_file() else "one of VOC's twenty"
                raise UserError(
                    f"{path}: object {number}: class '{name}' is not {source}: correct it, or list "
                    f"all classes in {folder / LABELS}, one per line"
                )
    return np.array([index_of[name] for image in images for name in image.names], np.int64)
