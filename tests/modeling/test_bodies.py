"""Tests every body: strides of the maps, gradients, frozen parts, bf16."""

import pytest
import torch

from dynamic_atss.modeling.backbones import MobileNetV2, ResNet, Swin, TimmBody
from dynamic_atss.modeling.fpn import FPN, BackboneWithFPN

pytestmark = pytest.mark.slow

pytest.importorskip("timm")

BODIES = {
    "resnet_gn": lambda **k: ResNet(18, norm="GN", stem_out=32, res2_out=128, **k),
    "swin": lambda **k: Swin("T", **k),
    "mobilenet": lambda **k: MobileNetV2(**k),
    "timm": lambda **k: TimmBody("test_resnet", **k),
    "timm_no_stride_2": lambda **k: TimmBody("test_convnext", **k),
    "timm_blocks": lambda **k: TimmBody("test_efficientnet", **k),
}


def sizes(maps):
    return [tuple(y.shape[-2:]) for y in maps]


def learning(body):
    return [name for name, p in body.named_parameters() if p.requires_grad]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("name", BODIES)
def test_maps_of_an_odd_image_and_a_gradient_for_every_parameter(name):
    body = BODIES[name](freeze_at=0).train()
    model = BackboneWithFPN(body, FPN(body.out_channels, 32, top_from="C5"))
    maps = model(torch.randn(2, 3, 75, 110))
    rounded = name.startswith("timm")  # rounded up to 32
    want = [(12, 16), (6, 8), (3, 4)] if rounded else [(10, 14), (5, 7), (3, 4)]
    assert sizes(maps) == [*want, (2, 2), (1, 1)]
    sum(y.square().mean() for y in maps).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", BODIES)
def test_a_smaller_image_than_every_window_and_patch(name):
    body = BODIES[name](freeze_at=0).eval()
    maps = body(torch.randn(1, 3, 3, 5))
    assert sizes(maps) == [(4, 4), (2, 2), (1, 1)] if "timm" in name else [(1, 1)] * 3
    assert all(y.isfinite().all() for y in maps)


@pytest.mark.parametrize("name", BODIES)
def test_bf16_and_channels_last_change_little(name):
    body = BODIES[name](freeze_at=0).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        want = body(images)
        last = body.to(memory_format=torch.channels_last)(
            images.contiguous(memory_format=torch.channels_last)
        )
        with torch.autocast("cpu", torch.bfloat16):
            half = body(images)
    for a, b, c in zip(want, last, half, strict=True):
        assert (a - b).norm() < 1e-4 * a.norm()
        assert (a - c).norm() < 0.05 * a.norm()


@pytest.mark.parametrize("name", BODIES)
def test_each_freeze_at_freezes_more_and_all_of_it_at_the_end(name):
    last = 18 if name == "mobilenet" else 5
    # Uses the meta device for speed. timm's models are small, and older ones need values.
    with torch.device("cpu" if name.startswith("timm") else "meta"):
        bodies = [BODIES[name](freeze_at=k) for k in range(last + 1)]
    left = [len(learning(body)) for body in bodies]
    assert left == sorted(set(left), reverse=True)
    assert left[0] == len(list(bodies[0].parameters())) and left[-1] == 0
    with pytest.raises(ValueError, match=f"0 to {last}, not {last + 1}"):
        BODIES[name](freeze_at=last + 1)


@pytest.mark.parametrize("name", BODIES)
def test_frozen_parts_stay_as_they_are_in_training(name):
    body = BODIES[name](freeze_at=2).train()
    before = {k: v.clone() for k, v in body.state_dict().items()}
    sum(y.square().mean() for y in body(torch.randn(2, 3, 64, 64))).backward()
    learns = set(learning(body))
    for key, parameter in body.named_parameters():
        assert (parameter.grad is not None) is (key in learns), key
    frozen = {k.rpartition(".")[0] for k, _ in body.named_parameters()} - {
        k.rpartition(".")[0] for k in learns
    }
    assert frozen
    for key, value in body.state_dict().items():
        if key.rpartition(".")[0] in frozen:
            assert torch.equal(value, before[key]), key
    assert not any(body.get_submodule(k).training for k in frozen)
    assert body.eval().train().training
