"""Finds pictures that are equal or similar.

A score says less if the model was trained on the same pictures.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from dynamic_atss.data.check.pictures import Picture
from dynamic_atss.data.survey import Finding, SurveyInput, share

# Hashes of similar pictures differ in at most DISTANCE of 64 bits. They agree in at least one of
# BANDS parts, so that only pictures with an equal part are compared.
DISTANCE = 6
BANDS = DISTANCE + 1
_CORRELATION = 0.97  # least correlation of the grey thumbnails; hashes of flat pictures may agree
_BLOCK = 1 << 20  # pairs per comparison

# The number of ones in each 16-bit value.
_ONES = np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8)).reshape(-1, 16).sum(1)

DataWithPictures = tuple[SurveyInput, Sequence[Picture]]
Pairs = list[tuple[int, int]]


def same_pictures(data_with_pictures: DataWithPictures) -> Iterator[Finding]:
    """Finds files of a data set with the same bytes under different names."""
    data, pictures = data_with_pictures
    groups = defaultdict(list)
    for file, name, picture in zip(data.files(), data.names, pictures, strict=True):
        if picture.digest:
            groups[picture.digest].append((file, name))
    same = [g for g in groups.values() if len({file for file, _ in g}) > 1]
    if same:
        names = " and ".join(repr(name) for _, name in same[0][:2])
        count = sum(map(len, same)) - len(same)
        yield Finding(
            "warning",
            "same_pictures",
            data.where,
            count,
            f"{share(count, len(pictures), 'images')} are copies of other images, such as {names}",
            "keep one of each, unless they should count twice",
        )


def shared_pictures(first: DataWithPictures, second: DataWithPictures) -> Iterator[Finding]:
    """Finds pictures in two data sets that have the same bytes or look alike."""
    for code, level, found, relation, advice in (
        (
            "shared_pictures",
            "fix",
            _same(first[1], second[1]),
            "have the same bytes as",
            "remove them from one set",
        ),
        (
            "similar_pictures",
            "warning",
            similar(first[1], second[1]),
            "look almost like",
            "look at them; put copies, or frames of one film, into the same set",
        ),
    ):
        if found:
            a, b = found[0]
            count = len({j for _, j in found})
            yield Finding(
                level,
                code,
                f"{first[0].where} and {second[0].where}",
                count,
                f"{share(count, len(second[1]), 'images')} of the second set {relation} "
                f"images of the first, such as {first[0].names[a]!r} and {second[0].names[b]!r}",
                f"a score on them says little about new pictures: {advice}",
            )


def _same(first: Sequence[Picture], second: Sequence[Picture]) -> Pairs:
    index_of = {picture.digest: i for i, picture in enumerate(first) if picture.digest}
    return [(index_of[p.digest], j) for j, p in enumerate(second) if p.digest in index_of]


def similar(first: Sequence[Picture], second: Sequence[Picture]) -> Pairs:
    """Returns (index in first, index in second) of pictures that look alike but are not equal."""
    known = [[i for i, p in enumerate(s) if p.hash is not None] for s in (first, second)]
    a, b = (
        np.array([s[i].hash for i in k], np.uint64)
        for s, k in zip((first, second), known, strict=True)
    )
    found = set()
    for shift, mask in _bands():
        for i, j in _candidates((a >> shift) & mask, (b >> shift) & mask):
            near = _bits(a[i] ^ b[j]) <= DISTANCE
            found |= set(zip(i[near].tolist(), j[near].tolist(), strict=True))
    pairs = ((known[0][i], known[1][j]) for i, j in sorted(found))
    return [(i, j) for i, j in pairs if _alike(first[i], second[j])]


def _bands() -> Iterator[tuple[np.uint64, np.uint64]]:
    """Yields (shift, mask) for each of the BANDS parts of a hash."""
    ends = np.linspace(0, 64, BANDS + 1).astype(int).tolist()
    for low, high in itertools.pairwise(ends):
        yield np.uint64(low), np.uint64((1 << (high - low)) - 1)


def _candidates(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields blocks (i, j) of the index pairs with a[i] == b[j]."""
    order = np.argsort(b, kind="stable")
    low, high = (np.searchsorted(b[order], a, side) for side in ("left", "right"))
    counts = high - low
    ends = np.cumsum(counts)
    begin = 0
    while begin < len(a):
        stop = max(
            int(np.searchsorted(ends, (ends[begin - 1] if begin else 0) + _BLOCK)), begin + 1
        )
        n = counts[begin:stop]
        i = np.repeat(np.arange(begin, begin + len(n)), n)
        within = np.arange(len(i)) - np.repeat(np.cumsum(n) - n, n)
        yield i, order[low[i] + within]
        begin = stop


def _bits(values: np.ndarray) -> np.ndarray:
    """Counts the ones in each 64-bit value."""
    return _ONES[values.view(np.uint16).reshape(len(values), 4)].sum(1)


def _alike(first: Picture, second: Picture) -> bool:
    if first.digest == second.digest or first.thumb is None or second.thumb is None:
        return False
    a, b = (thumb - thumb.mean() for thumb in (first.thumb, second.thumb))
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return norm > 0 and float((a * b).sum()) / norm >= _CORRELATION
