"""Matches the classes of a weight file with those of a data set, by their names if known."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dynamic_atss.weights.formats import Source

ONE_TO_ONE = "head.one_to_one."  # the second branch that MODEL.ONE_TO_ONE adds
_LOGITS = ("head.cls_logits.", f"{ONE_TO_ONE}cls_logits.")
# COCO's names in the order of the logits. The published files use this order without naming it.
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
    """Returns True for an entry of the convolution that computes the class logits."""
    return name.startswith(_LOGITS)


def class_count(source: Source) -> int:
    """Counts the classes of a file's detector. Returns 0 for a backbone or an unknown count."""
    logits, boxes = (source.tensors.get(f"head.{n}.bias") for n in ("cls_logits", "bbox_pred"))
    if logits is not None and source.classes and len(logits) == len(source.classes):
        return len(logits)  # there is one anchor, whose box may have more than 4 values
    if logits is None or boxes is None or not len(boxes) or len(logits) * 4 % len(boxes):
        return 0
    return len(logits) * 4 // len(boxes)


def names_of(source: Source, class_names: Sequence[str]) -> list[str]:
    """Returns the names of a file's classes in the order of its logits. Returns [] if unknown.

    A file with 80 unnamed classes is taken as COCO's if all `class_names` are COCO's, in any order.
    The comparison ignores letter case, blanks, hyphens and underscores. The result is spelt as
    `class_names`. Synonyms do not match: "aeroplane" and "sofa" are not COCO's names.
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
    """Reorders the logits of a file to the order of `class_names` if both have the same names.

    Returns notes for the user about the classes.
    """
    count, names = class_count(source), names_of(source, class_names)
    if not class_names or not count:
        return []
    if not names:
        notes = [_order_is_assumed(class_names), *_nearly_coco(class_names)]
        return notes if count == len(class_names) else []
    unnamed = "no class names in the file: its 80 classes are taken as COCO's"
    notes = [] if source.classes else [unnamed]
    if names != list(class_names) and _same(names, class_names) and len(names) == count:
        _reorder(source, [names.index(name) for name in class_names])
        source.classes = list(class_names)
        notes.append("file and data set order their classes differently: matched by name")
    return notes


def _order_is_assumed(class_names: Sequence[str]) -> str:
    shown = ", ".join(class_names[:_MOST_SHOWN])
    more = ", ..." if len(class_names) > _MOST_SHOWN else ""
    return (
        "no class names in the file: check that it was trained with the classes of this data set "
        f"in this order: {shown}{more}"
    )


def _nearly_coco(class_names: Sequence[str]) -> list[str]:
    """Returns a warning if most, but not all, of 80 classes have COCO's names.

    Such classes are not matched by name. Another order than COCO's would mix them up.
    """
    known = {_plain(name) for name in COCO}
    others = [name for name in class_names if _plain(name) not in known]
    if len(class_names) != len(COCO) or not 0 < len(others) <= len(COCO) // 2:
        return []
    more = f" ({len(others) - 1} more)" if others[1:] else ""
    return [
        f"{len(COCO) - len(others)} of these are COCO's names, but {others[0]!r} is not{more}: use "
        "COCO's spelling for all 80 to have them matched by name, in any order"
    ]


def _same(names: Sequence[str], others: Sequence[str]) -> bool:
    return len(set(names)) == len(names) and sorted(names) == sorted(others)


def _reorder(source: Source, order: list[int]) -> None:
    """Reorders the class logits of each prior. Class i of the result is class order[i]."""
    for name, value in source.tensors.items():
        if of_logits(name):
            by_class = value.reshape(-1, len(order), *value.shape[1:])
            source.tensors[name] = by_class[:, order].reshape(value.shape)
