"""Renames EfficientNets of the package efficientnet_pytorch to timm's names.

The package numbers the blocks from first to last, and timm numbers them within their stages. Both
count the norms of a block from the first convolution. A block without expansion has one convolution
and one norm less.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable

_OUTSIDE_BLOCKS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
_PLAIN = _SQUEEZE | {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_EXPANDED = _SQUEEZE | {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_BLOCK = re.compile(r"_blocks\.(\d+)\.(\w+)\.(\w+)")
_TIMM_BLOCK = re.compile(r"(?:^|\.)blocks[._](\d+)[._](\d+)[._]")


def is_efficientnet(names: Collection[str]) -> bool:
    """Returns True for the names of efficientnet_pytorch."""
    return {"_conv_stem.weight", "_blocks.0._depthwise_conv.weight"} <= set(names)


def to_timm_names(names: Collection[str], timm: Iterable[str]) -> Callable[[str], str]:
    """Makes a function from the names of a file to timm's.

    Names of blocks that the model does not have stay as they are.

    Args:
        names: all names of the file.
        timm: the names of timm's model.
    """
    found = [match.groups() for match in map(_TIMM_BLOCK.search, timm) if match]
    places = sorted({(int(stage), int(block)) for stage, block in found})
    blocks = [match for match in map(_BLOCK.fullmatch, names) if match]
    expanded = {match[1] for match in blocks if match[2] == "_expand_conv"}

    def rename(name: str) -> str:
        if match := _BLOCK.fullmatch(name):
            number, module, entry = match.groups()
            module = (_EXPANDED if number in expanded else _PLAIN).get(module, module)
            if int(number) >= len(places):
                return name
            stage, block = places[int(number)]
            return f"blocks.{stage}.{block}.{module}.{entry}"
        module, _, entry = name.rpartition(".")
        return f"{_OUTSIDE_BLOCKS.get(module, module)}.{entry}"

    return rename
