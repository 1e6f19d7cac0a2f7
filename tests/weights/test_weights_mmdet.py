"""Published DSLA files (mmdetection): names, layouts, and the configuration in the file."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dynamic_atss.errors import UserError
from dynamic_atss.modeling.backbones import ResNet
from dynamic_atss.modeling.backbones.swin import Swin
from dynamic_atss.modeling.fpn import FPN, BackboneWithFPN
from dynamic_atss.modeling.layers import FrozenBatchNorm2d, ModulatedDeformConv
from dynamic_atss.modeling.tower import tower
from dynamic_atss.weights.formats import identify
from dynamic_atss.weights.loading import load_weights
from dynamic_atss.weights.mmdet_names import from_mmdet, to_mmdet, value_from_mmdet, value_to_mmdet
from dynamic_atss.weights.pixels import IMAGENET, mmdet_pixels, mmdet_stride_in_1x1

DCN = {"deformable": (False, True, True, True), "modulated": False}
SMALL = {"stem_out": 4, "width_per_group": 2, "res2_out": 8}
CONFIG = """model = dict(backbone=dict(type='ResNet', style='{style}'))
img_norm_cfg = dict(
    mean={mean}, std={std}, to_rgb={rgb})
"""
CAFFE = CONFIG.format(
    style="caffe", mean=[102.9801, 115.9465, 122.7717], std=[1.0, 1.0, 1.0], rgb=False
)
PYTORCH = CONFIG.format(
    style="pytorch", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], rgb=True
)


class _Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))


def swin(size="T"):
    """Makes a Swin of zeros, which is faster than computing initial values."""
    with torch.device("meta"):
        body = Swin(size)
    for entry in body.to_empty(device="cpu").state_dict().values():
        entry.zero_()
    return body


def detector(body, seed=0, *, deformable_last=False, classes=5, top_from="P5"):
    """Makes a detector of `body`, FPN and a head without quality branch, with our names."""
    torch.manual_seed(seed)
    head = nn.Module()
    head.cls_tower = tower(32, 4, deformable_last)
    head.bbox_tower = tower(32, 4, deformable_last)
    head.cls_logits, head.bbox_pred = nn.Conv2d(32, classes, 3), nn.Conv2d(32, 4, 3)
    head.scales = nn.ModuleList(_Scale() for _ in range(5))
    model = nn.Module()
    model.backbone = BackboneWithFPN(body, FPN(body.out_channels, 32, top_from=top_from))
    model.head = head
    for entry in model.state_dict().values():
        if entry.is_floating_point():  # so that no entry has its initial value
            entry.copy_(torch.rand_like(entry) + 0.1)
    return model.eval()


def mmdet_file(path, model, config=CAFFE, **others):
    """Saves the model as mmdetection does."""
    ours = model.state_dict()
    rename = to_mmdet(ours)
    state = {rename(name): value_to_mmdet(name, value) for name, value in ours.items()}
    assert None not in state and len(state) == len(ours)
    meta = {"CLASSES": ("a", "b", "c", "d", "e"), "config": config, "epoch": 12}
    torch.save({"meta": meta, "state_dict": state, **others}, path)
    return path


@pytest.mark.parametrize("entry", ["r50_as_logged", "r101_as_logged"])
def test_every_name_of_the_published_files_has_its_place(golden, entry):
    import json

    listed = json.loads((golden / "dsla_state_dicts.json").read_text())[entry]["entries"]
    depth = 50 if entry.startswith("r50") else 101
    with torch.device("meta"):
        options = DCN if depth == 101 else {}
        body = ResNet(depth, norm="BN", **options)
        fpn = BackboneWithFPN(body, FPN(body.out_channels))
        head = nn.Module()
        head.cls_tower = tower(256, 4, depth == 101)
        head.bbox_tower = tower(256, 4, depth == 101)
        head.cls_logits = nn.Conv2d(256, 80, 3)
        head.bbox_pred = nn.Conv2d(256, 4, 3)
        head.scales = nn.ModuleList(_Scale() for _ in range(5))
        model = nn.Module()
        model.backbone, model.head = fpn, head
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    if depth == 50:  # the published head has convolutions without bias
        shapes = {n: s for n, s in shapes.items() if not _is_tower_bias(n)}
    theirs = {name: shape for name, shape, *_ in listed}
    rename = from_mmdet(theirs)
    got = {}
    for name, shape in theirs.items():
        got[rename(name)] = list(value_from_mmdet(rename(name), torch.empty(shape)).shape)
    assert got == shapes
    back = to_mmdet(got)
    assert [back(name) for name in map(rename, theirs)] == list(theirs)


def _is_tower_bias(name):
    parts = name.split(".")
    return "tower" in name and parts[-1] == "bias" and int(parts[2]) % 3 == 0


def test_swin_names_are_those_of_the_log():
    """Compares with the parameters in the log of the published Swin-S run, and index buffers."""
    with torch.device("meta"):
        shapes = {n: tuple(v.shape) for n, v in Swin("S").state_dict().items()}
    rename = to_mmdet([f"backbone.body.{name}" for name in shapes])
    got = {rename(f"backbone.body.{name}") for name in shapes}
    want = {f"patch_embed.{m}.{e}" for m in ("projection", "norm") for e in ("weight", "bias")}
    for stage, depth in enumerate((2, 2, 18, 2)):
        for block in range(depth):
            at = f"stages.{stage}.blocks.{block}."
            modules = ["norm1", "norm2", "attn.w_msa.qkv", "attn.w_msa.proj"]
            modules += ["ffn.layers.0.0", "ffn.layers.1"]
            want |= {at + m + e for m in modules for e in (".weight", ".bias")}
            want |= {at + f"attn.w_msa.relative_position_{e}" for e in ("bias_table", "index")}
        if stage < 3:
            want |= {f"stages.{stage}.downsample.norm.{e}" for e in ("weight", "bias")}
            want |= {f"stages.{stage}.downsample.reduction.weight", f"norm{stage + 1}.weight"}
            want.add(f"norm{stage + 1}.bias")
    assert got == {f"backbone.{name}" for name in want}


def test_patch_merging_of_mmdetection_by_unfold():
    """Compares nn.Unfold(2, stride 2), layer norm and linear with torchvision's PatchMerging."""
    torch.manual_seed(0)
    ours = Swin("T").features[2]
    channels = ours.norm.normalized_shape[0] // 4
    norm, reduction = nn.LayerNorm(4 * channels), nn.Linear(4 * channels, 2 * channels, bias=False)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 6, 8, channels)
    columns = F.unfold(x.permute(0, 3, 1, 2), 2, stride=2).transpose(1, 2)
    want = reduction(norm(columns)).view(2, 3, 4, 2 * channels)
    at = "backbone.body.features.2."
    state = {f"norm.{k}": v for k, v in norm.state_dict().items()}
    state |= {f"reduction.{k}": v for k, v in reduction.state_dict().items()}
    ours.load_state_dict({k: value_from_mmdet(at + k, v) for k, v in state.items()})
    torch.testing.assert_close(ours(x), want, rtol=1e-5, atol=1e-5)
    for name, value in state.items():
        assert value_to_mmdet(at + name, value_from_mmdet(at + name, value)).equal(value)
    ours.load_state_dict(state)  # without reordering, the layer computes something else
    assert (ours(x) - want).abs().max() > 0.1


