"""Strategies for hostile inputs, and the check of each function that reads them."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from torch import Tensor

from dynamic_atss.errors import LONGEST_MESSAGE, UserError
from dynamic_atss.quoting import printable

REFUSED = object()

ODD_NUMBERS = (0, -1, 1, 2**31, -(2**31), 2**53 + 1, 2**63, -(2**63), 2**70, 10**400)
ODD_FLOATS = (0.0, -0.0, 0.5, -1.0, 1e-320, 1e30, -1e300, float("nan"), float("inf"), -float("inf"))
ODD_TEXTS = (
    *("", " ", "1", "1.0", "-1", "1e400", "nan", "inf", "0x10", "1_000", "٣", "True", "no", "None"),
    *(
        "a\nb",
        "\x1b[31m",
        "\u202eabc",
        "\ud800",
        "\0",
        "../x",
        "/etc/passwd",
        "x" * 300,
        "1" * 5000,
    ),
    *("[1, 2]", "(1,", "{}", "()", "lambda: 0", "%s", "{0}", "~", "file.py:Name"),
)

# Some characters of each kind. For all of Unicode hypothesis would need seconds.
SIGNS = "aZ 09.,:;-+eE_/\\\n\t\r\0\x1b\x7f\x85é٣中\u200d\u202e\u2028\ud800😀\"'<>&[]{}()#*!|%~=@`?"

numbers = st.one_of(st.sampled_from(ODD_NUMBERS), st.sampled_from(ODD_FLOATS), st.integers(-9, 99))
texts = st.one_of(st.sampled_from(ODD_TEXTS), st.text(SIGNS, max_size=12))
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)


def outcome(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Calls a function. Returns REFUSED for a one-line UserError; any other error fails."""
    try:
        return function(*arguments, **named)
    except UserError as error:
        line = str(error)
        assert line and line == printable(line) and len(line) <= LONGEST_MESSAGE, line
        return REFUSED


@st.composite
def damaged(draw: DrawFn, files: Sequence[bytes]) -> bytes:
    """Draws a file and damages it: flips bits, loses, doubles or overwrites bytes."""
    data = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        other = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(["flip", "write", "insert", "cut", "remove", "double"]))
        _damage(data, kind, place, other, draw(st.binary(min_size=1, max_size=8)))
    return bytes(data)


def _damage(data: bytearray, kind: str, place: int, other: int, new: bytes) -> None:
    first, last = sorted((place, other))
    if kind == "flip" and data:
        data[place] ^= 1 << new[0] % 8
    elif kind == "write":
        data[place : place + len(new)] = new
    elif kind == "insert":
        data[place:place] = new
    elif kind == "cut":
        del data[max(first, len(data) // 2) :]
    elif kind == "remove":
        del data[first : min(last, first + 64)]
    elif kind == "double":
        data[first:first] = data[first : min(last, first + 64)]


@st.composite
def spoilt(draw: DrawFn, valid: Any, most: int = 3) -> Any:
    """Replaces, loses or doubles up to `most` entries in a tree of dictionaries and lists."""
    tree = copy.deepcopy(valid)
    for _ in range(draw(st.integers(0, most))):
        places = [*_places(tree)]
        node, key = places[draw(st.integers(0, len(places) - 1))] if places else (None, None)
        if node is None:
            break
        kind = draw(st.sampled_from(["replace", "replace", "lose", "double"]))
        if kind == "replace":
            node[key] = draw(values)
        elif kind == "lose":
            del node[key]
        elif isinstance(node, list):
            node.insert(key, copy.deepcopy(node[key]))
    return tree


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Lists (container, key) of every entry."""
    if not isinstance(tree, dict | list):
        return []
    keys = [*tree] if isinstance(tree, dict) else range(len(tree))
    return [place for key in keys for place in [(tree, key), *_places(tree[key])]]


def bytes_of(strategy: SearchStrategy[str]) -> SearchStrategy[bytes]:
    """Encodes texts in UTF-8, including lone surrogates."""
    return strategy.map(lambda text: text.encode("utf-8", "surrogatepass"))


COORDINATES = (
    *(0.0, -0.0, 1.0, 4.0, 8.0, 12.0, 16.5, 20.0, 31.999, 40.0, -7.0, 56.0, 1e-30, -1e-30),
    *(1e6, -1e6, 1e25, -1e25, 3e38, -3e38, math.nan, math.inf, -math.inf),
)
ORDINARY = 14  # number of ordinary ones among these


@st.composite
def layouts(draw: DrawFn, tensor: Tensor) -> Tensor:
    """Draws the order in memory of the same values."""
    kind = draw(st.sampled_from(["plain", "turned", "spread"]))
    if kind == "turned":
        return tensor.transpose(0, -1).contiguous().transpose(0, -1)
    return torch.stack((tensor, tensor), -1)[..., 0] if kind == "spread" else tensor


@st.composite
def tensors(draw: DrawFn, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Draws ordinary coordinates, with ties and repeated rows, or any numbers, in any layout.

    A seed draws the numbers: drawing them one by one would take most of the time.
    """
    rng = random.Random(draw(st.integers(0, 2**32 - 1)))
    most = draw(st.sampled_from([ORDINARY, ORDINARY, len(COORDINATES)]))
    count = math.prod(shape)
    pick = [rng.choice(COORDINATES[:most]) + rng.choice((0.0, 0.0, 0.25)) for _ in range(count)]
    values = torch.tensor(pick, dtype=torch.float64).to(dtype).view(*shape)
    if len(shape) == 2 and shape[1] == 4 and draw(st.booleans()):  # valid boxes
        low, high = values[:, :2].minimum(values[:, 2:]), values[:, :2].maximum(values[:, 2:])
        values = torch.cat((low, high), 1)
    if shape[0] > 1 and draw(st.booleans()):
        values[-1] = values[0]
    return draw(layouts(values))
