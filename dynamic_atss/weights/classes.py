"""The classes of a weight file in the order of a data set: by their names, where they are known."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dynamic_atss.weights.formats import Source

ONE_TO_ONE = "head.one_to_one."  # of MODEL.ONE_TO_ONE's branch
_LOGITS = ("head.cls_logits.", f"{ONE_TO_ONE}cls_logits.")
# COCO's names in the order of the logits of every published file, which do not tell them.
COCO = (
    "person;bicycle;car;motorcycle;airplane;bus;train;truck;boat;traffic light;fire hydrant;"
    "stop sign;parking meter;bench;bird;cat;dog;horse;sheep;cow;elephant;bear;zebra;giraffe;"
    "backpack;umbrella;handbag;tie;suitcase;frisbee;skis;snowboard;sports ball;kite;baseball bat;"
    "baseball glove;skateboard;surfboard;tennis racket;bottle;wine glass;cup;fork;knife;spoon;bowl;"
    "banana;apple;sandwich;orange;broccoli;carrot;hot dog;pizza;donut;cake;chair;couch;"
    "potted plant;bed;dining table;toilet;tv;laptop;mouse;remote;keyboard;cell phone;microwave;"
    "oven;toaster;sink;refrigerator;book;clock;vase;scissors;teddy bear;hair drier;toothbrush"
).split(";")
_MOST_SHOWN = 20


def of_logits(name: str) -> bool:
    """Whether an entry is of the convolution that gives the class logits."""
    return name.startswith(_LOGITS)


def class_count(source: Source) -> int:
    """How many classes a file's detector has; 0 for a backbone, and where it cannot be told."""
    logits, boxes = (source.tensors.get(f"head.{n}.bias") for n in ("cls_logits", "bbox_pred"))
    if logits is not None and source.classes and len(logits) == len(source.classes):
        return len(logits)  # of one anchor, whose box may be a distribution of more values
    if logits is None or boxes is None or not len(boxes) or len(logits) * 4 % len(boxes):
        return 0
    return len(logits) * 4 // len(boxes)


def names_of(source: Source, class_names: Sequence[str]) -> list[str]:
    """The names of a file's classes in the order of its logits; empty if they are not known.

    A file of 80 classes without names has COCO's, if each of `class_names` is one of COCO's, in any
    order. Letter case, blanks, hyphens and underscores do not count; the names are then spelt as
    there. No other spelling is certain: "aeroplane" and "sofa" are not COCO's.
    """
    if source.classes:
        return source.classes
    spelt = {_plain(name): name for name in class_names}
    known = {_plain(name) for name in COCO}
    if class_count(source) != len(COCO) or not spelt or len(spelt) < len(class_names):
        return []
    return [spelt.get(_plain(n), n) for n in COCO] if spelt.keys() <= known else []


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name.casefold())


def arrange(source: Source, class_names: Sequence[str]) -> list[str]:
    """Brings the logits of a file into the order of `class_names`, if it has the same names in
    another one; what to tell of the classes, for users."""
    count, names = class_count(source), names_of(source, class_names)
    if not class_names or not count:
        return []
    if not names:
        return [_trusted(class_names), *_nearly_coco(class_names)] * (count == len(class_names))
    notes = [] if source.classes else ["no class names in the file: its 80 classes are COCO's"]
    if names != list(class_names) and _same(names, class_names) and len(names) == count:
        _reorder(source, [names.index(name) for name in class_names])
        source.classes = list(class_names)
        notes.append("its classes are in another order than the data set's: matched by name")
    return notes


def _trusted(class_names: Sequence[str]) -> str:
    shown = ", ".join(class_names[:_MOST_SHOWN])
    more = ", ..." if len(class_names) > _MOST_SHOWN else ""
    return (
        "no class names in the file: its classes are taken in the order of the data set, which has "
        f"to be that of its training: {shown}{more}"
    )


def _nearly_coco(class_names: Sequence[str]) -> list[str]:
    """Of 80 classes that have most of COCO's names and some others: in another order than COCO's
    they would be taken for each other."""
    known = {_plain(name) for name in COCO}
    others = [name for name in class_names if _plain(name) not in known]
    if len(class_names) != len(COCO) or not 0 < len(others) <= len(COCO) // 2:
        return []
    return [
        f"{len(COCO) - len(others)} of these are COCO's names, but {others[0]!r} is none"
        f"{f' ({len(others) - 1} more)' if others[1:] else ''}: spelt as COCO's all are matched by "
        "name, in any order"
    ]


def _same(names: Sequence[str], others: Sequence[str]) -> bool:
    return len(set(names)) == len(names) and sorted(names) == sorted(others)


def _reorder(source: Source, order: list[int]) -> None:
    """The logits of each prior, class by class in another order."""
    for name, value in source.tensors.items():
        if of_logits(name):
            by_class = value.reshape(-1, len(order), *value.shape[1:])
            source.tensors[name] = by_class[:, order].reshape(value.shape)
