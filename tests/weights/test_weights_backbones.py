"""Backbone files of torchvision and timm: equal features, and one-line errors for wrong files."""

import pytest
import torch
import torchvision
from test_weights_mmdet import detector, swin
from torch import nn

from dynamic_atss.errors import UserError
from dynamic_atss.modeling.backbones import ResNet
from dynamic_atss.modeling.backbones.mobilenet import MobileNetV2
from dynamic_atss.weights.loading import load_weights


def _with_random_norms(model):
    """Changes the statistics of all batch norms from their initial values."""
    torch.manual_seed(3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(1e-4, 1)
            module.running_mean.normal_(0, 0.1)
    return model.eval()


def _zeros(make, *args, **kwargs):
    """Makes a state with the names and shapes of a model that takes a few bytes in a file."""
    with torch.device("meta"):
        state = make(*args, **kwargs).state_dict()
    return {k: torch.zeros((), dtype=v.dtype).expand(v.shape) for k, v in state.items()}


@pytest.mark.parametrize("norm", ["BN", "FrozenBN"])
def test_mobilenet_of_torchvision_gives_the_same_features(tmp_path, norm):
    theirs = _with_random_norms(torchvision.models.mobilenet_v2(weights=None))
    torch.save(theirs.state_dict(), tmp_path / "tv.pth")
    model = detector(MobileNetV2(norm=norm))
    report = load_weights(model, tmp_path / "tv.pth")
    assert "classifier.1.weight" in report.unused and "features.18.0.weight" in report.unused
    assert not any(name.startswith("backbone.body") for name in report.initial)
    x = y = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = []
        for i, layer in enumerate(theirs.features[:18]):
            y = layer(y)
            maps += [y] if i in (6, 13, 17) else []
        for got, want in zip(model.backbone.body(x), maps, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3 * want.abs().max().item())


def test_mobilenet_of_the_fcos_release_has_flat_names(tmp_path):
    source = MobileNetV2()
    state = source.state_dict() | {
        "features.18.0.weight": torch.zeros(1),
        "classifier.weight": torch.zeros(1),
    }
    torch.save(state, tmp_path / "mobilenet_v2.pth")
    model = detector(MobileNetV2())
    load_weights(model, tmp_path / "mobilenet_v2.pth")
    got = model.backbone.body.state_dict()
    assert all(got[name].equal(value) for name, value in source.state_dict().items())


def test_swin_of_torchvision(tmp_path):
    theirs = torchvision.models.swin_t(weights=None)
    torch.save(theirs.state_dict(), tmp_path / "swin_t.pth")
    model = detector(swin())
    report = load_weights(model, tmp_path / "swin_t.pth")
    got, want = model.backbone.body.features.state_dict(), theirs.features.state_dict()
    assert all(got[name].equal(value) for name, value in want.items())
    assert report.unused == ["norm.weight", "norm.bias", "head.weight", "head.bias"]
    left = [name for name in report.initial if name.startswith("backbone.body")]
    assert left == [f"backbone.body.norms.{i}.{e}" for i in range(3) for e in ("weight", "bias")]
    assert "INPUT.TO_BGR255 False" in report.summary()


@pytest.mark.parametrize("wrapped", [True, False])
def test_bodies_in_torchvisions_names_of_unknown_training(tmp_path, wrapped):
    state = torchvision.models.resnet18(weights=None).state_dict()
    torch.save({"state_dict": state} if wrapped else state, tmp_path / "x.pth")
    report = load_weights(detector(ResNet(18, stride_in_1x1=False)), tmp_path / "x.pth")
    assert ("does not say which pixels" in report.summary()) is wrapped


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        ("resnet18", ""),
        ("resnet18", "FrozenBN"),
        ("convnext_atto", ""),
        ("swin_tiny_patch4_window7_224", ""),
    ],
)
def test_timm_files_fill_timm_bodies(tmp_path, name, norm):
    timm = pytest.importorskip("timm")
    from dynamic_atss.modeling.backbones.timm_body import TimmBody

    theirs = _with_random_norms(timm.create_model(name, pretrained=False))
    torch.save(theirs.state_dict(), tmp_path / "timm.pth")
    model = detector(TimmBody(name, norm=norm))
    report = load_weights(model, tmp_path / "timm.pth")
    assert report.format == "timm backbone"
    assert not any(entry.startswith("backbone.body") for entry in report.initial)
    unused = {e.split(".")[0] for e in report.unused if not e.endswith("num_batches_tracked")}
    assert unused <= {"fc", "head", "norm"}
    assert "INPUT.PIXEL_MEAN [0.485, 0.456, 0.406]" in report.summary()
    if "swin" in name:  # its last map goes through the classifier's norm
        return
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        got, want = model.backbone.body(x)[-1], theirs.forward_features(x)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4 * want.abs().max().item())


