"""Conversion from and to files of timm, for which the user names the model."""

import pytest
import torch
from test_weights_convert import _model, _same
from test_weights_mmdet import detector

from dynamic_atss.errors import UserError
from dynamic_atss.modeling.backbones import ResNet
from dynamic_atss.weights.backbone_names import from_timm, to_timm
from dynamic_atss.weights.convert import convert
from dynamic_atss.weights.loading import load_weights
from dynamic_atss.weights.timm import timm_names

timm = pytest.importorskip("timm")

from dynamic_atss.modeling.backbones.timm_body import TimmBody  # noqa: E402

ATTO = "timm/convnext_atto"


@pytest.fixture(scope="module")
def atto():
    return timm_names(ATTO)


def _ours(model):
    return {"format": "dynamic_atss/1", "classes": ["a"], "model": model.state_dict()}


@pytest.mark.parametrize("name", ["convnext_atto", "resnet10t", "mobilenetv3_small_050"])
def test_complete_models_there_and_back(name):
    state = timm.create_model(name, pretrained=False).state_dict()
    names = timm_names(f"timm/{name}")
    ours = convert(state, "x.pth", "project", body=names)
    assert set(_model(ours)) == set(names.ours)  # the classifier is under "unmapped"
    _same(convert(ours.content, "x.pth", "backbone", body=names).content, state)


@pytest.mark.parametrize("norm", ["", "FrozenBN"])
@pytest.mark.parametrize("name", ["convnext_atto", "resnet10t"])
def test_timm_takes_the_body_of_a_detector(tmp_path, name, norm):
    source = detector(TimmBody(name, norm=norm), 1)
    backbone = convert(_ours(source), "x.pth", "backbone", body=timm_names(f"timm/{name}"))
    complete = timm.create_model(name, pretrained=False)
    missing, unexpected = complete.load_state_dict(backbone.content, strict=False)
    assert unexpected == [] and all(n.startswith(("fc.", "head.")) for n in missing)
    torch.save(backbone.content, tmp_path / "x.pth")
    model = detector(TimmBody(name, norm=norm), 2)
    load_weights(model, tmp_path / "x.pth")
    _same(model.backbone.body.state_dict(), source.backbone.body.state_dict())


def test_files_in_the_names_of_features_only(atto):
    state = timm.create_model("convnext_atto", features_only=True, out_indices=(1, 2, 3))
    state = state.state_dict()
    assert "stem_0.weight" in state
    got = convert({"state_dict": state}, "x.pth", "backbone", body=atto).content
    assert "stem.0.weight" in got
    _same(_model(convert(got, "x.pth", "project", body=atto)), _prefixed(state))


def _prefixed(state):
    return {f"backbone.body.net.{name}": value for name, value in state.items()}


def test_names_that_timm_flattens():
    """Covers nfnet's `stem.conv1`, tresnet's `body.conv1` and pnasnet's wrapper."""
    body = ["stem_conv1.weight", "body_conv1.bias", "body.cell.weight", "conv_stem.weight"]
    body = list(_prefixed(dict.fromkeys(body)))
    plain = ["stem.conv1.weight", "body.conv1.bias", "cell.weight", "conv_stem.weight"]
    assert [from_timm(body)(name) for name in plain] == body
    assert [to_timm(body, plain)(name) for name in body] == plain
    assert from_timm(body)("conv_head.weight") is None


def test_the_model_must_be_named(atto):
    model = detector(TimmBody("convnext_atto"), 1)
    with pytest.raises(UserError, match="give --body timm/<name>"):
        convert(_ours(model), "x.pth", "backbone")
    state = timm.create_model("convnext_atto", pretrained=False).state_dict()
    with pytest.raises(UserError, match="--body timm/<name> to convert it"):
        convert(state, "x.pth", "project")
    with pytest.raises(UserError, match="no exact place in a mmdet file"):
        convert(_ours(model), "x.pth", "mmdet", body=atto)


def test_another_model_is_refused(atto):
    state = timm.create_model("convnext_atto", pretrained=False).state_dict()
    cases = {
        r"stem.0.bias is \(7,\), timm/convnext_atto has \(40,\)": {"stem.0.bias": torch.ones(7)},
        "stages.9.x is no entry of timm/convnext_atto": {"stages.9.x": torch.ones(1)},
    }
    for words, change in cases.items():
        with pytest.raises(UserError, match=words):
            convert({**state, **change}, "x.pth", "project", body=atto)
    del state["stages.3.blocks.1.gamma"]
    with pytest.raises(UserError, match=r"lacks stages.3.blocks.1.gamma of timm/convnext_atto"):
        convert(state, "x.pth", "project", body=atto)
    with pytest.raises(UserError, match="no entry of a body timm/convnext_atto"):
        convert(_ours(detector(ResNet(18), 1)), "x.pth", "backbone", body=atto)


@pytest.mark.parametrize(
    ("body", "words"),
    [("convnext_atto", "timm/<name> is needed"), ("timm/convnext_ato", "nearest: timm/convnext_")],
)
def test_names_that_timm_does_not_have(body, words):
    with pytest.raises(UserError, match=f"--body {body}: .*{words}"):
        timm_names(body)
