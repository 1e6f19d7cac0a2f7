"""Data sets in PASCAL VOC's devkit layout: Annotations, ImageSets/Main, JPEGImages."""

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
from dynamic_atss.data.file_names import as_pair, below, likely, match
from dynamic_atss.data.inside import check_inside
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

VOC_CLASSES = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
    "person pottedplant sheep sofa train tvmonitor"
).split()
LABELS = "labels.txt"


class VocDataset(DetectionDataset):
    """One split of a devkit: image number i of the split file (from 1) has the image id i.

    Classes: the lines of `labels.txt` in the devkit folder if it is there; else VOC's twenty if the
    folder is named VOC<year>; else the names in all the folder's XML files, sorted, so that all its
    splits agree. Their category ids count from 1. Difficult objects are not trained on.

    A split of one class, such as `aeroplane_train`, lists all images of its set with a flag (1, -1
    or 0: the class is there, is not, is there but difficult). As in VOC's own detection code the
    flags are not used: it is the same set as `train`, with all images and all classes.
    """

    voc_scores = True
    written_as = "voc:<devkit folder>:<split>"

    def __init__(
        self,
        folder: str | Path,
        split: str,
        **options: Any,
    ) -> None:
        """folder: with Annotations, or one that holds one such · split: a file of ImageSets/Main ·
        options: those of `DetectionDataset`.

        Raises UserError: something is wrong with a file or a folder, no image usable.
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
        return f"list all classes in {self.folder / LABELS}, one a line"

    def entry(self, index: int) -> str:
        name = os.path.splitext(str(self._names[index]))[0]
        return str(self.folder / "Annotations" / f"{name}.xml")


def find_devkit(folder: Path) -> Path:
    """The folder itself if it holds Annotations, else the only one in it that does.

    Raises UserError: there is none, or several.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder: give that of the devkit")
    if (folder / "Annotations").is_dir():
        return folder
    found = sorted(p.parent for p in folder.glob("*/Annotations") if p.is_dir())
    if len(found) != 1:
        names = ", ".join(p.name for p in found)
        several = f"several devkits ({names}): name one of them"
        none = "no Annotations in it: give a folder with Annotations, ImageSets/Main and JPEGImages"
        raise UserError(f"{folder}: {several if found else none}")
    return found[0]


def split_file(folder: Path, split: str) -> Path:
    """Raises UserError: there is no such split; names those that there are."""
    path = folder / "ImageSets" / "Main" / f"{split}.txt"
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.txt"))
        shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
        raise UserError(
            f"{path}: no such split: "
            + (f"there are {shown}" if known else "list the images in it, one name a line")
        )
    return path


def read_voc(folder: Path, split: Path, *, outside: bool = False) -> Annotations:
    """The annotations of a devkit's images that a split file lists.

    outside: annotation files may lie outside of their folder
    Raises UserError: a file is missing or malformed, a class is unknown, an image listed twice.
    """
    listed = listed_names(folder, split)
    stems = {os.path.splitext(f)[0]: f for f in below(folder / "Annotations") if _is_xml(f)}
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
                f"{path}: no such file, but {split} lists '{name}': add it or take it out"
            )
    images = _read_all(paths)
    class_names = read_classes(folder)  # after the listed files: what is broken now is not listed
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
        image=np.repeat(np.arange(len(images)), [len(image.names) for image in images]),
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
    """Raises UserError for the first mistake; it tells how many files have one."""
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
    """What was read by its meaning, each kind with its count and an example."""
    changed = [(was, name) for was, name in zip(listed, names, strict=True) if was != name]
    if changed:
        was, name = as_pair(*changed[0])
        yield f"{len(changed)} names of the split read in another form, such as {was} as {name}"
    turned = [(p, i.reversed) for p, i in zip(paths, images, strict=True) if i.reversed]
    if turned:
        count = sum(number for _, number in turned)
        yield f"{count} boxes have a minimum above its maximum, such as in {turned[0][0]}: swapped"
    words = Counter(word for image in images for word in image.words)
    if words:
        shown = ", ".join(f"{w!r} as {as_flag(w)} ({times} times)" for w, times in words.items())
        yield f"difficult is a word, read by its meaning: {shown}"
    marks = [mark for image in images for mark in image.marks]
    for name, count in Counter(name for name, _ in marks).items():
        yes = marks.count((name, True))
        yield f"'{name}' of {count} objects is read as difficult: {yes} say yes"


def read_classes(folder: Path) -> list[str]:
    """The class names of a devkit, in order: see `VocDataset`. Raises UserError: there are none."""
    if (folder / LABELS).is_file():
        return read_lines(folder / LABELS)
    if re.fullmatch(r"VOC\d{4}", folder.resolve().name):
        return list(VOC_CLASSES)
    paths = sorted((folder / "Annotations").rglob("*.xml"))
    advice = f"correct it, delete it, or write {folder / LABELS}, one class a line"
    names = sorted(set().union(*(read_class_names(path, advice) for path in paths)))
    if not names:
        raise UserError(
            f"{folder / 'Annotations'}: no object in any XML file: write the class names into "
            f"{folder / LABELS}, one a line"
        )
    return names


def _image_files(folder: Path, split: Path, names: list[str]) -> tuple[list[str], list[str]]:
    """The file of each name, with any ending; of several the .jpg, as VOC has it, or else the last
    by name, with a line that tells it."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such image folder: give a devkit with JPEGImages")
    present = {f for f in below(folder) if f.lower().endswith(IMAGE_ENDINGS)}
    by_stem = {os.path.splitext(file)[0]: file for file in sorted(present)}
    absent = [name for name in names if name not in by_stem]
    other = match(absent, list(by_stem), set(names) - set(absent), folder)
    found = [other.get(name, name) for name in names]
    files = [f"{n}.jpg" if f"{n}.jpg" in present else by_stem.get(n, "") for n in found]
    if "" in files:
        name = names[files.index("")]
        near = likely(name, present)
        count = f"{files.count('')} of its {len(files)} are missing"
        raise UserError(
            f"{folder / name}.jpg: no such image, but {split} lists {name!r} ({count}"
            f"{f'; the folder has {near!r}' if near else ''}): add it, or correct the name"
        )
    return files, _notes_of_several(files, present)


def _notes_of_several(files: list[str], present: set[str]) -> list[str]:
    """A line if images that are read have others of their name beside them."""
    times = Counter(os.path.splitext(file)[0] for file in present)
    several = [file for file in files if times[os.path.splitext(file)[0]] > 1]
    if not several:
        return []
    stem = os.path.splitext(several[0])[0]
    all_of_it = ", ".join(sorted(f for f in present if os.path.splitext(f)[0] == stem))
    return [
        f"{len(several)} images have several files of one name, such as {all_of_it}, of which "
        f"{several[0]} is read: take the others out if their pictures differ"
    ]


def _classes(
    paths: list[Path], images: list[VocImage], class_names: list[str], folder: Path
) -> np.ndarray:
    """(A,) int64. Raises UserError: a class is not among the names."""
    place = {name: i for i, name in enumerate(class_names)}
    for path, image in zip(paths, images, strict=True):
        for number, name in enumerate(image.names, 1):
            if name not in place:
                source = f"in {LABELS}" if (folder / LABELS).is_file() else "one of VOC's twenty"
                raise UserError(
                    f"{path}: object {number}: class '{name}' is not {source}: correct it, or list "
                    f"all classes in {folder / LABELS}, one a line"
                )
    return np.array([place[name] for image in images for name in image.names], np.int64)
