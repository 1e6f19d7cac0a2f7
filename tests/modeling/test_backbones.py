"""Tests ResNet and FPN: published names, shapes, frozen parts, and torchvision's results."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torchvision

from dynamic_atss.modeling.backbones import ResNet
from dynamic_atss.modeling.fpn import FPN, BackboneWithFPN

RELEASES = Path(__file__).parents[1] / "golden/release_state_dicts.json"

# The body and pyramid of each published YAML.
X101 = {"depth": 101, "num_groups": 64, "width_per_group": 4, "stride_in_1x1": False}
DCN = {"depth": 50, "deformable": (False, True, True, True)}
PUBLISHED = {
    "dynamic_atss/dynamic_atss_R_50_FPN_1x": ({"depth": 50}, "P5"),
    "dynamic_atss/dynamic_atss_X_101_64x4d_FPN_2x": (X101, "P5"),
    "dynamic_atss/dynamic_atss_dcnv2_R_50_FPN_1x": (DCN, "P5"),
    "atss/atss_R_50_FPN_1x": ({"depth": 50}, "P5"),
    "fcos/fcos_imprv_R_50_FPN_1x": ({"depth": 50}, "P5"),
    "retinanet/retinanet_R-50-FPN_1x": ({"depth": 50}, "C5"),
}


def _meta_backbone(body, top_from):
    with torch.device("meta"):
        resnet = ResNet(**body)
        model = torch.nn.Module()
        model.backbone = BackboneWithFPN(resnet, FPN(resnet.out_channels, 256, top_from=top_from))
    return model


@pytest.mark.parametrize("yaml", PUBLISHED)
def test_names_shapes_order_and_frozen_as_published(yaml):
    release = json.loads(RELEASES.read_text())[yaml]
    model = _meta_backbone(*PUBLISHED[yaml])
    want = [[n, s] for n, s, _ in release["state_dict"] if n.startswith("backbone.")]
    assert [[n, list(t.shape)] for n, t in model.state_dict().items()] == want
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad]
    assert frozen == release["frozen"]


def test_the_reference_holds_no_other_published_model():
    assert set(json.loads(RELEASES.read_text())) == set(PUBLISHED)


@pytest.mark.parametrize(("depth", "convs"), [(18, 20), (34, 36), (50, 53), (101, 104), (152, 155)])
def test_number_of_convolutions(depth, convs):
    with torch.device("meta"):
        model = ResNet(depth, norm="BN")
    assert sum(isinstance(m, torch.nn.Conv2d) for m in model.modules()) == convs


def test_maps_of_an_odd_image_and_exact_upsampling():
    body = ResNet(18, norm="BN", freeze_at=0, out_levels=(2, 3, 4, 5))
    c2, *rest = body(torch.randn(1, 3, 75, 110))
    assert body.out_channels == [64, 128, 256, 512]
    assert [tuple(m.shape[1:]) for m in (c2, *rest)] == [
        (64, 19, 28),
        (128, 10, 14),
        (256, 5, 7),
        (512, 3, 4),
    ]
    maps = FPN(body.out_channels[1:], 32, norm="GN", relu=True)(rest)
    assert [tuple(m.shape[1:]) for m in maps] == [
        (32, 10, 14),
        (32, 5, 7),
        (32, 3, 4),
        (32, 2, 2),
        (32, 1, 1),
    ]
    names = FPN([8, 8, 8], 32, norm="GN").state_dict()
    assert "fpn_inner2.0.weight" in names and "fpn_inner2.0.bias" not in names


@pytest.mark.parametrize("top_from", ["P5", "C5"])
def test_pyramid_written_out(top_from):
    fpn = FPN([4, 6, 8], 5, top_from=top_from)
    c3, c4, c5 = torch.randn(1, 4, 5, 6), torch.randn(1, 6, 3, 3), torch.randn(1, 8, 2, 2)
    with torch.no_grad():
        m5 = fpn.fpn_inner4(c5)
        # Row r of 3 is row floor(r * 2 / 3) of 2, and row r of 5 is row floor(r * 3 / 5) of 3.
        m4 = fpn.fpn_inner3(c4) + m5[:, :, [0, 0, 1]][:, :, :, [0, 0, 1]]
        m3 = fpn.fpn_inner2(c3) + m4[:, :, [0, 0, 1, 1, 2]][:, :, :, [0, 0, 1, 1, 2, 2]]
        p5 = fpn.fpn_layer4(m5)
        p6 = fpn.top_blocks.p6(c5 if top_from == "C5" else p5)
        want = [fpn.fpn_layer2(m3), fpn.fpn_layer3(m4), p5, p6, fpn.top_blocks.p7(F.relu(p6))]
        for got, expected in zip(fpn([c3, c4, c5]), want, strict=True):
            torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("norm", ["FrozenBN", "BN", "GN"])
def test_frozen_parts_do_not_learn_and_keep_their_statistics(norm):
    body = ResNet(18, norm=norm, freeze_at=2)
    body.train()
    before = {k: v.clone() for k, v in body.state_dict().items()}
    sum(m.mean() for m in body(torch.randn(2, 3, 64, 64))).backward()
    for name, parameter in body.named_parameters():
        frozen = name.startswith(("stem.", "layer1."))
        assert parameter.requires_grad is not frozen, name
        assert (parameter.grad is None) is frozen, name
    moved = {k for k, v in body.state_dict().items() if not v.equal(before[k])}
    assert not any(k.startswith(("stem.", "layer1.")) for k in moved)
    assert bool(moved) is (norm == "BN")
    free = ResNet(18, norm=norm, freeze_at=0).train()
    assert all(p.requires_grad for p in free.parameters())
    assert all(m.training for m in free.modules())


def test_stride_lies_where_it_is_asked_for():
    with torch.device("meta"):
        msra, other = ResNet(50), ResNet(50, stride_in_1x1=False)
    for model, strides in ((msra, (2, 1)), (other, (1, 2))):
        block = model.layer2[0]
        assert (block.conv1.stride[0], block.conv2.stride[0]) == strides


@pytest.mark.parametrize("width", [(32, 8, 256), (64, 4, 256)])
def test_resnext_widths_double(width):
    groups, per_group, first = width
    with torch.device("meta"):
        model = ResNet(101, num_groups=groups, width_per_group=per_group)
    for i in range(4):
        conv = getattr(model, f"layer{i + 1}")[0].conv2
        assert (conv.out_channels, conv.groups) == (first * 2**i, groups)


@pytest.mark.parametrize(("name", "depth"), [("resnet18", 18), ("resnext50_32x4d", 50)])
def test_same_function_as_torchvision(name, depth):
    theirs = getattr(torchvision.models, name)(weights=None).eval()
    groups = {"num_groups": 32, "width_per_group": 4} if depth == 50 else {}
    ours = ResNet(depth, norm="BN", stride_in_1x1=False, **groups).eval()
    state = {k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    stem = ("conv1.", "bn1.")
    ours.load_state_dict({"stem." * k.startswith(stem) + k: v for k, v in state.items()})
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        y = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        want = []
        for layer in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
            want.append(y := layer(y))
        for got, expected in zip(ours(x), want[1:], strict=True):
            torch.testing.assert_close(got, expected)


def test_signal_neither_dies_nor_explodes_from_scratch():
    torch.manual_seed(0)
    body = ResNet(50, norm="BN", freeze_at=0)
    images = torch.randn(2, 3, 64, 64)
    body(images)[0].square().mean().backward()
    assert 1e-6 < body.stem.conv1.weight.grad.norm() < 1e3


@pytest.mark.parametrize(
    "bad",
    [
        {"depth": 20},
        {"depth": 18, "num_groups": 32},
        {"depth": 18, "res2_out": 30},
        {"depth": 50, "freeze_at": 6},
        {"depth": 50, "deformable": (False, False, False, True), "deformable_groups": 3},
        {"depth": 18, "deformable": (True, False, False, False), "deformable_groups": 128},
    ],
)
def test_impossible_bodies_are_refused(bad):
    with pytest.raises(ValueError, match=r"ResNet|freeze_at|deformable groups"):
        ResNet(**bad)


@pytest.mark.parametrize("depth", [18, 50])
def test_deformable_groups_that_divide_the_channels_run(depth):
    stages = (False, False, False, True)
    body = ResNet(depth, deformable=stages, deformable_groups=64, stem_out=8, res2_out=32)
    assert body(torch.randn(1, 3, 64, 64))[-1].shape[2:] == (2, 2)
