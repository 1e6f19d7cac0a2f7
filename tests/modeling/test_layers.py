"""Compares norms and deformable convolution with their definitions."""

import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dynamic_atss.modeling.layers import (
    FrozenBatchNorm2d,
    ModulatedDeformConv,
    SyncBatchNorm2d,
    conv_norm,
    make_norm,
)


def _randomise(module):
    generator = torch.Generator().manual_seed(3)
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) - 0.5)


def test_frozen_batch_norm_has_no_epsilon_and_learns_nothing():
    norm = FrozenBatchNorm2d(3)
    norm.weight.copy_(torch.tensor([2.0, 1.0, -1.0]))
    norm.bias.copy_(torch.tensor([0.5, 0.0, 1.0]))
    norm.running_mean.copy_(torch.tensor([1.0, 0.0, 2.0]))
    norm.running_var.copy_(torch.tensor([4.0, 1e-8, 0.25]))
    x = torch.full((1, 3, 1, 2), 3.0)
    assert norm(x)[0, :, 0, 0].tolist() == pytest.approx([2.5, 3e4, -1.0])
    assert list(norm.parameters()) == []
    assert list(norm.state_dict()) == ["weight", "bias", "running_mean", "running_var"]
    assert norm(x.bfloat16()).dtype == torch.bfloat16


def _conv_and_norm(name, bias=False):
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(8, 48, 3, bias=bias), make_norm(name, 48).eval()
    if name == "FrozenBN":
        norm.weight.normal_()
        norm.bias.normal_()
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return conv, norm


@pytest.mark.parametrize("name", ["FrozenBN", "BN", "GN"])
def test_a_norm_behind_a_convolution_trains_to_the_bit_as_the_two_in_a_row(name):
    conv, norm = _conv_and_norm(name)
    x = torch.randn(2, 8, 6, 7, requires_grad=True)
    found, wanted = conv_norm(x, conv, norm), norm(conv(x))
    assert torch.equal(found, wanted)
    weight = torch.randn_like(wanted)
    pairs = [torch.autograd.grad((y * weight).sum(), (x, conv.weight)) for y in (found, wanted)]
    assert all(torch.equal(a, b) for a, b in zip(*pairs, strict=True))


@pytest.mark.parametrize("bias", [False, True])
def test_a_norm_behind_a_convolution_leaves_the_input_as_it_was(bias):
    conv, norm = _conv_and_norm("FrozenBN", bias)
    x = torch.randn(2, 8, 6, 7)
    kept = x.clone()
    with torch.no_grad():
        assert torch.equal(conv_norm(x, conv, norm), norm(conv(x)))
    assert torch.equal(x, kept)


@pytest.mark.parametrize("name", ["FrozenBN", "BN", "SyncBN", "GN"])
def test_every_norm_trains_on_the_cpu(name):
    norm = make_norm(name, 48).train()
    x = torch.randn(2, 48, 4, 4, requires_grad=True)
    norm(x).sum().backward()
    assert x.grad.isfinite().all()


def test_group_norm_keeps_the_published_32_groups():
    assert make_norm("GN", 256).num_groups == 32
    assert make_norm("GN", 48).num_groups == 16
    with pytest.raises(ValueError, match="FrozenBN"):
        make_norm("LN", 256)


def test_sync_batch_norm_of_one_process_is_batch_norm():
    x = torch.randn(4, 6, 5, 5)
    sync, plain = SyncBatchNorm2d(6), nn.BatchNorm2d(6)
    assert list(sync.state_dict()) == list(plain.state_dict())
    torch.testing.assert_close(sync(x), plain(x))
    torch.testing.assert_close(sync.running_var, plain.running_var)
    torch.testing.assert_close(sync.eval()(x), plain.eval()(x))
    assert sync.num_batches_tracked == 1


