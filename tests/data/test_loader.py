"""Batches: padding, packing, ranks, workers, and errors in workers."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers_data import box, open_coco, write_coco

from dynamic_atss.data import loader
from dynamic_atss.data.dataset import Sample
from dynamic_atss.data.loader import _WorkerBatch, build_test_loader, build_train_loader, collate
from dynamic_atss.data.transforms import Compose, HorizontalFlip, Resize
from dynamic_atss.errors import UserError
from dynamic_atss.processes import SIGNALS
from dynamic_atss.types import GroundTruth

SIZES = {i: ((20, 30) if i % 3 else (30, 20)) for i in range(1, 12)}


def make(tmp_path, training=True, keep_empty=False, transform=None):
    entries = [box(i, i, [1, 1, 5 + i, 6]) for i in SIZES if i != 5]
    path = write_coco(tmp_path, SIZES, entries)
    return open_coco(path, training, keep_empty=keep_empty, transform=transform, seed=2)


def sample(height, width, count, id):
    pixels = torch.full((height, width, 3), id, dtype=torch.uint8).permute(2, 0, 1)
    none = torch.zeros(count, dtype=torch.int64)
    boxes = torch.rand(count, 4)
    return Sample(pixels, GroundTruth(boxes, none + id, none), id, (height * 2, width * 2))


def test_collate_pads_and_packs():
    samples = [sample(20, 33, 2, 7), sample(31, 30, 0, 8), sample(5, 5, 3, 9)]
    batch = collate(samples, 32)
    assert batch.images.shape == (3, 3, 32, 64) and batch.images.dtype == torch.uint8
    for image, s, (h, w) in zip(batch.images, samples, batch.sizes.tolist(), strict=True):
        assert (h, w) == s.image.shape[1:]
        assert torch.equal(image[:, :h, :w], s.image)
        assert image.sum() == s.image.sum()  # the padding is 0
    assert batch.gt.image_index.tolist() == [0, 0, 2, 2, 2]
    assert batch.gt.classes.tolist() == [7, 7, 9, 9, 9]
    assert torch.equal(batch.gt.boxes, torch.cat([s.gt.boxes for s in samples]))
    assert batch.image_ids == (7, 8, 9)
    assert batch.original_sizes == ((40, 66), (62, 60), (10, 10))


@pytest.mark.parametrize(("step", "size"), [(0, (31, 33)), (1, (31, 33)), (8, (32, 40))])
def test_collate_rounds_up(step, size):
    batch = collate([sample(20, 33, 0, 1), sample(31, 30, 0, 2)], step)
    assert batch.images.shape[2:] == size
    assert batch.gt.boxes.shape == (0, 4) and len(batch.gt.image_index) == 0


def test_a_worker_writes_the_batch_into_shared_memory(monkeypatch):
    samples = [sample(20, 33, 2, 7), sample(31, 30, 0, 8)]
    in_main_process = collate(samples, 32).images
    monkeypatch.setattr("dynamic_atss.data.collate.get_worker_info", object)
    in_worker = collate(samples, 32).images
    assert in_worker.is_shared() and not in_main_process.is_shared()
    assert torch.equal(in_main_process, in_worker)
    assert in_main_process.stride() == in_worker.stride()


def contents(loader):
    return [(b.image_ids, b.images.clone(), b.gt.boxes.clone()) for b in loader]


def equal(first, second):
    return len(first) == len(second) and all(
        a[0] == b[0] and torch.equal(a[1], b[1]) and torch.equal(a[2], b[2])
        for a, b in zip(first, second, strict=True)
    )


def test_resumed_batches_do_not_depend_on_the_number_of_workers(tmp_path):
    transform = Compose([Resize((16, 24, 32), 60), HorizontalFlip(0.5)])
    data = make(tmp_path, transform=transform)
    options = {"ims_per_batch": 4, "seed": 1, "size_divisibility": 8}
    batches = contents(build_train_loader(data, start=0, stop=8, **options))
    resumed = contents(build_train_loader(data, start=5, stop=8, num_workers=2, **options))
    assert len(batches) == 8 and equal(batches[5:], resumed)
    assert len({images.shape for _, images, _ in batches}) > 1


def test_the_global_random_state_stays(tmp_path):
    loader = build_train_loader(make(tmp_path), ims_per_batch=2, stop=2)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    list(loader)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_ranks_share_the_global_batch_for_any_number_of_parts(tmp_path, accumulate):
    data = make(tmp_path)
    expected = [b.image_ids for b in build_train_loader(data, ims_per_batch=4, stop=3)]
    split = {"ims_per_batch": 4, "stop": 3, "accumulate": accumulate, "world_size": 2}
    ranks = [[b.image_ids for b in build_train_loader(data, rank=r, **split)] for r in (0, 1)]
    assert [a + b for a, b in zip(*ranks, strict=True)] == expected


@pytest.mark.parametrize("world", [1, 2, 4])
def test_every_image_is_tested_once(tmp_path, world):
    data = make(tmp_path, training=False)
    ids = []
    for rank in range(world):
        loader = build_test_loader(data, ims_per_batch=4, rank=rank, world_size=world)
        batches = [b.image_ids for b in loader]
        assert len(batches) == len(loader) and all(len(b) <= 4 // world for b in batches)
        ids += [i for b in batches for i in b]
    assert sorted(ids) == sorted(SIZES)


def test_more_ranks_than_images(tmp_path):
    data = make(tmp_path, training=False)
    loader = build_test_loader(data, ims_per_batch=64, rank=63, world_size=64, num_workers=1)
    assert list(loader) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_several_transforms_give_the_images_in_several_sizes(tmp_path, workers):
    sizes = [Resize((24,), 60), Resize((8,), 60), Resize((50,), 60)]
    options = {"ims_per_batch": 3, "num_workers": workers, "size_divisibility": 8}
    batches = list(build_test_loader(make(tmp_path, False), transforms=sizes, **options))
    for k, size in enumerate(sizes):
        expected = list(build_test_loader(make(tmp_path, False, transform=size), **options))
        found = [(b, *b.scaled)[k] for b in batches]
        assert equal(contents(found), contents(expected))
        for first, second in zip(found, expected, strict=True):
            assert torch.equal(first.sizes, second.sizes)
            assert first.original_sizes == second.original_sizes


def test_images_without_boxes_are_loaded(tmp_path):
    data = make(tmp_path, keep_empty=True)
    loader = build_train_loader(data, ims_per_batch=1, stop=11, num_workers=1)
    found = {b.image_ids[0]: b.gt for b in loader}
    assert len(found[5]) == 0 and found[5].boxes.shape == (0, 4) and len(found[4]) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_worker_keeps_its_message(tmp_path, workers):
    data = make(tmp_path)
    path = tmp_path / "images/4.png"
    path.write_bytes(path.read_bytes()[:300])
    loader = build_train_loader(data, ims_per_batch=2, stop=10, num_workers=workers)
    with pytest.raises(UserError) as error:
        list(loader)
    message = str(error.value)
    assert message.startswith(f"{path}: the image cannot be decoded") and "\n" not in message


def test_indivisible_batches(tmp_path):
    data = make(tmp_path)
    with pytest.raises(UserError, match=r"SOLVER\.IMS_PER_BATCH 6 .* 4 process.*a multiple of 4"):
        build_train_loader(data, ims_per_batch=6, world_size=4, stop=1)
    with pytest.raises(UserError, match=r"SOLVER\.IMS_PER_BATCH 6 .* 2 process.* x 2 parts"):
        build_train_loader(data, ims_per_batch=6, world_size=2, accumulate=2, stop=1)
    with pytest.raises(UserError, match=r"TEST\.IMS_PER_BATCH 0"):
        build_test_loader(data, ims_per_batch=0)


@pytest.mark.slow
def test_leaving_in_the_middle_ends_the_workers(tmp_path):
    """The main process must not have to wait for workers, which ignore its signals."""
    make(tmp_path)
    code = f"""
