"""Compares the CUDA kernels of NMS, run on the CPU, with the reference."""

import ctypes

import pytest
import torch
from helpers_cuda_on_cpu import compiled, pointer
from helpers_nms import SCENES, crowd

from dynamic_atss.ops import nms

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    return compiled("nms_on_cpu.cpp", tmp_path_factory.mktemp("nms"))


def run(kernels, boxes, scores, classes, threshold, offset, limit, threads):
    keep = torch.full((len(scores), min(limit, scores.shape[1])), -7)
    counts = torch.full((len(scores),), -7)
    inputs = [pointer(x.contiguous()) for x in (boxes.float(), scores, classes)]
    sizes = [ctypes.c_int64(x) for x in scores.shape]
    numbers = [ctypes.c_double(threshold), ctypes.c_double(offset), ctypes.c_int64(keep.shape[1])]
    failed = kernels.nms_on_cpu(
        *inputs, *sizes, *numbers, ctypes.c_uint(threads), pointer(keep), pointer(counts)
    )
    assert not failed
    return keep, counts


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("name", SCENES)
def test_the_kernels_keep_what_the_reference_keeps(kernels, name, offset):
    scene = SCENES[name]()
    for threshold, limit, threads in ((0.5, 1000, 64), (0.0, 7, 32), (0.8, 1000, 16)):
        wanted = nms._reference(*scene, threshold, offset, limit)
        found = run(kernels, *scene, threshold, offset, limit, threads)
        assert [x.tolist() for x in found] == [x.tolist() for x in wanted]


def test_a_block_of_many_threads(kernels):
    """Uses as many threads as a GPU, and four tiles, the last one partial."""
    scene = crowd(1, 250, 1, seed=8)
    wanted = nms._reference(*scene, 0.4, 1.0, 250)
    found = run(kernels, *scene, 0.4, 1.0, 250, 256)
    assert [x.tolist() for x in found] == [x.tolist() for x in wanted]


def test_a_barrier_that_not_all_threads_reach_is_found(kernels):
    assert kernels.barrier_that_not_all_reach() == 1


def test_warps_and_atomics(kernels):
    of_warps, of_block = torch.zeros(2, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
    assert kernels.sums_on_cpu(pointer(of_warps), pointer(of_block)) == 0
    assert of_warps.tolist() == [sum(range(32)), sum(range(32, 64))]
    assert of_block.item() == 32 * sum(range(64))
