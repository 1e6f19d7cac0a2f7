"""Data sets in PASCAL VOC's devkit layout: Annotations, ImageSets/Main, JPEGImages."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.data.annotations import Annotations
from dynamic_atss.data.dataset import DetectionDataset, Transform
from dynamic_atss.data.rotation import count_rotated
from dynamic_atss.data.voc_xml import VocImage, read_class_names, read_voc_xml
from dynamic_atss.errors import UserError

VOC_CLASSES = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
    "person pottedplant sheep sofa train tvmonitor"
).split()
LABELS = "labels.txt"
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")  # in any case


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
        *,
        training: bool,
        keep_empty: bool = False,
        transform: Transform | None = None,
        seed: int = 0,
        convention: BoxConvention = BoxConvention.LEGACY,
        keep_crowds: bool = False,
    ) -> None:
        """folder: with Annotations, or one that holds one such · split: a file of ImageSets/Main.

        Raises UserError: something is wrong with a file or a folder, no image usable.
        """
        self.folder = find_devkit(Path(folder).expanduser())
        super().__init__(
            split_file(self.folder, split),
            self.folder / "JPEGImages",
            training=training,
            keep_empty=keep_empty,
            transform=transform,
            seed=seed,
            convention=convention,
            keep_crowds=keep_crowds,
        )

    def read(self, *, need_boxes: bool = False) -> Annotations:
        return read_voc(self.folder, self.annotations)

    @property
    def short_name(self) -> str:
        return f"{self.folder.resolve().name}_{self.annotations.stem}"

    @property
    def class_mend(self) -> str:
        return f"list all classes in {self.folder / LABELS}, one a line"

    def entry(self, index: int) -> str:
        return str(self.folder / "Annotations" / f"{self.path(index).stem}.xml")


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


def read_voc(folder: Path, split: Path) -> Annotations:
    """The annotations of a devkit's images that a split file lists.

    Raises UserError: a file is missing or malformed, a class is unknown, an image listed twice.
    """
    names = _image_names(folder, split)
    files = _image_files(folder / "JPEGImages", split, names)
    paths = [folder / "Annotations" / f"{name}.xml" for name in names]
    for name, path in zip(names, paths, strict=True):
        if not path.is_file():
            raise UserError(
                f"{path}: no such file, but {split} lists '{name}': add it or take it out"
            )
    images = [read_voc_xml(path) for path in paths]
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
        rotated=count_rotated(
            (f"object {n} of {path.name}", mark)
            for path, image in zip(paths, images, strict=True)
            for n, mark in enumerate(image.rotations, 1)
        ),
    )


def read_classes(folder: Path) -> list[str]:
    """The class names of a devkit, in order: see `VocDataset`. Raises UserError: there are none."""
    if (folder / LABELS).is_file():
        return _lines(folder / LABELS)
    if re.fullmatch(r"VOC\d{4}", folder.resolve().name):
        return list(VOC_CLASSES)
    paths = sorted((folder / "Annotations").glob("*.xml"))
    mend = f"mend it, delete it, or write {folder / LABELS}, one class a line"
    names = sorted(set().union(*(read_class_names(path, mend) for path in paths)))
    if not names:
        raise UserError(
            f"{folder / 'Annotations'}: no object in any XML file: write the class names into "
            f"{folder / LABELS}, one a line"
        )
    return names


def _lines(path: Path) -> list[str]:
    """The lines of a text file, without blank ones. Raises UserError: none, one twice, no text."""
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}): give a text in UTF-8") from None
    lines = [line for line in lines if line]
    if not lines:
        raise UserError(f"{path}: is empty: write one name a line")
    _check_once(path, lines)
    return lines


def _check_once(path: Path, names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UserError(f"{path}: '{name}' is there twice: take one out")
        seen.add(name)


def _image_names(folder: Path, split: Path) -> list[str]:
    """The names that a split file lists, without the flags in a second column: see `VocDataset`.

    A name may hold blanks: where the first line as it stands is an image, there are no flags.
    """
    lines = _lines(split)
    flagged = [re.fullmatch(r"(.*\S)\s+(?:-1|0|1)", line) for line in lines]
    names = [match[1] for match in flagged if match]
    if len(names) < len(lines) or (folder / "Annotations" / f"{lines[0]}.xml").is_file():
        return lines
    _check_once(split, names)
    return names


def _image_files(folder: Path, split: Path, names: list[str]) -> list[str]:
    """The file of each name, whatever its ending; of several the .jpg, as VOC has it."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such image folder: give a devkit with JPEGImages")
    present = {f for f in os.listdir(folder) if f.lower().endswith(IMAGE_ENDINGS)}
    by_stem = {os.path.splitext(file)[0]: file for file in sorted(present)}
    files = [f"{n}.jpg" if f"{n}.jpg" in present else by_stem.get(n, "") for n in names]
    if "" in files:
        name = names[files.index("")]
        count = f"{files.count('')} of its {len(files)} are missing"
        raise UserError(
            f"{folder / name}.jpg: no such image, but {split} lists '{name}' ({count}): "
            "add it, or write names without their ending"
        )
    return files


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
