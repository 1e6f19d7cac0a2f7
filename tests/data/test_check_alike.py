"""Finds copies of pictures in two data sets, and no other pictures."""

import cv2
import numpy as np
import pytest

from dynamic_atss.data.check import alike
from dynamic_atss.data.check.alike import DISTANCE, similar
from dynamic_atss.data.check.pictures import Picture


def hashes(values, name="a"):
    """Makes pictures of given hashes without thumbs (the fixture replaces the comparison)."""
    return [Picture("", f"{name}{i}", int(v), None) for i, v in enumerate(values)]


@pytest.fixture
def by_hash(monkeypatch):
    monkeypatch.setattr(alike, "_alike", lambda first, second: True)


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_all_pairs_within_the_distance_are_found(by_hash, monkeypatch, block):
    monkeypatch.setattr(alike, "_BLOCK", block)
    rng = np.random.default_rng(0)
    first = rng.integers(0, 2**64, 30, dtype=np.uint64)
    flips = rng.integers(0, 64, (40, DISTANCE + 2))
    second = []
    for number, bits in enumerate(flips):
        value = int(first[number % 30])
        for bit in bits[: number % (DISTANCE + 3)]:
            value ^= 1 << int(bit)
        second.append(value)
    expected = [
        (i, j)
        for i, a in enumerate(first.tolist())
        for j, b in enumerate(second)
        if bin(a ^ b).count("1") <= DISTANCE
    ]
    assert 30 < len(expected) < 40
    assert similar(hashes(first), hashes(second, "b")) == expected


def test_no_pictures_and_unreadable_ones(by_hash):
    assert similar([], hashes([1])) == [] == similar(hashes([1]), [])
    assert similar([Picture("broken")], [Picture("broken")]) == []


def scene(seed):
    rng = np.random.default_rng(seed)
    picture = np.full((120, 160, 3), 128, np.uint8)
    for _ in range(12):
        color = tuple(map(int, rng.integers(0, 256, 3)))
        center = tuple(map(int, rng.integers(0, 120, 2)))
        cv2.circle(picture, center, int(rng.integers(5, 40)), color, -1)
    return picture


def picture_of(pixels, name):
    pytest.importorskip("imagehash")
    from dynamic_atss.data.check.pictures import hash_and_thumb

    return Picture("", name, *hash_and_thumb(pixels))


def test_copies_that_were_saved_again():
    first = [picture_of(scene(i), f"a{i}") for i in range(20)]
    saved = cv2.imencode(".jpg", scene(3), [cv2.IMWRITE_JPEG_QUALITY, 40])[1]
    second = [
        picture_of(scene(100), "b0"),
        picture_of(cv2.imdecode(saved, cv2.IMREAD_COLOR), "b1"),
        picture_of(cv2.resize(scene(7), None, fx=0.6, fy=0.6), "b2"),
        picture_of(cv2.convertScaleAbs(scene(9), alpha=0.9, beta=8), "b3"),
    ]
    assert similar(first, second) == [(3, 1), (7, 2), (9, 3)]


def test_pictures_with_the_same_bytes_are_not_similar():
    assert similar([picture_of(scene(1), "same")], [picture_of(scene(1), "same")]) == []


def test_flat_pictures_are_not_similar():
    flat = [picture_of(np.full((50, 50, 3), value, np.uint8), str(value)) for value in (0, 99, 255)]
    assert similar(flat, [picture_of(np.full((60, 40, 3), 99, np.uint8), "other")]) == []