def _sync_worker(rank, x, weights, expected, store):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    share = x[:1] if rank == 0 else x[1:]  # unequal shares: 1 and 3 images
    share = share.clone().requires_grad_()
    norm = SyncBatchNorm2d(3)
    y = DistributedDataParallel(norm)(share)  # it refuses torch's SyncBatchNorm on CPU
    (y * (weights[:1] if rank == 0 else weights[1:])).sum().backward()
    want_y, want_grad, want_mean, want_var = expected
    part = slice(0, 1) if rank == 0 else slice(1, None)
    torch.testing.assert_close(y.detach(), want_y[part])
    torch.testing.assert_close(share.grad, want_grad[part])
    torch.testing.assert_close(norm.running_mean, want_mean)
    torch.testing.assert_close(norm.running_var, want_var)
    dist.destroy_process_group()


@pytest.mark.slow
def test_sync_batch_norm_of_two_cpu_processes_is_batch_norm_of_the_whole_batch(tmp_path):
    torch.manual_seed(0)
    x, weights = torch.randn(4, 3, 4, 4) * 3 + 5, torch.randn(4, 3, 4, 4)
    norm = nn.BatchNorm2d(3)
    leaf = x.clone().requires_grad_()
    y = norm(leaf)
    (y * weights).sum().backward()
    expected = (y.detach(), leaf.grad, norm.running_mean, norm.running_var)
    mp.spawn(_sync_worker, (x, weights, expected, str(tmp_path / "store")), nprocs=2)


def _bilinear(plane, y, x):
    """Interpolates a value of an (H, W) plane from four neighbours, with 0 outside."""
    height, width = plane.shape
    y0, x0 = math.floor(y), math.floor(x)
    value = 0.0
    for row, wy in ((y0, y0 + 1 - y), (y0 + 1, y - y0)):
        for col, wx in ((x0, x0 + 1 - x), (x0 + 1, x - x0)):
            if 0 <= row < height and 0 <= col < width:
                value += wy * wx * plane[row, col].item()
    return value


def _naive_deform(layer, x, stride, groups, deformable_groups):
    """Computes the definition value by value. Offsets (dy, dx) per tap come first, then masks."""
    predicted = layer.offset(x)
    weight = layer.conv.weight
    n, c_in, _, _ = x.shape
    c_out, per_group = weight.shape[:2]
    out = torch.zeros(n, c_out, *predicted.shape[2:], dtype=x.dtype)
    masks_from = 18 * deformable_groups
    for b, o, i, j in torch.cartesian_prod(*(torch.arange(s) for s in out.shape)).tolist():
        total = 0.0 if layer.conv.bias is None else layer.conv.bias[o].item()
        for k in range(per_group):
            c = (o // (c_out // groups)) * per_group + k
            d = c // (c_in // deformable_groups)
            for tap in range(9):
                dy, dx = predicted[b, 18 * d + 2 * tap : 18 * d + 2 * tap + 2, i, j].tolist()
                at = (i * stride - 1 + tap // 3 + dy, j * stride - 1 + tap % 3 + dx)
                value = _bilinear(x[b, c], *at) * weight[o, k, tap // 3, tap % 3].item()
                if layer.modulated:
                    value *= predicted[b, masks_from + 9 * d + tap, i, j].sigmoid().item()
                total += value
        out[b, o, i, j] = total
    return out


@pytest.mark.parametrize(
    ("stride", "groups", "deformable_groups", "modulated", "bias"),
    [(1, 1, 1, True, True), (2, 2, 2, True, False), (1, 1, 2, False, False)],
)
def test_deformable_convolution_is_its_definition(
    stride, groups, deformable_groups, modulated, bias
):
    layer = ModulatedDeformConv(
        4,
        2,
        stride=stride,
        groups=groups,
        deformable_groups=deformable_groups,
        bias=bias,
        modulated=modulated,
    ).double()
    _randomise(layer)
    assert layer.offset.out_channels == (27 if modulated else 18) * deformable_groups
    x = torch.randn(1, 4, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        want = _naive_deform(layer, x, stride, groups, deformable_groups)
        torch.testing.assert_close(layer(x), want, rtol=1e-6, atol=1e-9)


def test_deformable_convolution_starts_as_half_a_plain_one_also_under_autocast():
    layer = ModulatedDeformConv(8, 8, bias=False)
    x = torch.randn(1, 8, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), layer.conv(x) / 2, rtol=1e-4, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(layer(x), layer.conv(x).float() / 2, rtol=0.05, atol=0.02)
    assert set(layer.state_dict()) == {"offset.weight", "offset.bias", "conv.weight"}