def test_relative_position_index_is_the_same_table():
    """mmdetection adds the index of token i and the flipped index of j, rows times 2 W - 1."""
    side = 7
    token = torch.tensor([r * (2 * side - 1) + c for r in range(side) for c in range(side)])
    theirs = (token[:, None] + token[None, :]).flip(1)
    name = "backbone.body.features.1.0.attn.relative_position_index"
    ours = Swin("T").state_dict()[name.removeprefix("backbone.body.")]
    assert value_from_mmdet(name, theirs).equal(ours)
    assert value_to_mmdet(name, ours).equal(theirs)


def _bilinear(plane, y, x):
    """Interpolates a map (H, W) at a point; it is zero outside."""
    height, width = plane.shape
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < height and 0 <= column < width:
                share = (1 - abs(y - row)) * (1 - abs(x - column))
                total += share * plane[row, column].item()
    return total


@pytest.mark.parametrize("modulated", [True, False])
def test_deformable_convolution_of_mmcv_by_loops(modulated):
    """mmcv predicts dy and dx of tap 0, of tap 1, ..., then the logits of the masks."""
    torch.manual_seed(0)
    predict = nn.Conv2d(2, 27 if modulated else 18, 3, padding=1)
    nn.init.normal_(predict.weight, std=0.3)
    nn.init.normal_(predict.bias, std=0.5)
    weight, x = torch.randn(3, 2, 3, 3), torch.randn(1, 2, 4, 5)
    predicted = predict(x)[0].detach()
    want = torch.zeros(1, 3, 4, 5)
    for row in range(4):
        for column in range(5):
            for tap in range(9):
                dy, dx = predicted[2 * tap : 2 * tap + 2, row, column].tolist()
                mask = predicted[18 + tap, row, column].sigmoid() if modulated else 1.0
                y, x_at = row + tap // 3 - 1 + dy, column + tap % 3 - 1 + dx
                for c in range(2):
                    sample = _bilinear(x[0, c], y, x_at) * mask
                    want[0, :, row, column] += weight[:, c, tap // 3, tap % 3] * sample
    ours = ModulatedDeformConv(2, 3, modulated=modulated)
    theirs = {"conv2.weight": weight}
    theirs |= {f"conv2.conv_offset.{k}": v for k, v in predict.state_dict().items()}
    theirs = {f"backbone.layer1.0.{k}": v for k, v in theirs.items()}
    rename = from_mmdet(theirs)
    at = "backbone.body.layer1.0.conv2."
    ours.load_state_dict({rename(k).removeprefix(at): v for k, v in theirs.items()})
    torch.testing.assert_close(ours(x), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["r50", "dcn", "swin"])
def test_a_published_file_fills_everything(tmp_path, kind):
    make = {
        "r50": lambda: ResNet(50, norm="BN", **SMALL),
        "dcn": lambda: ResNet(50, norm="BN", **SMALL, **DCN),
        "swin": swin,
    }[kind]
    source = detector(make(), 1, deformable_last=kind != "r50")
    path = mmdet_file(tmp_path / "dsla.pth", source, optimizer={"state": {}})
    model = detector(make(), 2, deformable_last=kind != "r50")
    report = load_weights(model, path, class_names=list("abcde"), allow_new_classes=False)
    assert report.initial == [] and report.unused == [] and "DSLA" in report.summary()
    state = model.state_dict()
    assert all(state[name].equal(value) for name, value in source.state_dict().items())


def test_epsilon_joins_the_variance_of_frozen_norms(tmp_path):
    source = detector(ResNet(18, norm="BN"), 1)
    model = detector(ResNet(18), 2)
    assert any(isinstance(m, FrozenBatchNorm2d) for m in model.modules())
    load_weights(model, mmdet_file(tmp_path / "x.pth", source))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for got, want in zip(model.backbone(x), source.backbone(x), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4 * want.abs().max().item())


def test_averages_of_the_training_are_not_used(tmp_path):
    source = detector(ResNet(18, norm="BN"), 1)
    path = mmdet_file(tmp_path / "x.pth", source)
    content = torch.load(path)
    content["state_dict"]["ema_backbone_conv1_weight"] = torch.zeros(64, 3, 7, 7)
    torch.save(content, path)
    report = load_weights(detector(ResNet(18, norm="BN"), 2), path)
    assert report.unused == ["ema_backbone_conv1_weight"]


def test_classes_go_by_name(tmp_path):
    path = mmdet_file(tmp_path / "x.pth", detector(ResNet(18, norm="BN"), 1))
    model = detector(ResNet(18, norm="BN"), 2)
    names = ["a", "b", "d", "c", "e"]
    others = ["a", "b", "x", "c", "e"]
    with pytest.raises(UserError, match="class 2 is c in the file, x in the data set"):
        load_weights(model, path, class_names=others, allow_new_classes=False)
    report = load_weights(model, path, class_names=others)
    assert report.initial == ["head.cls_logits.weight", "head.cls_logits.bias"]
    assert not load_weights(model, path, class_names=names).initial


@pytest.mark.parametrize("file_from, model_from", [("C5", "P5"), ("P5", "C5")])
def test_p6_of_another_map_names_the_key(tmp_path, file_from, model_from):
    source = detector(ResNet(18, norm="BN"), top_from=file_from)
    model = detector(ResNet(18, norm="BN"), top_from=model_from)
    want = f"neck.fpn_convs.3.conv.weight is .*set MODEL.RETINANET.USE_C5 {file_from == 'C5'}"
    with pytest.raises(UserError, match=want):
        load_weights(model, mmdet_file(tmp_path / "x.pth", source))


def test_heads_that_are_not_dslas_have_no_place(tmp_path):
    path = mmdet_file(tmp_path / "x.pth", detector(ResNet(18, norm="BN")))
    content = torch.load(path)
    content["state_dict"]["bbox_head.conv_centerness.weight"] = torch.zeros(1, 32, 3, 3)
    torch.save(content, path)
    with pytest.raises(UserError, match=r"bbox_head\.conv_centerness\.weight has no place"):
        load_weights(detector(ResNet(18, norm="BN")), path)


def test_the_configuration_in_the_file_gives_pixels_and_stride():
    assert mmdet_pixels(PYTORCH) == IMAGENET and not mmdet_stride_in_1x1(PYTORCH)
    caffe = mmdet_pixels(CAFFE)
    assert caffe.settings() == (
        "INPUT.TO_BGR255 True, INPUT.PIXEL_MEAN [102.9801, 115.9465, 122.7717], "
        "INPUT.PIXEL_STD [1.0, 1.0, 1.0]"
    )
    assert mmdet_stride_in_1x1(CAFFE) is True
    assert mmdet_pixels(CAFFE.replace("1.0, 1.0, 1.0", "1.0..")) is None
    assert mmdet_pixels("") is None and mmdet_stride_in_1x1("") is None


def _with_pixels(model, bgr, mean, std):
    scale = 1 if bgr else 255
    model.bgr255 = bgr
    model.register_buffer("mean", torch.tensor(mean).view(3, 1, 1) * scale, persistent=False)
    model.register_buffer("std", torch.tensor(std).view(3, 1, 1) * scale, persistent=False)
    return model


def test_only_wrong_pixels_get_a_note(tmp_path):
    source = detector(ResNet(18, norm="BN"))
    bgr = True, [102.9801, 115.9465, 122.7717], [1.0, 1.0, 1.0]
    rgb = False, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    for config, right, wrong in ((CAFFE, bgr, rgb), (PYTORCH, rgb, bgr)):
        path = mmdet_file(tmp_path / "x.pth", source, config)
        stride = {"stride_in_1x1": config is CAFFE}
        good = _with_pixels(detector(ResNet(18, norm="BN", **stride)), *right)
        assert load_weights(good, path).notes == []
        bad = _with_pixels(detector(ResNet(18, norm="BN", **stride)), *wrong)
        (note,) = load_weights(bad, path).notes
        assert f"set INPUT.TO_BGR255 {right[0]}" in note
    path = mmdet_file(tmp_path / "x.pth", source, "")
    notes = load_weights(detector(ResNet(18, norm="BN")), path).notes
    assert "does not say which pixels" in notes[0]


def test_stride_of_another_style_warns(tmp_path):
    path = mmdet_file(tmp_path / "x.pth", detector(ResNet(18, norm="BN")), PYTORCH)
    notes = load_weights(detector(ResNet(18, norm="BN")), path).notes
    assert any("set MODEL.RESNETS.STRIDE_IN_1X1 False" in note for note in notes)


@pytest.mark.parametrize("value", [torch.zeros(()), torch.zeros(7), "text", None])
def test_values_of_a_wrong_shape_or_type(value):
    state = {"backbone.stages.0.downsample.norm.weight": value}
    with pytest.raises(UserError, match=r"x\.pth: .*backbone\.stages\.0\.downsample\.norm\.weight"):
        identify({"state_dict": state, "meta": {}}, "x.pth")
