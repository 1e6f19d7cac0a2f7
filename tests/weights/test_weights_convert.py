"""Conversion between formats and back: the same names, shapes and bits."""

import json
import zlib

import pytest
import torch
from test_weights_mmdet import DCN, SMALL, detector, mmdet_file, swin

from dynamic_atss.errors import UserError
from dynamic_atss.modeling.backbones import ResNet
from dynamic_atss.weights import load_weights, to_published
from dynamic_atss.weights.convert import convert
from dynamic_atss.weights.epsilon import add_epsilon, take_epsilon
from dynamic_atss.weights.formats import entries

RELEASES = [
    "dynamic_atss/dynamic_atss_R_50_FPN_1x",
    "dynamic_atss/dynamic_atss_X_101_64x4d_FPN_2x",
    "dynamic_atss/dynamic_atss_dcnv2_R_50_FPN_1x",
    "atss/atss_R_50_FPN_1x",
    "fcos/fcos_imprv_R_50_FPN_1x",
    "retinanet/retinanet_R-50-FPN_1x",
]


def _value(name, shape):
    """Makes positive values that depend on the name, for large tensors a quick range."""
    size, seed = torch.Size(shape).numel(), zlib.crc32(name.encode())
    if name.endswith("num_batches_tracked"):
        return torch.full(shape, seed % 997)
    if size < 1 << 16:
        return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) + 1e-4
    return torch.arange(size, dtype=torch.float32).add_(seed % 997).reshape(shape)


def _same(got, want):
    assert list(got) == list(want) or set(got) == set(want)
    for name, value in want.items():
        assert got[name].dtype == value.dtype and got[name].equal(value), name


@pytest.mark.parametrize("release", RELEASES)
def test_released_checkpoints_there_and_back(golden, release):
    listed = json.loads((golden / "release_state_dicts.json").read_text())[release]
    state = {name: _value(name, shape) for name, shape, _ in listed["state_dict"]}
    content = {
        "model": {f"module.{k}": v for k, v in state.items()},
        "optimizer": {"state": {0: torch.ones(3)}},
        "iteration": 90000,
    }
    ours = convert(content, "x.pth", "project")
    assert ours.left_out == [] and all(n.startswith(("backbone.", "head.")) for n in _model(ours))
    back = convert(ours.content, "x.pth", "published").content
    _same(back["model"], state)
    assert back["iteration"] == 90000 and back["optimizer"]["state"][0].equal(torch.ones(3))


def _model(converted):
    return converted.content["model"]


@pytest.mark.parametrize("through", ["project", "published"])
@pytest.mark.parametrize("entry", ["r50_as_logged", "r101_as_logged"])
def test_published_dsla_there_and_back(golden, entry, through):
    listed = json.loads((golden / "dsla_state_dicts.json").read_text())[entry]["entries"]
    state = {name: _value(name, shape) for name, shape, *_ in listed}
    state["ema_backbone_conv1_weight"] = torch.full((64, 3, 7, 7), 2.0)
    meta = {"CLASSES": ("person", "car"), "config": "model = dict()", "epoch": 12}
    content = {"meta": meta, "state_dict": state, "optimizer": {"lr": 0.1}}
    middle = convert(content, "x.pth", through)
    assert middle.content["classes"] == ["person", "car"]
    back = convert(middle.content, "x.pth", "mmdet").content
    assert {k: back[k] for k in ("meta", "optimizer")} == {"meta": meta, "optimizer": {"lr": 0.1}}
    _same(back["state_dict"], state)


def test_swin_there_and_back(tmp_path):
    path = mmdet_file(tmp_path / "x.pth", detector(swin(), 1, deformable_last=True))
    content = torch.load(path)
    ours = convert(content, path, "project")
    assert _model(ours)["backbone.body.features.2.reduction.weight"].shape == (192, 384)
    back = convert(ours.content, path, "mmdet").content
    _same(back["state_dict"], content["state_dict"])


def test_frozen_norms_keep_their_bits_through_formats_with_epsilon(tmp_path):
    source = detector(ResNet(50, **SMALL, **DCN), 1).state_dict()
    torch.manual_seed(0)
    for name, value in source.items():
        if name.endswith("running_var"):
            value.copy_(10 ** torch.empty_like(value).uniform_(-4.9, 2))
    content = {"format": "dynamic_atss/1", "classes": ["a"], "model": source}
    mmdet = convert(content, "x.pth", "mmdet").content
    name = "backbone.bn1.running_var"
    torch.testing.assert_close(
        mmdet["state_dict"][name] + 1e-5, source["backbone.body.stem.bn1.running_var"]
    )
    _same(convert(mmdet, "x.pth", "project").content["model"], source)
    torch.save(mmdet, tmp_path / "x.pth")
    model = detector(ResNet(50, **SMALL, **DCN), 2)
    load_weights(model, tmp_path / "x.pth")
    _same(model.state_dict(), source)


