"""Conversion from and to backbone files."""

import pytest
import torch
import torchvision
from test_weights_convert import _model, _same
from test_weights_mmdet import DCN, SMALL, detector, swin

from dynamic_atss.errors import UserError
from dynamic_atss.modeling.backbones import ResNet
from dynamic_atss.modeling.backbones.mobilenet import MobileNetV2
from dynamic_atss.weights.convert import convert
from dynamic_atss.weights.formats import entries
from dynamic_atss.weights.loading import load_weights


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "swin_t"])
def test_torchvision_backbones_there_and_back(tmp_path, name):
    torch.manual_seed(0)
    state = getattr(torchvision.models, name)(weights=None).state_dict()
    ours = convert(state, "x.pth", "project")
    assert all(entry.startswith("backbone.body.") for entry in _model(ours))
    back = convert(ours.content, "x.pth", "backbone").content
    _same(back["state_dict"], state)
    make = {"resnet18": lambda: ResNet(18, norm="BN"), "mobilenet_v2": MobileNetV2}
    model = detector(make.get(name, swin)(), 2)
    torch.save(ours.content, tmp_path / "x.pth")  # a file with only a body loads in every format
    report = load_weights(model, tmp_path / "x.pth")
    norms = [n for n in report.initial if n.startswith("backbone.body.")]
    assert all(".norms." in n for n in norms)


def test_backbone_of_a_detector(tmp_path):
    source = detector(ResNet(18), 1)
    content = {"format": "dynamic_atss/1", "classes": ["a"], "model": source.state_dict()}
    backbone = convert(content, "x.pth", "backbone")
    theirs = torchvision.models.resnet18(weights=None)
    missing, unexpected = theirs.load_state_dict(entries(backbone.content), strict=False)
    assert set(missing) == {"fc.weight", "fc.bias"} and unexpected == []
    assert "backbone.fpn.fpn_inner2.weight" in backbone.left_out
    x = torch.randn(1, 3, 64, 64)
    model = detector(ResNet(18), 2)
    torch.save(backbone.content, tmp_path / "x.pth")
    load_weights(model, tmp_path / "x.pth")
    with torch.no_grad():
        got, want = model.backbone.body(x), source.backbone.body(x)
    assert all(a.equal(b) for a, b in zip(got, want, strict=True))


def test_offsets_have_no_place_in_a_backbone_file():
    model = detector(ResNet(50, **SMALL, **DCN), 1).state_dict()
    content = {"format": "dynamic_atss/1", "model": model}
    with pytest.raises(UserError, match=r"26 entries have no exact place .*offset"):
        convert(content, "x.pth", "backbone")
    forced = convert(content, "x.pth", "backbone", force=True).content["state_dict"]
    assert forced["layer2.0.conv2.weight"].equal(model["backbone.body.layer2.0.conv2.conv.weight"])


def test_caffe2_gets_the_statistics_that_its_weights_include(tmp_path):
    from test_weights import _caffe2

    blobs, ours = _caffe2(50)
    got = convert({"blobs": blobs}, "x.pkl", "project").content
    model = detector(ResNet(50, **SMALL), 2)
    torch.save(got, tmp_path / "x.pth")
    load_weights(model, tmp_path / "x.pth")
    state = model.state_dict()
    assert all(state[name].equal(value) for name, value in ours.items())
    body = {n: v for n, v in state.items() if n.startswith("backbone.body.")}
    assert all((v == 1).all() for n, v in body.items() if n.endswith("running_var"))
    assert all((v == 0).all() for n, v in body.items() if n.endswith("running_mean"))
