"""Defines the operators of label assignment in plain PyTorch: schema, result and shapes.

Each file corresponds to a kernel file (`ops/csrc/assign_<name>.cpp`). NAME is the operator, which
uses the kernel on the CPU if it is compiled. `name` is the plain form, which is used otherwise.
"""

from collections.abc import Callable
from typing import Any

from dynamic_atss.assigners.reference.inside import points_inside
from dynamic_atss.assigners.reference.mixture import low_component
from dynamic_atss.assigners.reference.nearest import locations_around, nearest_locations
from dynamic_atss.assigners.reference.overlaps import max_iou_labels
from dynamic_atss.assigners.reference.pairs import pair_centerness, pair_iou, pair_sides
from dynamic_atss.assigners.reference.selection import best_of_box, resolve

PLAIN: dict[str, Callable[..., Any]] = {
    form.__name__: form
    for form in (
        nearest_locations,
        locations_around,
        points_inside,
        pair_iou,
        pair_sides,
        pair_centerness,
        best_of_box,
        resolve,
        max_iou_labels,
        low_component,
    )
}