def test_timm_bodies_of_another_size(tmp_path):
    timm = pytest.importorskip("timm")
    from dynamic_atss.modeling.backbones.timm_body import TimmBody

    with torch.device("meta"):
        small, large = (detector(TimmBody(name)) for name in ("resnet18", "resnet34"))
    torch.save(_zeros(timm.create_model, "resnet34"), tmp_path / "timm.pth")
    with pytest.raises(UserError, match=r"the file's layer1\.2\.conv1\.weight has no place"):
        load_weights(small, tmp_path / "timm.pth")
    torch.save(_zeros(timm.create_model, "resnet18"), tmp_path / "timm.pth")
    with pytest.raises(UserError, match=r"layer1\.2\.conv1\.weight is not in the file"):
        load_weights(large, tmp_path / "timm.pth")


def test_safetensors(tmp_path):
    pytest.importorskip("timm")
    from safetensors.torch import save_file

    state = torchvision.models.resnet18(weights=None).state_dict()
    save_file(state, tmp_path / "model.safetensors")
    model = detector(ResNet(18, norm="BN"))
    load_weights(model, tmp_path / "model.safetensors")
    assert model.backbone.body.layer4[1].conv2.weight.equal(state["layer4.1.conv2.weight"])
    content = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"half\.safetensors: truncated or damaged"):
        load_weights(model, tmp_path / "half.safetensors")


def _files(folder):
    intact = folder / "resnet18.pth"
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), intact)
    (folder / "half.pth").write_bytes(intact.read_bytes()[: intact.stat().st_size // 2])
    (folder / "notes.txt").write_text("my weights are on the other machine\n" * 40)
    (folder / "page.pth").write_text("<!DOCTYPE html><html><body>404</body></html>" * 20)
    (folder / "lfs.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    (folder / "empty.pth").write_bytes(b"")
    return folder


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("half.pth", "truncated, damaged"),
        ("notes.txt", "not a weight file"),
        ("page.pth", "a web page, not weights"),
        ("lfs.pth", "git lfs pull"),
        ("empty.pth", "an empty file, not weights"),
    ],
)
def test_files_that_hold_no_weights(tmp_path, name, words):
    path = _files(tmp_path) / name
    with pytest.raises(UserError) as error:
        load_weights(detector(ResNet(18)), path)
    assert str(path) in str(error.value) and words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "make", "words"),
    [
        ("resnet18", lambda: ResNet(34), r"layer1\.2\.conv1\.weight is not in the file"),
        ("resnet34", lambda: ResNet(18), r"layer1\.2\.conv1\.weight has no place"),
        ("swin_t", lambda: swin("S"), r"features\.5\.6\.norm1\.weight is not in the file"),
        ("swin_t", lambda: swin("B"), r"features\.0\.0\.weight is \(96, 3, 4, 4\) in the file"),
        ("swin_t", MobileNetV2, r"features\.0\.0\.weight is \(96, 3, 4, 4\) in the file"),
        ("mobilenet_v2", swin, r"features\.0\.0\.weight is \(32, 3, 3, 3\)"),
        ("resnet18", MobileNetV2, r"conv1\.weight has no place in the model"),
    ],
)
def test_backbones_of_another_architecture(tmp_path, source, make, words):
    torch.save(_zeros(getattr(torchvision.models, source)), tmp_path / "x.pth")
    with pytest.raises(UserError, match=f"wrong architecture.*{words}.*CONV_BODY"):
        load_weights(detector(make()), tmp_path / "x.pth")


def test_a_timm_file_needs_a_timm_body(tmp_path):
    torch.save({"patch_embed.proj.weight": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(UserError, match="timm/<name>"):
        load_weights(detector(ResNet(18)), tmp_path / "x.pth")


def test_the_catalog_has_torchvisions_own_urls():
    from torchvision.models import get_model_weights

    from dynamic_atss.weights.urls import WEIGHTS, weight_url

    models = {
        "R-18": "resnet18",
        "R-34": "resnet34",
        "R-50": "resnet50",
        "R-101": "resnet101",
        "R-152": "resnet152",
        "X-101-32x8d": "resnext101_32x8d",
        "X-101-64x4d": "resnext101_64x4d",
        "Swin-T": "swin_t",
        "Swin-S": "swin_s",
        "Swin-B": "swin_b",
        "MNV2": "mobilenet_v2",
    }
    names = [name for name in WEIGHTS if name.startswith("torchvision/")]
    assert len(names) == 14
    for name in names:
        body = name.removeprefix("torchvision/")
        recipes = get_model_weights(models[body.removesuffix("-V2")])
        recipe = recipes["IMAGENET1K_V2" if body.endswith("-V2") else "IMAGENET1K_V1"]
        assert weight_url(f"catalog://{name}") == recipe.url