def test_epsilon_taken_and_added_is_the_same_number():
    torch.manual_seed(0)
    variance = torch.cat([torch.empty(200_000).uniform_(1e-5, x) for x in (1e-4, 2e-4, 1.0, 50.0)])
    assert add_epsilon(take_epsilon(variance)).equal(variance)
    assert not add_epsilon(take_epsilon(torch.tensor([1.2345e-9]))).equal(torch.tensor([1.2345e-9]))


def test_variances_below_epsilon_are_refused_and_rounded_by_force():
    source = detector(ResNet(18), 1).state_dict()
    source["backbone.body.stem.bn1.running_var"][0] = 1.2345e-9
    content = {"format": "dynamic_atss/1", "classes": [], "model": source}
    with pytest.raises(UserError, match=r"1 entries .*mmdet file \(backbone.body.stem.bn1.running"):
        convert(content, "x.pth", "mmdet")
    forced = convert(content, "x.pth", "mmdet", force=True)
    assert forced.left_out == [] and "backbone.bn1.running_var" in forced.content["state_dict"]


def test_entries_that_mmdet_lacks_are_named():
    model = detector(ResNet(18), 1)
    model.head.quality = torch.nn.Conv2d(32, 1, 3)
    content = {"model": to_published(model.state_dict())}
    with pytest.raises(UserError, match=r"x\.pth: 2 entries .*\(head\.quality\.weight, head\.qu"):
        convert(content, "x.pth", "mmdet")
    forced = convert(content, "x.pth", "mmdet", force=True)
    assert forced.left_out == ["head.quality.weight", "head.quality.bias"]
    assert "left out: 2 (head.quality.weight" in forced.summary()


def test_strip_keeps_only_weights_and_classes():
    model = detector(ResNet(18), 1).state_dict()
    content = {
        "format": "dynamic_atss/1",
        "classes": ["a", "b"],
        "model": model,
        "trained_model": model,
        "optimizer": {"state": {}},
        "rng": [{"cpu": torch.zeros(3)}],
        "iteration": 7,
    }
    got = convert(content, "x.pth", "project", strip=True).content
    assert set(got) == {"format", "classes", "model"} and got["classes"] == ["a", "b"]
    _same(got["model"], model)
    kept = convert(content, "x.pth", "project").content
    assert set(kept) == set(content) and kept["iteration"] == 7


def test_strip_drops_the_averages_of_mmdetection(tmp_path):
    path = mmdet_file(tmp_path / "x.pth", detector(ResNet(18, norm="BN")), optimizer={"a": 1})
    content = torch.load(path)
    content["state_dict"]["ema_backbone_conv1_weight"] = torch.zeros(1)
    got = convert(content, path, "mmdet", strip=True).content
    assert set(got) == {"meta", "state_dict"} and got["meta"]["CLASSES"] == tuple("abcde")
    assert "ema_backbone_conv1_weight" not in got["state_dict"]


@pytest.mark.parametrize("to", ["project", "published", "mmdet", "backbone"])
@pytest.mark.parametrize(
    "junk",
    [
        {"classes": torch.zeros(2)},
        {"meta": 3},
        {"meta": {"CLASSES": 3, "config": None}},
        {"unmapped": "x"},
        {"classes": "abc", 7: None},
    ],
)
def test_odd_values_next_to_the_weights_do_no_harm(to, junk):
    state = {"backbone.body.stem.conv1.weight": torch.ones(2, 3, 7, 7)}
    got = convert({"format": "dynamic_atss/1", "model": state, **junk}, "x.pth", to)
    assert len(entries(got.content)) == 1


def test_files_of_other_detectors_are_refused():
    content = {"backbone.conv1.weight": torch.zeros(1), "bbox_head.atss_cls.weight": torch.zeros(1)}
    with pytest.raises(UserError, match=r"x\.pth: .*no part of a detector .*atss_cls"):
        convert({"state_dict": content}, "x.pth", "project")


def test_classes_stay_with_the_weights(tmp_path):
    content = {"format": "dynamic_atss/1", "classes": list("abcde")}
    content["model"] = detector(ResNet(18, norm="BN"), 1).state_dict()
    for to in ("published", "mmdet", "project"):
        content = convert(content, "x.pth", to, strip=True).content
        torch.save(content, tmp_path / "x.pth")
        model = detector(ResNet(18, norm="BN"), 2)
        with pytest.raises(UserError, match="class 0 is a in the file, x in the data set"):
            load_weights(model, tmp_path / "x.pth", class_names="xacde", allow_new_classes=False)
        report = load_weights(model, tmp_path / "x.pth", class_names="bacde")
        assert not report.initial  # the same names, in another order
