"""Tests the arrays of the page: kept pairs, runs, short types, and the block that holds them."""

import base64
import zlib

import numpy as np
import pytest
import torch
from helpers_inspection import crowd, explained, recorded

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.assigners.rules.max_iou import MaxIoU
from dynamic_atss.inspection.outcomes import LOST, WON
from dynamic_atss.inspection.pack import Block
from dynamic_atss.inspection.reasons import Reasons
from dynamic_atss.inspection.views import in_bytes, page_arrays, predicted

DTYPES = {"u1": "<u1", "u2": "<u2", "i2": "<i2", "u4": "<u4", "f4": "<f4"}


def read(block, place):
    kind, first, count = place
    content = zlib.decompress(base64.b64decode(block.text()))
    return np.frombuffer(content, DTYPES[kind], count, first)


def test_a_block_gives_back_what_it_got():
    block = Block()
    arrays = [
        *(np.arange(5, dtype=np.uint8), np.array([70000, 3], np.uint32)),
        *(np.array([-2, 9], np.int16), np.array([0.25, np.nan], np.float32)),
        np.zeros(0, np.uint16),
    ]
    places = [block.add(x) for x in arrays]
    for place, values in zip(places, arrays, strict=True):
        assert place[1] % 4 == 0
        np.testing.assert_array_equal(read(block, place), values)
    length = len(block.text())
    assert block.add(arrays[1].copy()) == places[1] and len(block.text()) == length
    with pytest.raises(KeyError):
        block.add(np.zeros(2))


@pytest.mark.parametrize("name", ASSIGNERS)
def test_counts_are_of_all_pairs_and_the_best_of_each_end_are_kept(name):
    answer, found, texts = explained(ASSIGNERS[name](), *crowd(0))
    reasons = Reasons()
    arrays = page_arrays(answer, reasons, 10).arrays
    counts = arrays["counts"].reshape(-1, 3)
    assert counts[:, 2].sum() == len(found.box)
    for box, reason, number in counts.tolist():
        text = reasons.texts[reason]
        same = [texts[i] == text for i in found.reason]
        assert number == ((found.box == box) & same).sum()
    for status, limit in ((WON, 4), (LOST, 3)):
        for box in range(len(answer.gt)):
            kept = (arrays["pair_box"] == box) & (arrays["pair_status"] == status)
            here = (found.box == box) & (found.status == status)
            assert kept.sum() == min(limit, here.sum())
            smallest_kept = np.sort(found.score[here])[::-1][: kept.sum()]
            places = [
                np.flatnonzero(here & (found.prior == p))[0] for p in arrays["pair_prior"][kept]
            ]
            np.testing.assert_array_equal(found.score[places], smallest_kept)


def test_positives_and_ignored_priors():
    answer = recorded(MaxIoU(), *crowd(0))
    arrays = page_arrays(answer, Reasons(), 10).arrays
    index = np.full(len(answer.priors), -1)
    index[arrays["positive_prior"]] = arrays["positive_box"]
    for first, count in arrays["ignored"].reshape(-1, 2):
        index[first : first + count] = -2
    assert index.tolist() == answer.found.gt_index[0].tolist()
    quality = answer.found.quality[0].numpy()[arrays["positive_prior"]]
    assert np.abs(arrays["positive_quality"] / 255 - quality).max() <= 0.5 / 255 + 1e-6


def test_scores_are_as_exact_as_they_are_shown():
    answer, found, _ = explained(ASSIGNERS["simota"](), *crowd(0))
    seen = page_arrays(answer, Reasons(), 10_000)
    shown = seen.arrays[f"value_{seen.values.index('-cost')}"]
    exact = {(b, p): s for b, p, s in zip(found.box, found.prior, found.score, strict=True)}
    pairs = zip(seen.arrays["pair_box"], seen.arrays["pair_prior"], strict=True)
    np.testing.assert_allclose(shown, [exact[pair] for pair in pairs], rtol=2**-12)


def test_what_is_not_finite_is_packed():
    assert in_bytes(np.array([np.nan, np.inf, -1, 0.5])).tolist() == [0, 255, 0, 128]
    answer = recorded(ASSIGNERS["atss"](), *crowd(0))
    answer.predictions.boxes[0, :2] = torch.tensor([torch.nan, -torch.inf])[:, None]
    found = predicted(answer, np.arange(3)).reshape(3, 4)
    assert found[:2].tolist() == [[0] * 4, [-32767] * 4]
    exact = answer.predictions.boxes[0, 2].numpy() * 4
    np.testing.assert_allclose(found[2], exact, atol=0.5)