import sys
from dynamic_atss.data.coco import CocoDataset
from dynamic_atss.data.loader import build_train_loader
data = CocoDataset({str(tmp_path / "a.json")!r}, {str(tmp_path / "images")!r}, training=True)
batches = iter(build_train_loader(data, ims_per_batch=2, stop=1000, num_workers=2))
next(batches)
sys.exit(7)
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True)
    assert done.returncode == 7, done.stderr.decode()


@pytest.mark.parametrize("number", SIGNALS)
def test_workers_outlive_a_signal_to_the_group(tmp_path, number):
    """The main process must be able to finish its step and save."""
    loader = build_train_loader(make(tmp_path), ims_per_batch=2, stop=20, num_workers=2)
    seen = 0
    for seen, _ in enumerate(loader, start=1):
        if seen == 1:
            workers = multiprocessing.active_children()
            for worker in workers:
                os.kill(worker.pid, number)
    assert seen == 20 and len(workers) == 2
    assert not any(worker.is_alive() for worker in workers)


@pytest.mark.slow
def test_workers_end_with_a_main_process_that_is_killed(tmp_path):
    make(tmp_path)
    code = f"""
import multiprocessing, os, signal
from dynamic_atss.data.coco import CocoDataset
from dynamic_atss.data.loader import build_train_loader
data = CocoDataset({str(tmp_path / "a.json")!r}, {str(tmp_path / "images")!r}, training=True)
batches = iter(build_train_loader(data, ims_per_batch=2, stop=1000, num_workers=2))
next(batches)
print(*(worker.pid for worker in multiprocessing.active_children()), flush=True)
for worker in multiprocessing.active_children():
    os.kill(worker.pid, signal.SIGSTOP)  # a stopped worker cannot end by itself
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2
    end = time.monotonic() + 30
    while any(runs(pid) for pid in pids):
        assert time.monotonic() < end
        time.sleep(0.01)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_pinned_batches_are_complete(tmp_path, monkeypatch):
    monkeypatch.setattr(loader, "pinned_bytes", lambda n: torch.empty(n, dtype=torch.uint8))
    batch = next(iter(build_train_loader(make(tmp_path), ims_per_batch=3, stop=1)))
    pinned = _WorkerBatch(batch).pin_memory().batch
    assert torch.equal(pinned.images, batch.images) and torch.equal(pinned.sizes, batch.sizes)
    assert pinned.images is not batch.images and pinned.image_ids == batch.image_ids
    for name in ("boxes", "classes", "image_index"):
        first, second = getattr(pinned.gt, name), getattr(batch.gt, name)
        assert first is not second and torch.equal(first, second)


def test_collated_memory_is_channels_last():
    batch = collate([sample(8, 8, 0, 1)], 0)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
