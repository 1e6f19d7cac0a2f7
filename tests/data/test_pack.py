"""Tests that a packed batch equals its parts, and needs one copy."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dynamic_atss.data.collate import collate
from dynamic_atss.data.pack import ALIGNMENT, pack
from dynamic_atss.data.samples import Sample
from dynamic_atss.types import GroundTruth, to_device

NAMES = ("boxes", "classes", "image_index", "ignore")
SIZES = ((7, 5), (4, 9))


def bytes_of(count):
    """Allocates bytes of a value that no batch here has."""
    return torch.full((count,), 0xA5, dtype=torch.uint8)


def a_batch(boxes=3, regions=False, sizes=SIZES):
    truth = GroundTruth(
        torch.rand(boxes, 4) * 5,
        torch.arange(boxes),
        torch.zeros(boxes, dtype=torch.int64),
        torch.arange(boxes) > 0 if regions else None,
    )
    images = [torch.randint(128, (3, *size), dtype=torch.uint8) for size in sizes]
    samples = [Sample(image, truth, n, (8, 8)) for n, image in enumerate(images)]
    return collate(samples, 4)


def tensors(batch):
    named = {name: getattr(batch.gt, name) for name in NAMES}
    named |= {"images": batch.images, "sizes": batch.sizes}
    return {name: x for name, x in named.items() if x is not None}


def alike(batch, other):
    ours, theirs = tensors(batch), tensors(other)
    assert ours.keys() == theirs.keys()
    for name, x in ours.items():
        y = theirs[name]
        assert torch.equal(x, y) and x.dtype == y.dtype, name
        assert x.stride() == y.stride(), name
    assert batch.image_ids == other.image_ids and batch.original_sizes == other.original_sizes
    assert batch.gt.convention is other.gt.convention


@pytest.mark.parametrize("boxes", [0, 1, 3])
@pytest.mark.parametrize("regions", [False, True])
def test_a_packed_batch_equals_the_batch(boxes, regions):
    batch = a_batch(boxes, regions)
    packed = pack(batch, bytes_of)
    alike(packed, batch)
    assert packed.images.is_contiguous(memory_format=torch.channels_last)
    begin = packed.buffer.data_ptr()
    for name, x in tensors(packed).items():
        offset = x.data_ptr() - begin if len(x) else 0
        assert offset % ALIGNMENT == 0 and 0 <= offset < len(packed.buffer), name
        assert tensors(batch)[name].data_ptr() != x.data_ptr() or not len(x)


def test_the_copy_on_the_device_has_values_strides_and_memory_of_its_own(monkeypatch):
    packed = pack(a_batch(2, True), bytes_of)
    before = packed.images.clone()
    monkeypatch.setattr(torch.Tensor, "to", lambda x, *_, **__: x.clone())  # a device with values
    moved = to_device(packed, "cpu")
    monkeypatch.undo()
    alike(moved, packed)
    assert moved.buffer is None and moved.gt.object_count == packed.gt.object_count
    packed.buffer.zero_()
    assert torch.equal(moved.images, before)


class Copies(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.count += operator._schema.name in ("aten::_to_copy", "aten::copy_")
        return operator(*args, **(kwargs or {}))


@pytest.mark.parametrize("regions, separate", [(False, 5), (True, 6)])
def test_a_packed_batch_needs_one_copy(regions, separate):
    batch = a_batch(3, regions)
    packed = pack(batch, bytes_of)
    for value, expected in ((batch, separate), (packed, 1)):
        for name in value.gt.HOST:
            getattr(value.gt, name)  # computed on the host
        with Copies() as copies:
            moved = to_device(value, "meta")
        assert copies.count == expected
        assert {x.device.type for x in tensors(moved).values()} == {"meta"}
        assert moved.images.is_contiguous(memory_format=torch.channels_last)


def test_a_changed_tensor_of_a_packed_batch_is_moved_as_it_is(monkeypatch):
    packed = pack(a_batch(), bytes_of)
    changed = replace(packed, images=packed.images.flip(3), iteration=7)
    monkeypatch.setattr(torch.Tensor, "to", lambda x, *_, **__: x.clone())
    moved = to_device(changed, "cpu")
    assert torch.equal(moved.images, changed.images) and moved.iteration == 7
    assert torch.equal(moved.gt.boxes, packed.gt.boxes)


def test_each_size_of_a_test_with_several_sizes_has_a_buffer():
    batch = replace(a_batch(), scaled=(a_batch(sizes=((3, 3), (2, 6))), a_batch(0)))
    packed = pack(batch, bytes_of)
    for one, other in zip((packed, *packed.scaled), (batch, *batch.scaled), strict=True):
        alike(one, other)
        assert one.buffer is not None
    moved = to_device(packed, "meta")
    assert moved.scaled == packed.scaled  # moved later, one after another


def test_gaps_in_the_memory_of_a_tensor_are_not_packed():
    batch = a_batch()
    batch = replace(batch, images=batch.images[:, :, :, ::2])
    packed = pack(batch, bytes_of)
    assert torch.equal(packed.images, batch.images)
    assert len(packed.buffer) <= batch.images.numel() + 6 * ALIGNMENT + 200
