"""The stream of batches is complete, can be resumed, and is the same for any number of ranks."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from dynamic_atss.data.samplers import (
    TrainingSampler,
    aspect_groups,
    epoch_indices,
    inference_batches,
    repeat_factors,
    training_batches,
)

SIZE = 37
GROUPS = [int(i % 5 == 0) for i in range(SIZE)]


def take(count, groups=None, batch=4, seed=0):
    return list(islice(training_batches(groups, SIZE, batch, seed), count))


def sampler(start, stop, rank=0, world=1):
    ranks = {"rank": rank, "world_size": world}
    return TrainingSampler(GROUPS, SIZE, 8, 5, start=start, stop=stop, **ranks)


def test_every_epoch_has_every_image_once():
    keys = [key for batch in take(37) for key in batch]  # 37 batches of 4 = 4 epochs of 37
    assert [position for _, position in keys] == list(range(4 * SIZE))
    epochs = [[i for i, _ in keys[e * SIZE : (e + 1) * SIZE]] for e in range(4)]
    assert all(sorted(epoch) == list(range(SIZE)) for epoch in epochs)
    assert epochs[0] != epochs[1] and take(37) == take(37) and take(37) != take(37, seed=1)


def test_groups_are_not_mixed_and_nothing_is_lost():
    batches = take(100, GROUPS)
    assert all(len({GROUPS[i] for i, _ in batch}) == 1 and len(batch) == 4 for batch in batches)
    positions = [position for batch in batches for _, position in batch]
    assert len(set(positions)) == len(positions)
    # At most one incomplete batch per group is waiting at any time.
    assert max(positions) < len(positions) + 2 * 3
    counts = Counter(i for batch in batches for i, _ in batch)
    assert set(counts) == set(range(SIZE)) and max(counts.values()) - min(counts.values()) <= 2


def test_a_resumed_run_continues_exactly():
    batches = list(sampler(0, 30))
    assert len(sampler(0, 30)) == len(batches) == 30
    assert list(sampler(0, 11)) + list(sampler(11, 30)) == batches
    assert list(sampler(30, 30)) == [] and len(sampler(31, 30)) == 0


@pytest.mark.parametrize("world", [1, 2, 4])
def test_ranks_share_the_global_batch(world):
    batches = list(sampler(3, 9))
    ranks = [list(sampler(3, 9, r, world)) for r in range(world)]
    for step, batch in enumerate(batches):
        parts = [rank[step] for rank in ranks]
        assert [key for part in parts for key in part] == batch
        assert len({len(part) for part in parts}) == 1


def test_invalid_arguments():
    with pytest.raises(ValueError, match="8 does not divide by 3"):
        sampler(0, 1, world=3)
    with pytest.raises(ValueError, match="positive"):
        next(training_batches(None, 0, 4, 0))


def test_aspect_groups_split_at_one():
    sizes = np.array([[10, 20], [20, 10], [15, 15]])
    assert aspect_groups(sizes) == [0, 1, 1]  # h / w >= 1 is the upper group


def test_inference_batches_of_the_release():
    sizes = np.array([[427, 640], [480, 640], [640, 349], [353, 640], [500, 333]])
    assert inference_batches(sizes, 2, group=True) == [[0, 1], [3], [2, 4]]
    assert inference_batches(sizes, 2, group=False) == [[0, 1], [2, 3], [4]]
    assert inference_batches(np.zeros((0, 2), int), 2, group=True) == []


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("group", [True, False])
def test_inference_ranks_lose_and_repeat_nothing(world, group):
    sizes = np.random.default_rng(0).integers(10, 20, (23, 2))
    batches = inference_batches(sizes, 4, group)
    seen = [i for rank in range(world) for batch in batches[rank::world] for i in batch]
    assert sorted(seen) == list(range(23))


def test_repeat_factors_in_closed_form():
    # 8 images: class 0 in all but the last, class 1 in two, class 2 in one (twice).
    image = np.array([0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 0])
    classes = np.array([2, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0])
    factors = repeat_factors(image, classes, 8, 0.5)
    # f = 7/8, 2/8, 1/8, so r = 1, sqrt(2), 2. Images get the largest; 1 without boxes.
    assert factors.tolist() == pytest.approx([2, 2**0.5, 1, 1, 1, 1, 1, 1])
    none = np.zeros(0, np.int64)
    assert repeat_factors(none, none, 3, 1).tolist() == [1, 1, 1]


FACTORS = np.where(np.arange(SIZE) % 7 == 0, 2.3, 1.0)


def test_images_are_repeated_as_often_as_their_factor():
    counts = np.zeros((400, SIZE))
    for epoch in range(400):
        counts[epoch] = np.bincount(epoch_indices(SIZE, 3, epoch, FACTORS), minlength=SIZE)
    repeated = FACTORS > 1
    assert (counts[:, ~repeated] == 1).all() and set(np.unique(counts[:, repeated])) == {2, 3}
    # A binomial of 2,400 draws with probability 0.3: 4 standard deviations are 0.037.
    assert abs(counts[:, repeated].mean() - 2.3) < 0.037
    assert not (counts[0] == counts[1]).all()  # each epoch draws again
    first = epoch_indices(SIZE, 3, 0, FACTORS)
    assert np.array_equal(first, epoch_indices(SIZE, 3, 0, FACTORS))
    assert not np.array_equal(first, epoch_indices(SIZE, 4, 0, FACTORS))
    assert np.array_equal(epoch_indices(SIZE, 3, 0), epoch_indices(SIZE, 3, 0, None))


def test_repeated_images_resume_and_are_shared_by_ranks():
    def keys(start, stop, rank=0, world=1):
        ranks = {"rank": rank, "world_size": world}
        options = {"start": start, "stop": stop, "factors": FACTORS, **ranks}
        return list(TrainingSampler(GROUPS, SIZE, 8, 5, **options))

    batches = keys(0, 30)
    assert batches != list(sampler(0, 30)) and keys(0, 13) + keys(13, 30) == batches
    ranks = [keys(0, 30, rank, 2) for rank in (0, 1)]
    for step, batch in enumerate(batches):
        parts = [rank[step] for rank in ranks]
        assert [key for part in parts for key in part] == batch
        assert len({GROUPS[i] for i, _ in batch}) == 1
    positions = [position for batch in batches for _, position in batch]
    assert len(set(positions)) == len(positions)
