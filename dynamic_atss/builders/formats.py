"""The formats of data sets: the package's, and the user's that a name of DATASETS begins with."""

from __future__ import annotations

from collections.abc import Sequence

from dynamic_atss.builders.outside import find, require
from dynamic_atss.config.code import names_code
from dynamic_atss.config.data_names import refuse_miswritten
from dynamic_atss.data.catalog import FORMATS
from dynamic_atss.data.dataset import DetectionDataset

FITS = "a format is a subclass of dynamic_atss.data.dataset.DetectionDataset with read()"


def find_formats(key: str, names: Sequence[str]) -> dict[str, type[DetectionDataset]]:
    """The package's formats, and those of the user's that the names of `key` begin with.

    Raises:
        UserError: a class of the user's that is no data set.
    """
    refuse_miswritten(key, names)
    own = {}
    for name in (name for name in names if names_code(key, name)):
        place, _, rest = name.partition(":")
        code = f"{place}:{rest.partition(':')[0]}"
        own[code] = find(key, code, {})
        require(key, code, own[code], DetectionDataset, ("read",), FITS)
    return {**FORMATS, **own}
