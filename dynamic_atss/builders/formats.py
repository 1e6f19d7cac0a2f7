"""Finds the formats of data sets: those of the package, and the user's classes."""

from __future__ import annotations

from collections.abc import Sequence

from dynamic_atss.builders.user_code import find, require
from dynamic_atss.config.code import names_code, refuse_unknown_format
from dynamic_atss.config.data_names import refuse_miswritten
from dynamic_atss.data.catalog import FORMATS
from dynamic_atss.data.dataset import DetectionDataset

REQUIREMENT = "a format is a subclass of dynamic_atss.data.dataset.DetectionDataset with read()"


def find_formats(key: str, names: Sequence[str]) -> dict[str, type[DetectionDataset]]:
    """Returns the formats of the package, and the user's classes that the names begin with.

    Args:
        key: the key that the messages state, such as DATASETS.TRAIN.
        names: its entries; "file.py:Format:path" names a user's class.

    Raises:
        UserError: a format is misspelt, or a user's class is no data set.
    """
    refuse_miswritten(key, names)
    custom = {}
    for name in (name for name in names if names_code(key, name)):
        refuse_unknown_format(key, name)
        file, _, after = name.partition(":")
        code = f"{file}:{after.partition(':')[0]}"
        custom[code] = find(key, code, {})
        require(key, code, custom[code], DetectionDataset, ("read",), REQUIREMENT)
    return {**FORMATS, **custom}
